"""Tensors from files and hub folders: read lazily, never by running what a file holds."""

from __future__ import annotations

import json
import logging
import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.constants import HF_HUB_OFFLINE
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
)
from safetensors import SafetensorError, safe_open
from torch import Tensor

from m2svid.errors import UserError

log = logging.getLogger(__name__)

HUB_ID = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(?:/(?P<folder>[\w./-]+))?")
SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
_CONFIGS = ("config.json", "model_index.json")  # of folders that hold a model
_ROOTS = ("weights/", "runs/")  # where the documentation puts weights and runs; no owner on the hub is meant


def is_path(name: str) -> bool:
    """Return True for what is meant as a path, not as a hub id: its folder is there, or nobody's id is so."""
    path = Path(name)
    marked = name.startswith((".", "/", "~", *_ROOTS)) or name.endswith("/") or path.suffix in SUFFIXES
    return marked or (len(path.parts) > 1 and path.parent.exists())


def holds_weights(path: Path) -> bool:
    """Return True for a file of weights, or a folder with one or with the configuration of a model."""
    if not path.is_dir():
        return path.suffix.lower() in SUFFIXES
    try:
        return any(file.name in _CONFIGS or file.suffix.lower() in SUFFIXES for file in path.iterdir())
    except OSError:  # which is said where the folder is read
        return False


def resolve(path: str | Path, variant: str | None = None, files: Sequence[str] = ()) -> Path:
    """The local file or folder that the user named, or the hub folder, `owner/name` or `owner/name/folder`.

    What is not on this machine is fetched from the hub, and the log says so; HF_HUB_OFFLINE=1 forbids it.

    Args:
        path: what the user named.
        variant: of the components' files, such as "fp16".
        files: patterns of the files to fetch; none = the components'.

    Raises:
        UserError: there is no such file, folder or hub id, or it can't be fetched.
    """
    local = Path(path)
    if local.exists():
        return local
    hub = HUB_ID.fullmatch(str(path))
    if hub is None or is_path(str(path)):
        raise UserError(
            f"{path} does not exist: there is no such file or folder, and it is no hub id (owner/name or "
            "owner/name/folder)"
        )
    repo, folder = hub["repo"], hub["folder"] or ""
    if not HF_HUB_OFFLINE:
        log.info("%s: from the Hugging Face hub; what is not on this machine yet is downloaded", path)
    wanted = {"allow_patterns": list(files)} if files else hub_patterns(folder, variant)
    try:
        return Path(snapshot_download(repo, **wanted)) / folder
    except (GatedRepoError, RepositoryNotFoundError) as error:
        raise UserError(
            f"there is no folder {path} on this machine, and the hub does not give {repo} "
            f"({type(error).__name__}): check the name, accept the licence on https://huggingface.co/{repo} "
            "and run `hf auth login`, or give a local folder"
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise UserError(
            f"there is no folder {path} on this machine, and the Hugging Face hub can't be reached "
            f"({type(error).__name__}): run `hf download {repo} --local-dir {repo}` where there is a network "
            "and copy that folder here, or give another local folder"
        ) from error


def hub_patterns(folder: str, variant: str | None) -> dict[str, list[str]]:
    """Which files of a hub repository belong to a model: not the same weights again in other formats."""
    homes = [folder] if folder else ["", "unet", "vae", "image_encoder"]
    names = ["diffusion_pytorch_model", "model"]
    suffix = f".{variant}*.safetensors" if variant else "*.safetensors"
    weights = [str(PurePosixPath(home, name + suffix)) for home in homes for name in names]
    other_variants = [] if variant else ["*.*.safetensors"]
    return {"allow_patterns": ["*.json", *weights], "ignore_patterns": other_variants}


def read_file(path: Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """All tensors of a file, memory-mapped: they take memory when they are used; and what else it holds.

    Keys of a `torch.save` file are those of its `module` or `state_dict` where it has one.

    Raises:
        UserError: the file is truncated, holds code or no tensors.
    """
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    named = [content[key] for key in ("module", "state_dict") if isinstance(content.get(key), Mapping)]
    state = named[0] if named else content
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{path} holds no tensors")
    return tensors, content


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is truncated or no safetensors file ({error}); get it again") from error


def _read_torch(path: Path) -> Mapping[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors, which could run code when it is read; ask its author for "
            "safetensors"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise UserError(
            f"{path} is truncated or no torch file ({str(error).splitlines()[0]}); get it again"
        ) from error
    return content if isinstance(content, Mapping) else {}


def read_component(folder: Path, variant: str | None = None) -> dict[str, Tensor]:
    """All tensors of a component's folder as diffusers and transformers write it, memory-mapped.

    Args:
        folder: with a `config.json` and `*.safetensors`, in one file or in shards with an index.
        variant: `fp16` for files named so; None = those without a variant, or the only ones there are.

    Raises:
        UserError: there are no such files, or several variants and none without a name.
    """
    files = _component_files(folder)
    if variant is None and None not in files and len(files) == 1:
        (variant,) = files
        log.info("%s: its only files are those of variant %s", folder, variant)
    if variant not in files:
        there = ", ".join(sorted(str(name) for name in files)) or "none"
        raise UserError(f"{folder} has no safetensors weights of variant {variant} (it has: {there})")
    tensors: dict[str, Tensor] = {}
    for file in files[variant]:
        tensors |= read_file(file)[0]
    return tensors


def _component_files(folder: Path) -> dict[str | None, list[Path]]:
    """Variant -> its files. All shards that an index names must be there."""
    files: dict[str | None, list[Path]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        name = re.fullmatch(r"(?:diffusion_pytorch_model|model)(?:\.(\w+))?\.safetensors", path.name)
        if name is not None:
            files[name[1]] = [path]
    for index in sorted(folder.glob("*.safetensors.index*.json")):
        name = re.search(r"\.index(?:\.(\w+))?\.json$", index.name)
        shards = {folder / shard for shard in read_json(index)["weight_map"].values()}
        missing = [shard.name for shard in shards if not shard.is_file()]
        if missing:
            raise UserError(
                f"{index} names files that are not there: {', '.join(sorted(missing))}; get them again"
            )
        files[name[1] if name else None] = sorted(shards)
    return files


def read_json(path: Path) -> dict[str, Any]:
    """Content of a JSON file. Raises UserError where there is none, or it is no object."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(
            f"{path.parent} has no {path.name}; it must be a folder as diffusers writes it"
        ) from error
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from error
    except ValueError as error:  # no JSON, or no text
        raise UserError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold a JSON object, not {type(content).__name__}")
    return content
