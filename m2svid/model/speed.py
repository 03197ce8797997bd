"""Ways to run networks faster, which change their results by rounding alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from diffusers.models.attention import FeedForward, TemporalBasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D, SpatioTemporalResBlock
from torch import nn

# diffusers names no `_repeated_blocks` for Stable Video Diffusion's networks. Spatial transformer blocks are
# left out, but for their feed-forward: how many tokens get full attention changes with every clip.
REGIONS = (SpatioTemporalResBlock, ResnetBlock2D, TemporalBasicTransformerBlock, FeedForward)

_RECOMPILE_LIMIT = 256  # the regions of a model are some 50 kinds for each size of clips; torch allows 8


def regions(network: nn.Module) -> Iterator[nn.Module]:
    """The outermost modules of a network that are worth compiling, each by itself."""
    if isinstance(network, REGIONS):
        yield network
        return
    for child in network.children():
        yield from regions(child)


def compile_regions(network: nn.Module, **options: Any) -> int:
    """Compile the regions of a network, in place, which happens when they are first called.

    Blocks of the same shapes share their code, so this takes a fraction of the time that whole networks take.
    Every new size of clips is compiled anew.

    Args:
        network: a U-Net, an autoencoder, or a model.
        options: of `torch.compile`.

    Returns:
        The number of regions, of which those that were compiled before stay what they are.
    """
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, _RECOMPILE_LIMIT)
    found = list(regions(network))
    for region in found:
        if region._compiled_call_impl is None:
            region.compile(**{"dynamic": False, "fullgraph": True} | options)
    return len(found)


def lay_channels_last(network: nn.Module) -> None:
    """Lay the weights of a network's convolutions out with channels last, in place.

    Convolutions then give such activations too, which GPUs need for 16-bit numbers anyway, and of which a
    convolution over time needs no copy.
    """
    formats = {nn.Conv2d: torch.channels_last, nn.Conv3d: torch.channels_last_3d}
    for module in network.modules():
        for kind, layout in formats.items():
            if isinstance(module, kind):
                module.weight.data = module.weight.data.contiguous(memory_format=layout)
