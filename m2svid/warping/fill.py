"""Background filling: the baseline that a model has to beat.

Shapes: ... any leading dimensions, H W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def fill_from_background(warped: Tensor, hole: Tensor) -> Tensor:
    """Give each hole pixel the colour of the nearest valid pixel on the background's side, in its row.

    Near content moves farther to the left than what is behind it, so a hole has the occluder to its left and
    the background to its right. Where nothing valid follows up to the right border, the nearest pixel to the
    left is taken; a row that is a hole from end to end stays as it is.

    Args:
        warped: (..., 3, H, W), any dtype.
        hole: (..., 1, H, W) bool.

    Returns:
        Like `warped`.
    """
    width, pixels = hole.shape[-1], hole.shape[-2] * hole.shape[-1]
    place, start, stop = _runs(hole)
    source = torch.where(stop % width > 0, stop, torch.where(start % width > 0, start - 1, place))
    filled = warped.clone(memory_format=torch.contiguous_format)
    colors = filled.view(-1, 3, pixels).movedim(1, 0)
    frame = place // pixels
    colors[:, frame, place % pixels] = colors[:, frame, source % pixels]
    return filled


def _runs(hole: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(M,) each, for every hole pixel: its place, all rows one after the other; where its run of hole pixels
    begins; and the place after that run."""
    edge = F.pad(hole, (1, 1))
    begins, ends = (hole & ~side for side in (edge[..., :-2], edge[..., 2:]))
    place, start, last = (mask.flatten().nonzero().squeeze(-1) for mask in (hole, begins, ends))
    run = torch.searchsorted(last, place)
    return place, start[run], last[run] + 1
