"""Diffusers folders, read and written: unet/, vae/, image_encoder/, or the folder of a U-Net alone.

Ours have a model card in their `model_index.json`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
from diffusers import EulerDiscreteScheduler
from safetensors.torch import save_file

from m2svid.errors import UserError
from m2svid.files import whole
from m2svid.model.card import ModelCard
from m2svid.model.sampler import Sampler
from m2svid.weights.fetch import read_component, read_json
from m2svid.weights.parts import COMPONENTS, Component, Opened, Part, Parts, check_part

LIBRARIES: dict[Component, tuple[str, str]] = {
    "unet": ("diffusers", "UNetSpatioTemporalConditionModel"),
    "vae": ("diffusers", "AutoencoderKLTemporalDecoder"),
    "image_encoder": ("transformers", "CLIPVisionModelWithProjection"),
}
"""Library and class of Stable Video Diffusion's networks."""

SAME = ("ConditionedUNet", "DiffusersUNetSpatioTemporalConditionModelDepthCrafter")
"""Other names of the U-Net's class."""


def read_folder(path: Path, variant: str | None = None, only: Collection[Component] = COMPONENTS) -> Opened:
    """Open a folder; every tensor's name and shape is checked.

    Args:
        path: of the folder.
        variant: of its files, such as "fp16".
        only: networks to open.

    Raises:
        UserError: it is no such folder, or its files don't fit.
    """
    if (path / "model_index.json").is_file() or (path / "unet").is_dir():
        parts = Parts(**{component: _read_part(path / component, component, variant) for component in only})
        index = path / "model_index.json"
        card = read_json(index).get("m2svid") if index.is_file() else None
        if card is None:
            return Opened(path, "SVD folder", parts)
        return Opened(path, "M2SVid folder", parts, ModelCard.from_json(card, str(index)))
    if (path / "config.json").is_file():
        content = read_json(path / "config.json")
        if "_class_name" not in content and ("architectures" in content or "model_type" in content):
            kind = ", ".join(map(str, content.get("architectures") or [content.get("model_type")]))
            raise UserError(
                f"{path} is a model of transformers ({kind}), not weights of M2SVid or of its kind; a depth "
                "model is named with --depth"
            )
        unet = _read_part(path, "unet", variant)
        # it was trained with diffusers' own values
        return Opened(path, "U-Net folder", Parts(Part({"resnet_eps": None} | unet.config, unet.state)))
    raise UserError(
        f"{path} is no folder of weights: it has neither unet/, vae/ and image_encoder/, nor the "
        "config.json of a U-Net"
    )


def _read_part(folder: Path, component: Component, variant: str | None) -> Part:
    config = read_json(folder / "config.json")
    expected = LIBRARIES[component][1]
    name = config.get("_class_name", expected)
    if "class_path" not in config and name != expected and not (component == "unet" and name in SAME):
        raise UserError(f"{folder / 'config.json'} is of class {name}, but must be of {expected}")
    without = "class_path" in config and not any(folder.glob("*.safetensors*"))
    part = Part(config, {} if without else read_component(folder, variant))
    check_part(str(folder), component, part)
    return part


def new_path(path: Path) -> AbstractContextManager[Path]:
    """A temporary path beside `path`, which takes its name when all went well and disappears otherwise.

    Raises:
        UserError: `path` exists already, or can't be written.
    """
    if path.exists():
        raise UserError(f"{path} exists already; remove it or give another output")
    return whole(path)


def write_folder(folder: Path, parts: Parts, card: ModelCard) -> None:
    """Write a whole model; the folder appears when it is complete. Tensors keep their dtype.

    Args:
        folder: where.
        parts: all three networks, whose states fit their configurations.
        card: of the model; the networks' configurations go to their `config.json`.

    Raises:
        UserError: the folder exists, or can't be written.
    """
    classes = {component: _library(component, part) for component, part in parts.items()}
    index = {
        "_class_name": "M2SVid",
        "_diffusers_version": diffusers.__version__,
        **classes,
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "m2svid": replace(card, networks={}, backbone=None).to_json(),  # all is in the folder
    }
    with new_path(folder) as temporary:
        for component, part in parts.items():
            _write_part(temporary / component, part, *classes[component])
        _write_json(temporary / "scheduler" / "scheduler_config.json", _scheduler(card.usage.sampler))
        _write_json(temporary / "model_index.json", index)


def _library(component: Component, part: Part) -> tuple[str, str]:
    if part.own:
        module, _, name = part.config["class_path"].rpartition(".")
        return module, name
    return LIBRARIES[component]


def _write_part(folder: Path, part: Part, library: str, name: str) -> None:
    config = {key: value for key, value in part.config.items() if not key.startswith("_")}
    if library == "transformers":
        config = {"architectures": [name], "model_type": "clip_vision_model", **config}
    elif library == "diffusers":
        config = {"_class_name": name, "_diffusers_version": diffusers.__version__, **config}
    _write_json(folder / "config.json", config)
    if part.state:
        file = "model.safetensors" if library == "transformers" else "diffusion_pytorch_model.safetensors"
        tensors = {key: tensor.contiguous() for key, tensor in part.state.items()}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        shutil.copymode(folder / "config.json", folder / file)  # safetensors lets only the owner read


def _scheduler(sampler: Sampler) -> dict[str, Any]:
    """The same noise levels for diffusers; our own sampler reads `model_index.json`."""
    scheduler = EulerDiscreteScheduler(
        prediction_type="v_prediction",
        use_karras_sigmas=True,
        timestep_type="continuous",
        timestep_spacing="leading",
        sigma_min=sampler.sigma_min,
        sigma_max=sampler.sigma_max,
        final_sigmas_type="zero",
    )
    return json.loads(scheduler.to_json_string())


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, default=list) + "\n")
