"""What a model of the published size is estimated to need, and how films go through it. Nothing is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Literal

import torch

from m2svid.attention import Disoccluded
from m2svid.bench.weights import PUBLISHED
from m2svid.inference.footprint import measure
from m2svid.inference.memory import Fit, describe, fit
from m2svid.model.conditioning import Conditioning
from m2svid.model.m2svid import M2SVid
from m2svid.weights import parts as components


def run(
    width: int = 1920,
    height: int = 1080,
    gigabytes: Sequence[float] = (8, 12, 24),
    dtype: Literal["float32", "bfloat16", "float16"] = "float16",
) -> dict[str, float | int | str]:
    """What `convert --vram` chooses for the published size, on a GPU, and how much of it the choice takes.

    Args:
        width: of the film, px.
        height: of the film, px.
        gigabytes: sizes to choose for.
        dtype: numbers that the model calculates with.
    """
    model = published(getattr(torch, dtype))
    needs, usage = measure(model), model.usage
    sizes = [-(-side // model.size_multiple) * model.size_multiple for side in (height, width)]
    result: dict[str, float | int | str] = {"width": width, "height": height, "dtype": dtype, **asdict(needs)}
    for size in gigabytes:
        wished = Fit(usage.window, 0, usage.window)
        way = fit(round(size * 1e9), needs, *sizes, wished, overlap=usage.overlap)
        result[f"{size:g}G"] = describe(way)
        result[f"{size:g}G_needed_gb"] = round(way.bytes_needed(needs, *sizes) / 1e9, 2)
    return result


def published(dtype: torch.dtype) -> M2SVid:
    """The model in its published size, without weights."""
    networks = {name: components.build(name, config).eval() for name, config in PUBLISHED.items()}
    for network in networks.values():
        torch.nn.Module.to(network, dtype)  # diffusers' own `to` warns
    return M2SVid(
        networks["unet"],
        components.wrap(networks["vae"], gradient_checkpointing=False),
        components.wrap(networks["image_encoder"]),
        Conditioning(["left", "warped", "mask"]),
        Disoccluded(),
    )
