"""What a file or folder of weights is, and its components."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from m2svid.errors import UserError
from m2svid.weights.fetch import read_component, read_file, read_json
from m2svid.weights.mismatch import MismatchError
from m2svid.weights.parts import CLASSES, Component, Part, Parts, check_part, tensor_shapes
from m2svid.weights.settings import Settings, neighbour_settings, published_settings
from m2svid.weights.sgm import to_diffusers
from m2svid.weights.sgm_names import UNET

Format = Literal[
    "M2SVid file", "SVD file", "M2SVid folder", "SVD folder", "U-Net folder", "Lightning checkpoint"
]

TRAINED = "model.unet."
"""Prefix of the trained parameters in a Lightning checkpoint of ours, which holds nothing else."""


@dataclass(frozen=True)
class Heads:
    """Sizes that published files don't tell; the defaults are the published models'.

    Attributes:
        head_channels: channels of one attention head of the U-Net.
        clip_heads: attention heads of the CLIP vision tower; None = those of the published tower of its
            width.
    """

    head_channels: int = 64
    clip_heads: int | None = None


@dataclass
class Opened:
    """Weights as they stand on disk.

    Attributes:
        path: where.
        format: what they are.
        parts: their components, memory-mapped. The U-Net of a Lightning checkpoint has no configuration.
        settings: how the model is made and run; None where the weights can't tell (SVD, Lightning
            checkpoints).
    """

    path: Path
    format: Format
    parts: Parts
    settings: Settings | None = None


def open_weights(path: Path, heads: Heads | None = None, variant: str | None = None) -> Opened:
    """Opens weights of any known format; every tensor's name and shape is checked.

    Args:
        path: local file or folder.
        heads: for files with the names of generative-models.
        variant: of a folder's files, such as "fp16".

    Raises:
        UserError: unknown, truncated or half-matching; what is missing, unexpected or wrongly shaped is
            listed.
    """
    if path.is_dir():
        return _open_folder(path, variant)
    tensors = {key.removeprefix("module."): tensor for key, tensor in read_file(path).items()}
    if any(key.startswith(TRAINED) for key in tensors):
        return _open_checkpoint(path, tensors)
    if any(key.startswith(UNET) for key in tensors):
        return _open_sgm(path, tensors, heads or Heads())
    raise UserError(
        f"{path} holds no U-Net of a known format (keys begin with {UNET} in published files and with "
        f"{TRAINED} in checkpoints of fit); its first key is {next(iter(tensors))}."
    )


def _open_sgm(path: Path, tensors: Mapping[str, Tensor], heads: Heads) -> Opened:
    parts = to_diffusers(tensors, heads.head_channels, heads.clip_heads, source=str(path))
    settings = published_settings(*_channels(parts), path)
    return Opened(path, "M2SVid file" if settings else "SVD file", parts, settings)


def _open_checkpoint(path: Path, tensors: Mapping[str, Tensor]) -> Opened:
    state = {key.removeprefix(TRAINED): tensor for key, tensor in tensors.items() if key.startswith(TRAINED)}
    others = [key for key in tensors if not key.startswith(TRAINED)]
    if others:
        raise MismatchError(str(path), unexpected=others)
    return Opened(path, "Lightning checkpoint", Parts(Part({}, state)))


def _open_folder(path: Path, variant: str | None) -> Opened:
    if (path / "model_index.json").is_file():
        parts = Parts(
            **{component: _read_part(path / component, component, variant) for component in CLASSES}
        )
        entry = read_json(path / "model_index.json").get("m2svid")
        if entry is None:
            return Opened(path, "SVD folder", parts)
        return Opened(path, "M2SVid folder", parts, Settings.from_json(entry))
    if (path / "config.json").is_file():
        unet = _read_part(path, "unet", variant)
        unet.config.setdefault("resnet_eps", None)  # it was trained with diffusers' own values
        parts = Parts(unet)
        return Opened(path, "U-Net folder", parts, neighbour_settings(*_channels(parts)))
    raise UserError(
        f"{path} is no folder of weights: it has neither a model_index.json beside unet/, vae/ and "
        "image_encoder/, nor the config.json of a U-Net."
    )


def _read_part(folder: Path, component: Component, variant: str | None) -> Part:
    config = read_json(folder / "config.json")
    state = read_component(folder, variant) if tensor_shapes(component, config) else {}
    part = Part(config, state)
    check_part(str(folder), component, part)
    return part


def _channels(parts: Parts) -> tuple[int, int]:
    return parts.unet.config["in_channels"], parts.unet.config["out_channels"]


def with_backbone(opened: Opened, backbone: Opened | None) -> Opened:
    """The same weights with the frozen components that a U-Net alone lacks, taken from `backbone`.

    Raises:
        UserError: there is no backbone where one is needed, or it does not fit.
    """
    parts = opened.parts
    if parts.vae is not None and parts.image_encoder is not None:
        return opened
    if backbone is None or backbone.parts.vae is None or backbone.parts.image_encoder is None:
        raise UserError(
            f"{opened.path} is a {opened.format} and holds the U-Net only; give the weights that its VAE "
            "and image encoder come from, such as a Stable Video Diffusion folder (backbone)."
        )
    unet = parts.unet
    if not unet.config:
        in_channels = unet.state["conv_in.weight"].shape[1]
        unet = Part(dict(backbone.parts.unet.config) | {"in_channels": in_channels}, unet.state)
        check_part(str(opened.path), "unet", unet)
    parts = Parts(unet, backbone.parts.vae, backbone.parts.image_encoder)
    return Opened(
        opened.path,
        opened.format,
        parts,
        opened.settings or published_settings(*_channels(parts), opened.path),
    )
