"""Stable Video Diffusion's decoder for parts of a clip.

Its first blocks, at the latents' resolution, make an eighth of its operations and hold its attention over the
frame; they see whole frames. The blocks after them see a part and what their convolutions reach around it.
Only group norms look at all of a frame there. They take their mean and variance from a few frames in the
middle of the clip, which are decoded whole: the one thing that differs from whole frames.

Shapes: T frames of one clip, h w latent size, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import TemporalDecoder
from torch import Tensor, nn

MEASURED = 2  # frames that the norms are measured on


def reach(decoder: TemporalDecoder) -> int:
    """How far the blocks after the first ones reach, in pixels of the frame: 46 at full size."""
    pixels, stands_for = 1, 2 ** (len(decoder.up_blocks) - 1)  # 1 of the last convolution
    for place, block in enumerate(decoder.up_blocks):
        if place:
            pixels += 2 * len(block.resnets) * stands_for
        if block.upsamplers is not None:
            stands_for //= 2
            pixels += stands_for if place else 0
    return pixels


@torch.no_grad()
def decode_parts(
    decoder: TemporalDecoder, latent: Tensor, parts: Sequence[tuple[slice, slice]]
) -> Iterator[Tensor]:
    """Decode parts of a clip, one after the other; no gradients.

    Args:
        decoder: the network.
        latent: (1, T, C, h, w), unscaled.
        parts: rows and columns of latents.

    Returns:
        Of each part (1, T, 3, rows, columns), in pixels; within `reach` of its borders, but for those of the
        frame, it lacks what lies beyond.
    """
    T = latent.shape[1]
    images_only = latent.new_zeros(1, T)
    x = decoder.mid_block(decoder.conv_in(latent[0]), image_only_indicator=images_only)
    x = decoder.up_blocks[0](x, image_only_indicator=images_only)
    scale = x.shape[-1] // latent.shape[-1]
    start = max(0, (T - MEASURED) // 2)
    with _measured_norms(decoder, x[start : start + MEASURED]):
        for rows, columns in parts:
            yield _last_blocks(decoder, x[..., _times(rows, scale), _times(columns, scale)])


def _last_blocks(decoder: TemporalDecoder, x: Tensor) -> Tensor:
    images_only = x.new_zeros(1, len(x))
    for block in decoder.up_blocks[1:]:
        x = block(x, image_only_indicator=images_only)
    x = decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(x)))
    return decoder.time_conv_out(x[None].transpose(1, 2)).transpose(1, 2)


@contextmanager
def _measured_norms(decoder: TemporalDecoder, frames: Tensor) -> Iterator[None]:
    """The norms of the last blocks keep the mean and variance that they have on some frames."""
    owners = [decoder, *(module for block in decoder.up_blocks[1:] for module in block.modules())]
    norms = [
        (owner, name, child)
        for owner in owners
        for name, child in owner.named_children()
        if isinstance(child, nn.GroupNorm)
    ]
    for owner, name, norm in norms:
        setattr(owner, name, _MeasuredNorm(norm))
    try:
        _last_blocks(decoder, frames)
        yield
    finally:
        for owner, name, norm in norms:
            setattr(owner, name, norm)


class _MeasuredNorm(nn.Module):
    """A group norm that keeps the statistics of its first input."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self._norm = norm
        self._statistics: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        norm = self._norm
        if self._statistics is None:
            grouped = x.float().reshape(len(x), norm.num_groups, -1)
            mean = grouped.mean((0, 2))
            variance = (grouped - mean[:, None]).square().mean((0, 2))
            repeats = norm.num_channels // norm.num_groups
            self._statistics = mean.repeat_interleave(repeats), variance.repeat_interleave(repeats)
            return norm(x)
        return F.batch_norm(x, *self._statistics, norm.weight.float(), norm.bias.float(), eps=norm.eps)


def _times(piece: slice, scale: int) -> slice:
    return slice(piece.start * scale, piece.stop * scale)
