"""The three networks of a model, as diffusers and transformers build and name them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers import AutoencoderKLTemporalDecoder
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from m2svid.errors import UserError
from m2svid.model.image_encoder import ImageEncoder, NoImageEncoder
from m2svid.model.unet import ConditionedUNet
from m2svid.model.vae import SpaceToDepth, SVDAutoencoder, VideoAutoencoder
from m2svid.weights.mismatch import check

Component = Literal["unet", "vae", "image_encoder"]

CLASSES: dict[Component, tuple[str, ...]] = {
    "unet": (
        "UNetSpatioTemporalConditionModel",
        "ConditionedUNet",
        "DiffusersUNetSpatioTemporalConditionModelDepthCrafter",
    ),
    "vae": ("AutoencoderKLTemporalDecoder", "SpaceToDepth"),
    "image_encoder": ("CLIPVisionModelWithProjection", "NoImageEncoder"),
}
"""Names in a `config.json`; the first is meant where none stands there."""


@dataclass
class Part:
    """One component: the content of its `config.json` and its state dict."""

    config: dict[str, Any]
    state: dict[str, Tensor]


@dataclass
class Parts:
    """The components of one model, or those of them that a file holds."""

    unet: Part
    vae: Part | None = None
    image_encoder: Part | None = None

    def items(self) -> Iterator[tuple[Component, Part]]:
        """Name and part of each component that is there."""
        for component in CLASSES:
            part: Part | None = getattr(self, component)
            if part is not None:
                yield component, part


def class_name(component: Component, config: Mapping[str, Any]) -> str:
    """The class of a component. Raises UserError for one that is not in `CLASSES`."""
    name = config.get("_class_name", CLASSES[component][0])
    if name not in CLASSES[component]:
        raise UserError(
            f"{component}: class {name} in its config.json is none of {', '.join(CLASSES[component])}."
        )
    return name


def build(component: Component, config: Mapping[str, Any]) -> nn.Module:
    """The module of a component, initialised at random (costs no memory under `torch.device("meta")`)."""
    name = class_name(component, config)
    if component == "unet":
        return ConditionedUNet.from_config(dict(config))
    if name == "AutoencoderKLTemporalDecoder":
        return AutoencoderKLTemporalDecoder.from_config(dict(config))
    if name == "CLIPVisionModelWithProjection":
        return CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(dict(config)))
    return SpaceToDepth(config["downscale"]) if name == "SpaceToDepth" else NoImageEncoder(config["dim"])


def tensor_shapes(component: Component, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor of a component."""
    with torch.device("meta"):
        return shapes_of(build(component, config).state_dict())


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def check_part(source: str, component: Component, part: Part) -> None:
    """Raises MismatchError where the state is not that of the configuration."""
    # an old name of a buffer that transformers no longer saves
    check(
        source,
        tensor_shapes(component, part.config),
        shapes_of(part.state),
        lambda key: key.endswith("position_ids"),
    )


def load(
    component: Component, part: Part, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> nn.Module:
    """The module with its weights, which are not copied where device and dtype (None = its own) stay."""
    with torch.device("meta"):
        module = build(component, part.config)
    names = module.state_dict()
    state = {name: part.state[name].to(device, dtype) for name in names}
    module.load_state_dict(state, assign=True)
    if isinstance(module, CLIPVisionModelWithProjection):
        embeddings = module.vision_model.embeddings
        positions = torch.arange(embeddings.num_positions, device=device)
        embeddings.position_ids = positions[None]  # not in state dicts
    return module.requires_grad_(False).eval()


def wrap_vae(module: nn.Module, decode_chunk: int | None) -> VideoAutoencoder:
    if isinstance(module, AutoencoderKLTemporalDecoder):
        return SVDAutoencoder(module, gradient_checkpointing=False, decode_chunk=decode_chunk)
    return module


def wrap_image_encoder(module: nn.Module) -> ImageEncoder | NoImageEncoder:
    return ImageEncoder(module) if isinstance(module, CLIPVisionModelWithProjection) else module


def unet_part(unet: ConditionedUNet) -> Part:
    config = {key: value for key, value in unet.config.items() if not key.startswith("_")}
    return Part(config, unet.state_dict())


def vae_part(vae: VideoAutoencoder) -> Part:
    if isinstance(vae, SpaceToDepth):
        return Part({"_class_name": "SpaceToDepth", "downscale": vae.downscale}, {})
    config = {key: value for key, value in vae.model.config.items() if not key.startswith("_")}
    return Part(config, vae.model.state_dict())


def image_encoder_part(encoder: ImageEncoder | NoImageEncoder) -> Part:
    if isinstance(encoder, NoImageEncoder):
        return Part({"_class_name": "NoImageEncoder", "dim": encoder.dim}, {})
    return Part(encoder.model.config.to_diff_dict(), encoder.model.state_dict())
