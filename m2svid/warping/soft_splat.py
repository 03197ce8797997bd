"""StereoCrafter's warp: bilinear forward splatting in which near pixels outweigh far ones.

Shapes: ... any leading dimensions, H W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

NEARNESS = 1.414  # a source that is 1 px of disparity nearer weighs as much more (TencentARC/StereoCrafter)
SMALLEST_WEIGHT = 1e-6


def soft_splat(left: Tensor, disparity: Tensor) -> tuple[Tensor, Tensor]:
    """Move every pixel x of the left view to x - disparity and mix what meets there.

    The colours are a mean with weights 1.414^disparity times the bilinear ones; the hole is soft, 1 minus the
    sum of the bilinear weights. As in the published code, sources whose right neighbour lies outside the
    frame are lost, and so is the last row.

    Args:
        left: (..., 3, H, W), uint8 or floating.
        disparity: (..., 1, H, W) floating, pixels of this resolution; any sign.

    Returns:
        warped: like `left`, black where no source landed; uint8 is cut off, not rounded, as published.
        hole: (..., 1, H, W) float64 in [0, 1], 1 where no source landed.
    """
    width = left.shape[-1]
    disparity = disparity.double()  # 1.414^d overflows float32 in large frames
    target = torch.arange(width, device=left.device) - disparity
    column = target.floor().long()
    inside = (column >= 0) & (column + 1 < width)
    inside[..., -1, :] = False
    fraction = target - column
    weight = NEARNESS ** (disparity - disparity.amin()) * inside
    sources = torch.cat([left.double() * weight, weight, inside.double()], dim=-3)  # (..., 5, H, W)
    column = torch.where(inside, column, 0).expand(sources.shape)
    splat = torch.zeros_like(sources)
    splat.scatter_add_(-1, column, sources * (1 - fraction))
    splat.scatter_add_(-1, (column + 1).clamp(max=width - 1), sources * fraction)
    colour, weights, share = splat.split((3, 1, 1), dim=-3)
    warped = colour / weights.clamp(min=SMALLEST_WEIGHT)
    if left.dtype == torch.uint8:
        warped = warped + 1e-9  # a whole number must not be cut off one below
    return warped.to(left.dtype), 1 - share.clamp(0, 1)
