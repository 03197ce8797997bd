"""The three networks of a model as they stand on disk: a configuration and tensors each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from diffusers import AutoencoderKLTemporalDecoder
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from m2svid.described import create
from m2svid.errors import UserError
from m2svid.model.card import ModelCard
from m2svid.model.image_encoder import CLIPImageEncoder, ImageEncoder
from m2svid.model.unet import ConditionedUNet
from m2svid.model.vae import SVDAutoencoder, VideoAutoencoder
from m2svid.weights.mismatch import check, check_numbers

Component = Literal["unet", "vae", "image_encoder"]
COMPONENTS: tuple[Component, ...] = get_args(Component)
PROTOCOLS: dict[Component, type[nn.Module]] = {
    "unet": ConditionedUNet,
    "vae": VideoAutoencoder,
    "image_encoder": ImageEncoder,
}

Format = Literal[
    "M2SVid file", "SVD file", "M2SVid folder", "SVD folder", "U-Net folder", "Lightning checkpoint"
]


@dataclass
class Part:
    """One network: the content of its `config.json` and its state dict."""

    config: Mapping[str, Any]
    state: dict[str, Tensor]

    @property
    def own(self) -> bool:
        """True for a class of the project or of a researcher, False for diffusers' and transformers'."""
        return "class_path" in self.config


@dataclass
class Parts:
    """The networks of one model, or those of them that a file holds."""

    unet: Part | None = None
    vae: Part | None = None
    image_encoder: Part | None = None

    def items(self) -> Iterator[tuple[Component, Part]]:
        """Name and part of each network that is there."""
        for component in COMPONENTS:
            part: Part | None = getattr(self, component)
            if part is not None:
                yield component, part


@dataclass
class Opened:
    """Weights as they stand on disk.

    Attributes:
        path: where.
        format: what they are.
        parts: their networks, memory-mapped.
        card: what else is known about the model; None where it is no stereo model yet (SVD).
    """

    path: Path
    format: Format
    parts: Parts
    card: ModelCard | None = None


def build(component: Component, config: Mapping[str, Any]) -> nn.Module:
    """A network without its weights.

    Those of diffusers and transformers take no memory; an own class is made on the CPU, as its constructor
    may do what needs data.
    """
    if "class_path" in config:
        return create(config, PROTOCOLS[component])
    with torch.device("meta"):
        if component == "unet":
            return ConditionedUNet.from_config(dict(config))
        if component == "vae":
            return AutoencoderKLTemporalDecoder.from_config(dict(config))
        return CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(dict(config)))


def tensor_shapes(component: Component, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor of a network. Raises UserError where the configuration is none."""
    try:
        return shapes_of(build(component, config).state_dict())
    except UserError:
        raise
    except Exception as error:  # a library's constructor, given whatever a file says
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"the configuration of the {component} is none ({reason})") from error


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def check_part(source: str, component: Component, part: Part) -> None:
    """Raise a UserError where the state is not that of the configuration, or holds no numbers."""
    try:
        expected = tensor_shapes(component, part.config)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    check(
        source,
        expected,
        shapes_of(part.state),
        # an old name of a buffer that transformers no longer saves
        ignored=lambda key: key.endswith("position_ids"),
    )
    check_numbers(source, part.state)


def load(
    component: Component,
    part: Part,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    copy: bool = False,
) -> nn.Module:
    """The network with its weights.

    Args:
        component: which one.
        part: a checked one.
        device: where it goes.
        dtype: of its numbers; None = the file's.
        copy: have memory of its own, as training needs it, also where device and dtype stay.
    """
    module = build(component, part.config)
    tensors = {name: part.state[name] for name in module.state_dict()}
    numbers = {name: dtype if tensor.is_floating_point() else None for name, tensor in tensors.items()}
    state = {name: tensor.to(device, numbers[name], copy=copy) for name, tensor in tensors.items()}
    module.load_state_dict(state, assign=True)
    if isinstance(module, CLIPVisionModelWithProjection):
        embeddings = module.vision_model.embeddings
        positions = torch.arange(embeddings.num_positions, device=device)
        embeddings.position_ids = positions[None]  # not in state dicts
    if part.own:
        module.to(device)
    return module.requires_grad_(False).eval()


def wrap(network: nn.Module, **options: Any) -> nn.Module:
    """The network as `M2SVid` takes it; `options` are those of `SVDAutoencoder`."""
    if isinstance(network, AutoencoderKLTemporalDecoder):
        return SVDAutoencoder(network, **options)
    return CLIPImageEncoder(network) if isinstance(network, CLIPVisionModelWithProjection) else network
