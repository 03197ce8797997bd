"""The plain way to fill holes: the baseline that a model has to beat.

Shapes: ... any leading dimensions, H W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor


def fill_from_background(warped: Tensor, hole: Tensor) -> Tensor:
    """Gives each hole pixel the colour of the nearest valid pixel on the background's side, in its row.

    Near content moves farther to the left than what is behind it, so a hole has the occluder to its left and
    the background to its right. Where nothing valid follows up to the right border, the nearest pixel to the
    left is taken; a row that is a hole from end to end stays as it is.

    Args:
        warped: (..., 3, H, W), any dtype.
        hole: (..., 1, H, W) bool.

    Returns:
        Like `warped`.
    """
    width = hole.shape[-1]
    x = torch.arange(width, device=hole.device).expand_as(hole)
    right = x.masked_fill(hole, width).flip(-1).cummin(-1).values.flip(-1)
    left = x.masked_fill(hole, -1).cummax(-1).values
    source = torch.where(right < width, right, torch.where(left >= 0, left, x))
    return warped.gather(-1, source.expand_as(warped))
