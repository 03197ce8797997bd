"""Whole models between files of Stability's generative-models ("sgm") and diffusers' components.

The published M2SVid files and SVD's `svd_xt.safetensors` have the sgm names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from m2svid.errors import UserError
from m2svid.weights.mismatch import MismatchError, check, check_numbers
from m2svid.weights.parts import Component, Part, Parts, build, shapes_of
from m2svid.weights.sgm_names import (
    CLIP,
    FIRST_STAGE,
    LEFT_ENCODER,
    OPEN_CLIP,
    WARPED_ENCODER,
    Shapes,
    Source,
    clip_config,
    clip_source,
    unet_config,
    unet_source,
    vae_config,
    vae_source,
)

Layout = dict[str, tuple[Source, tuple[int, ...]]]
"""Name in a component's module -> (source in an sgm file, shape in the module)."""

LEFTOVERS = (
    f"{LEFT_ENCODER}decoder.",
    f"{LEFT_ENCODER}post_quant_conv.",
    f"{FIRST_STAGE}encoder.",
    WARPED_ENCODER,
)
"""SVD's image autoencoder again: embedder 5 repeats 3; the first stage's encoder is 3's with quant_conv."""

_SOURCES: dict[Component, Callable[[str, Mapping[str, Any]], Source]] = {
    "unet": unet_source,
    "vae": vae_source,
    "image_encoder": clip_source,
}


def layout(component: Component, config: Mapping[str, Any]) -> Layout:
    """The place of every tensor of a component in an sgm file."""
    find = _SOURCES[component]
    module = build(component, config)
    tensors = shapes_of(module.state_dict())
    # the module's config has what the given one leaves to defaults
    return {name: (find(name, module.config), shape) for name, shape in tensors.items()}


def to_diffusers(
    state: Mapping[str, Tensor],
    head_channels: int = 64,
    clip_heads: int | None = None,
    source: str = "the weights",
) -> Parts:
    """Split the tensors of an sgm file into the three components; sizes come from the shapes.

    The tensors returned are views of the ones given (one small matrix excepted), in their dtype.

    Args:
        state: sgm name -> tensor, without a leading `module.`; tensors that no component uses (open_clip's
            text leftovers, the conditioning autoencoders' decoders, the first stage's encoder) may be there.
        head_channels: channels of one attention head of the U-Net, which no file tells; 64 if published.
        clip_heads: attention heads of the CLIP tower; None = those of the published tower of its width.
        source: what to call the weights in errors.

    Raises:
        MismatchError: keys are missing, unexpected or wrongly shaped.
        UserError: the two conditioning encoders differ, or a head count does not fit.
    """
    shapes = shapes_of(state)
    try:
        configs = sgm_configs(shapes, head_channels, clip_heads)
    except KeyError as error:
        raise MismatchError(source, missing=[error.args[0]]) from error
    layouts = {component: layout(component, config) for component, config in configs.items()}
    check(source, expected_shapes(layouts), shapes, ignored=is_leftover)
    check_numbers(source, state)
    _check_second_encoder(source, state)
    parts = {
        component: Part(
            configs[component], {name: where.unpack(state[where.key]) for name, (where, _) in tensors.items()}
        )
        for component, tensors in layouts.items()
    }
    return Parts(**parts)


def sgm_configs(
    shapes: Shapes, head_channels: int, clip_heads: int | None
) -> dict[Component, dict[str, Any]]:
    """The components' configurations from an sgm file's shapes. Raises KeyError where one is not there."""
    return {
        "unet": unet_config(shapes, head_channels),
        "vae": vae_config(shapes),
        "image_encoder": clip_config(shapes, clip_heads),
    }


def expected_shapes(layouts: Mapping[Component, Layout]) -> dict[str, tuple[int, ...]]:
    """sgm key -> shape, of every tensor that the components need."""
    pairs = (pair for tensors in layouts.values() for pair in tensors.values())
    return {where.key: where.stored_shape(shape) for where, shape in pairs}


def is_leftover(key: str) -> bool:
    """True for an sgm key that published files hold and no component uses."""
    return key.startswith(LEFTOVERS) or (key.startswith(OPEN_CLIP) and not key.startswith(CLIP))


def _check_second_encoder(source: str, state: Mapping[str, Tensor]) -> None:
    """M2SVid files hold the conditioning autoencoder twice, the model once: the copies must be equal."""
    used = (f"{WARPED_ENCODER}encoder.", f"{WARPED_ENCODER}quant_conv.")
    if not any(key.startswith(used) for key in state):
        return
    twins = {key: key.replace(LEFT_ENCODER, WARPED_ENCODER) for key in state if key.startswith(LEFT_ENCODER)}
    twins = {key: twin for key, twin in twins.items() if twin.startswith(used)}
    shapes = shapes_of(state)
    check(source, {twin: shapes[key] for key, twin in twins.items()}, shapes, ignored=lambda key: True)
    for key, twin in twins.items():
        if not torch.equal(state[key], state[twin]):
            raise UserError(
                f"{source} holds two different conditioning encoders ({key} is not {twin}), but the model "
                "has one; such weights cannot be represented."
            )


def to_sgm(parts: Parts, encoders: int = 2) -> dict[str, Tensor]:
    """The tensors of an sgm file (no leading `module.`) from three components: inverse of `to_diffusers`.

    Args:
        parts: the components, with configurations that fit their states.
        encoders: how often to write the conditioning encoder: 2 in M2SVid files, 1 in SVD's.

    Raises:
        MismatchError: a state does not fit its configuration.
    """
    stored: dict[str, list[Tensor]] = {}
    for component in _SOURCES:
        part: Part = getattr(parts, component)
        tensors = layout(component, part.config)
        check(component, {name: shape for name, (_, shape) in tensors.items()}, shapes_of(part.state))
        for name, (where, _) in sorted(tensors.items(), key=lambda item: item[1][0].third or 0):
            stored.setdefault(where.key, []).append(where.pack(part.state[name]))
    state = {key: tensors[0] if len(tensors) == 1 else torch.cat(tensors) for key, tensors in stored.items()}
    state |= _first_stage_encoder(state)
    if encoders == 2:
        copies = {key: tensor for key, tensor in state.items() if key.startswith(LEFT_ENCODER)}
        state |= {key.replace(LEFT_ENCODER, WARPED_ENCODER): tensor for key, tensor in copies.items()}
    return state


def _first_stage_encoder(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The conditioning encoder with quant_conv folded into its last convolution."""
    prefix = f"{LEFT_ENCODER}encoder."
    encoder = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
    weight, bias = encoder["conv_out.weight"], encoder["conv_out.bias"]
    quant = state[f"{LEFT_ENCODER}quant_conv.weight"][:, :, 0, 0].double()
    encoder["conv_out.weight"] = torch.einsum("om,mihw->oihw", quant, weight.double()).to(weight.dtype)
    folded = quant @ bias.double() + state[f"{LEFT_ENCODER}quant_conv.bias"].double()
    encoder["conv_out.bias"] = folded.to(bias.dtype)
    return {f"{FIRST_STAGE}encoder.{key}": tensor for key, tensor in encoder.items()}
