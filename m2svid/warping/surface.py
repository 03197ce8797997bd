"""Left view + disparity -> right view for the eye rather than for a model: opaque surfaces with soft edges.

`splat` moves pixels: where a slanted surface is stretched, the background shines through, and edges lie on
whole pixels. Here neighbours of nearly the same disparity are one surface without gaps.
Shapes: ... any leading dimensions, H W pixels, E edges.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m2svid.warping.frames import each_frame, interleaved_like

TEAR = 2.0  # px in the right view between neighbours of the left one, beyond which they are torn apart
_WIDE = 4.0  # px of a tear beside which mixed colours are seen
_PER_PIXEL = 3  # sources of a compressed surface within one pixel that are followed to its edge

Image = NDArray[np.uint8] | NDArray[np.float32]


def warp_surfaces(left: Tensor, disparity: Tensor) -> tuple[Tensor, Tensor]:
    """Draw the surfaces of the left view where the right eye sees them.

    A pixel x lies at x - disparity and reaches halfway to its neighbours, or up to them where they are less
    than `TEAR` px away. The nearest surface over the centre of a target pixel gives its colour, interpolated
    linearly; at its edges the target is mixed by the share that it covers.

    Args:
        left: (..., 3, H, W), uint8 or float in [0, 1].
        disparity: (..., 1, H, W) floating, pixels of this resolution; finite.

    Returns:
        warped: like `left`, 0 where nothing lands.
        hole: (..., 1, H, W) float32 in [0, 1]: the share of the pixel on which nothing lands.
    """

    def draw(left: Tensor, disparity: Tensor, warped: Tensor, hole: Tensor) -> None:
        drawn, share = _draw(np.ascontiguousarray(left.permute(1, 2, 0).numpy()), disparity[0].float())
        warped[:] = torch.from_numpy(drawn).permute(2, 0, 1)
        hole[0] = torch.from_numpy(share)

    warped, hole = interleaved_like(left), torch.empty(disparity.shape, dtype=torch.float32)
    each_frame(draw, left, disparity.contiguous(), warped, hole)
    return warped, hole


def _draw(image: Image, disparity: Tensor) -> tuple[Image, NDArray[np.float32]]:
    """(H, W, 3), (H, W) -> (H, W, 3), (H, W)."""
    height, width = disparity.shape
    place = torch.arange(width) - disparity  # of each source in the right view
    gap = torch.full_like(place, torch.inf)  # to its right neighbour
    gap[:, :-1] = place[:, 1:] - place[:, :-1]
    joined = (gap > 0) & (gap <= TEAR)
    start, stop = place - 0.5, place + torch.where(joined, gap, 0.5)
    start[:, 1:].add_(joined[:, :-1], alpha=0.5)
    stop[_ghosts(image, gap)] = -torch.inf
    source = _nearest(start.ceil().long(), stop.ceil().long())

    seen = source >= 0
    base = source.clamp(min=0)
    here = place.gather(-1, base)
    slope = torch.where(joined, 1 / gap, 0).gather(-1, base)  # columns of the left view a pixel
    column = base + slope.mul_(torch.arange(width) - here).clamp_(0, 1)
    rows = np.repeat(np.arange(height, dtype=np.float32)[:, None], width, axis=1)
    drawn = cv2.remap(image, column.numpy(), rows, cv2.INTER_LINEAR)
    share = (~seen).numpy().astype(np.float32)
    drawn[share > 0] = 0
    _soften(drawn, share, source, column, place, start, joined)
    return drawn, share


def _ghosts(image: Image, gap: Tensor) -> tuple[Tensor, Tensor]:
    """(E,) each, rows and columns of the background's pixels at a tear that look more like the foreground:
    left there, they would be a ghost of its outline beyond the hole."""
    row, left = (gap[:, :-1] > _WIDE).nonzero(as_tuple=True)
    y, x = row.numpy(), left.numpy() + 1
    color = image[y, x].astype(np.float32)
    to_front, to_back = (
        np.abs(image[y, other] - color).sum(-1) for other in (x - 1, (x + 2).clip(max=image.shape[1] - 1))
    )
    ghost = torch.from_numpy(to_front < to_back)
    return row[ghost], left[ghost] + 1


def _nearest(first: Tensor, after: Tensor) -> Tensor:
    """(H, W) int64: for each target the last source, which is the nearest, that reaches over it; -1 = none.

    Args:
        first: (H, W), the first target that each source reaches over.
        after: (H, W), the target after the last one.
    """
    height, width = first.shape
    source = torch.full((height, width + 1), -1)
    x = torch.arange(width).expand(height, width)
    inside = (first >= 0) & (first < after) & (first < width)
    source.scatter_reduce_(-1, torch.where(inside, first, width), x, "amax")
    row, wide = (after - first > 1).nonzero(as_tuple=True)  # the few that are stretched over several
    for more in range(1, int(TEAR) + 1):
        target = first[row, wide] + more
        inside = (target >= 0) & (target < after[row, wide]) & (target < width)
        target = torch.where(inside, target, width) + row * (width + 1)
        source.view(-1).scatter_reduce_(0, target, wide, "amax")
    return source[:, :width]


def _soften(
    drawn: Image,
    share: NDArray[np.float32],
    source: Tensor,
    column: Tensor,
    place: Tensor,
    start: Tensor,
    joined: Tensor,
) -> None:
    """Mix the pixels on both sides of every edge by where in between it lies, in place."""
    width = source.shape[-1]
    column = column.masked_fill(source < 0, -2.0 * width)  # what is empty lies behind everything
    jump = column[:, 1:] - column[:, :-1] - 1
    row, left = (jump.abs() > TEAR - 1).nonzero(as_tuple=True)  # (E,); the other pixel is left + 1
    before = jump[row, left] < 0  # the left one is the nearer
    last, first = source[row, left].clamp(min=0), source[row, left + 1].clamp(min=0)
    for _ in range(_PER_PIXEL):
        following = (last + 1).clamp(max=width - 1)
        last = torch.where(joined[row, last] & (place[row, following] < left + 1), following, last)
        previous = (first - 1).clamp(min=0)
        first = torch.where(joined[row, previous] & (place[row, previous] > left), previous, first)
    edge = torch.where(before, place[row, last] + 0.5, start[row, first])
    beyond = (edge - left - 0.5).clamp(-0.5, 0.5)  # of the border between the two pixels
    original = drawn.copy()
    y, x, offset, open_left, open_right = (
        each.numpy() for each in (row, left, beyond, source[row, left] < 0, source[row, left + 1] < 0)
    )
    for chosen, target, other, gone, amount in (
        (offset > 0, x + 1, x, (open_right, open_left), offset),
        (offset < 0, x, x + 1, (open_left, open_right), -offset),
    ):
        yy, tt, oo, amount = y[chosen], target[chosen], other[chosen], amount[chosen]
        to_hole, from_hole = gone[0][chosen], gone[1][chosen]
        part = np.where(to_hole, 1, np.where(from_hole, 0, amount))[:, None]  # of the other one's colour
        mixed = drawn[yy, tt] * (1 - part) + original[yy, oo] * part
        drawn[yy, tt] = mixed.round() if drawn.dtype == np.uint8 else mixed
        share[yy, tt] = np.clip(
            share[yy, tt] + np.where(from_hole, amount, 0) - np.where(to_hole, amount, 0), 0, 1
        )
