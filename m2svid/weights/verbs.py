"""`python -m m2svid weights ...`: import, export, inspect, init."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from m2svid.described import create
from m2svid.errors import UserError
from m2svid.model.conditioning import Conditioning, InputName, widen_conv_in
from m2svid.model.m2svid import configuration
from m2svid.weights import parts as networks
from m2svid.weights.fetch import resolve
from m2svid.weights.folder import new_path, write_folder
from m2svid.weights.load import Heads, decide, open_model, open_weights
from m2svid.weights.parts import Opened, Part
from m2svid.weights.sgm import to_sgm

USES = {
    "M2SVid file": ["from_pretrained", "weights import"],
    "SVD file": ["weights init"],
    "M2SVid folder": [
        "from_pretrained",
        "fit",
        "validate",
        "convert",
        "weights export",
        "weights init",
    ],
    "SVD folder": ["fit", "weights init", "--backbone of a U-Net folder or checkpoint"],
    "U-Net folder": ["from_pretrained with a backbone", "weights import with a backbone"],
    "Lightning checkpoint": ["from_pretrained", "weights import", "fit --ckpt_path"],
}


def import_(
    source: str,
    *,
    output: str,
    backbone: str | None = None,
    attention: str | None = None,
    variant: str | None = None,
    head_channels: int = 64,
    clip_heads: int | None = None,
) -> dict[str, Any]:
    """Write weights of any known format as a folder that from_pretrained, fit, validate and convert take.

    Tensors keep their dtype. The folder appears when it is complete.

    Args:
        source: published M2SVid file, checkpoint of fit, U-Net folder of StereoCrafter or DepthCrafter, or
            hub id.
        output: folder to write; must not exist.
        backbone: weights that the VAE and image encoder come from, where the source holds a U-Net only.
        attention: strategy that the weights were trained with, where the source does not say it: disoccluded,
            factorized, full, or a class path.
        variant: of a folder's files, such as fp16.
        head_channels: channels of an attention head of the U-Net; published models have 64.
        clip_heads: attention heads of the CLIP tower, where it is none of a published size.

    Raises:
        UserError: the source is unknown, truncated or does not fit, or the output exists.
    """
    heads = Heads(head_channels, clip_heads)
    opened = open_model(source, attention, backbone, heads=heads, variant=variant)
    write_folder(Path(output), opened.parts, opened.card)
    return {"output": output, **_describe(opened)}


def export(source: str, *, output: str) -> dict[str, Any]:
    """Write a model with the names of the published M2SVid files.

    Identical to the published file in every tensor that the model uses, but without the copies that it does
    not use (open_clip's text tower, the conditioning autoencoders' decoders).

    Args:
        source: folder as `weights import` writes it.
        output: .pt file (`{"module": {"module....": tensor}}`) or .safetensors file (no `module.`); must not
            exist.

    Raises:
        UserError: the source is no whole model of SVD's kind or keeps a share of the warped view, or the
            output exists or has another suffix.
    """
    path = Path(output)
    if path.suffix not in (".pt", ".safetensors"):
        raise UserError(f"{output} must end in .pt or .safetensors")
    opened = open_model(source)
    for component, part in opened.parts.items():
        if part.own:
            raise UserError(f"{source} has no {component} of SVD's kind, which the published layout needs")
    if opened.parts.unet.config.get("keep_warped"):
        raise UserError(f"{source} keeps a share of the warped view, which the published layout can't say")
    views = create(opened.card.conditioning, Conditioning).num_views
    state = to_sgm(opened.parts, encoders=max(1, views))
    with new_path(path) as temporary:
        if path.suffix == ".pt":
            torch.save({"module": {f"module.{key}": tensor for key, tensor in state.items()}}, temporary)
        else:
            save_file(_unshared(state), temporary)
    return {"output": output, "tensors": len(state), **_describe(opened)}


def _unshared(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """safetensors refuses two names for one memory; the second conditioning encoder is a copy."""
    seen: set[int] = set()
    unshared = {}
    for key, tensor in state.items():
        unshared[key] = tensor.clone() if tensor.data_ptr() in seen else tensor.contiguous()
        seen.add(tensor.data_ptr())
    return unshared


def inspect(
    source: str, *, variant: str | None = None, head_channels: int = 64, clip_heads: int | None = None
) -> dict[str, Any]:
    """Say what weights are: format, sizes, dtypes, parameter counts and what they can be used for.

    Args:
        source: file, folder or hub id.
        variant: of a folder's files, such as fp16.
        head_channels: channels of an attention head of the U-Net; published models have 64.
        clip_heads: attention heads of the CLIP tower, where it is none of a published size.

    Raises:
        UserError: unknown, truncated or half-matching; what is missing, unexpected or wrongly shaped is
            listed.
    """
    return _describe(open_weights(resolve(source, variant), Heads(head_channels, clip_heads), variant))


def _describe(opened: Opened) -> dict[str, Any]:
    return {
        "path": str(opened.path),
        "format": opened.format,
        "card": None if opened.card is None else opened.card.to_json(),
        "components": {
            component: {
                "parameters_millions": round(sum(t.numel() for t in part.state.values()) / 1e6, 1),
                "dtypes": sorted({str(t.dtype).removeprefix("torch.") for t in part.state.values()}),
                "gigabytes": round(sum(t.nbytes for t in part.state.values()) / 1e9, 2),
                "config": {key: value for key, value in part.config.items() if not key.startswith("_")},
            }
            for component, part in opened.parts.items()
        },
        "used_for": USES[opened.format],
    }


def init(
    *,
    source: str,
    output: str,
    conditioning: list[InputName] = ["left", "warped", "mask"],  # noqa: B006 (never changed)
    attention: str = "disoccluded",
    variant: str | None = None,
    head_channels: int = 64,
    clip_heads: int | None = None,
) -> dict[str, Any]:
    """Make the start of training: Stable Video Diffusion with the conditioning's input channels.

    The new channels of the first convolution are made as in the paper's model (docs/reference.md §1).

    Args:
        source: Stable Video Diffusion: svd_xt.safetensors, a diffusers folder or its hub id.
        output: folder to write; must not exist.
        conditioning: what the U-Net sees beside the noisy latent, in this order.
        attention: strategy to train with: disoccluded, factorized, full, or a class path.
        variant: of a folder's files, such as fp16.
        head_channels: channels of an attention head of the U-Net; published models have 64.
        clip_heads: attention heads of the CLIP tower, where it is none of a published size.

    Raises:
        UserError: the source is not Stable Video Diffusion, or the output exists.
    """
    opened = open_weights(resolve(source, variant), Heads(head_channels, clip_heads), variant)
    card = decide(opened, attention, conditioning)
    unet = networks.load("unet", opened.parts.unet)
    widen_conv_in(unet, Conditioning(conditioning))
    parts = replace(opened.parts, unet=Part(configuration(unet), unet.state_dict()))
    write_folder(Path(output), parts, card)
    return {"output": output, **_describe(Opened(Path(output), "M2SVid folder", parts, card))}
