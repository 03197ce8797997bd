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

from m2svid.warping.frames import bands, each_frame, interleaved_like

TEAR = 2.0  # px in the right view between neighbours of the left one, beyond which they are torn apart
_WIDE = 4.0  # px of a tear beside which mixed colours are seen
_PER_PIXEL = 3  # sources of a compressed surface within one pixel that are followed to its edge

Image = NDArray[np.uint8] | NDArray[np.float32]
Numbers = NDArray[np.float32]
Places = NDArray[np.int64]


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
        image, shift = np.ascontiguousarray(left.permute(1, 2, 0).numpy()), disparity[0].float().numpy()
        drawn, share = warped.permute(1, 2, 0).numpy(), hole[0].numpy()
        for rows in bands(*shift.shape):
            _draw(image[rows], shift[rows], drawn[rows], share[rows])

    warped, hole = interleaved_like(left), torch.empty(disparity.shape, dtype=torch.float32)
    each_frame(draw, left, disparity.contiguous(), warped, hole)
    return warped, hole


def _draw(image: Image, disparity: Numbers, drawn: Image, share: Numbers) -> None:
    """Draw rows: (H, W, 3), (H, W) -> (H, W, 3), (H, W)."""
    height, width = disparity.shape
    x = np.arange(width, dtype=np.float32)
    place = x - disparity  # of each source in the right view
    gap = np.zeros_like(place)  # to its right neighbour; the last one is joined to none
    np.subtract(place[:, 1:], place[:, :-1], out=gap[:, :-1])
    joined = (gap > 0) & (gap <= TEAR)
    start, stop = place - 0.5, place + np.where(joined, gap, 0.5)
    start[:, 1:] += joined[:, :-1] * np.float32(0.5)
    stop[_ghosts(image, gap)] = -np.inf
    source = _nearest(np.ceil(start), np.ceil(stop))

    gone = source < 0
    base = np.maximum(source, 0)
    slope = _gather(1 / np.where(joined, gap, np.inf), base)  # columns of the left view a pixel
    slope *= x - _gather(place, base)
    column = base.astype(np.float32)
    column += np.clip(slope, 0, 1, out=slope)
    column[gone] = -2.0 * width  # what is empty lies behind everything, and where there is no colour
    rows = np.broadcast_to(np.arange(height, dtype=np.float32)[:, None], column.shape)
    cv2.remap(image, column, np.ascontiguousarray(rows), cv2.INTER_LINEAR, dst=drawn)
    share[:] = gone
    _soften(drawn, share, source, column, place, start, joined)


def _ghosts(image: Image, gap: Numbers) -> tuple[Places, Places]:
    """(E,) each, rows and columns of the background's pixels at a tear that look more like the foreground:
    left there, they would be a ghost of its outline beyond the hole."""
    y, left = _found(gap > _WIDE)
    x = left + 1
    color = image[y, x].astype(np.float32)
    to_front, to_back = (
        np.abs(image[y, other] - color).sum(-1) for other in (x - 1, (x + 2).clip(max=image.shape[1] - 1))
    )
    ghost = to_front < to_back
    return y[ghost], x[ghost]


def _found(mask: NDArray[np.bool_]) -> tuple[Places, Places]:
    """(E,) each, rows and columns of what is set of (H, W)."""
    return np.divmod(np.flatnonzero(mask), mask.shape[1])


def _gather(values: Numbers, column: Places) -> Numbers:
    """(H, W): the values (H, W) in other columns of their rows."""
    return torch.from_numpy(values).gather(-1, torch.from_numpy(column)).numpy()


def _nearest(first: Numbers, after: Numbers) -> Places:
    """(H, W): for each target the last source, which is the nearest, that reaches over it; -1 = none.

    Args:
        first: (H, W), the first target that each source reaches over.
        after: (H, W), the target after the last one.
    """
    height, width = first.shape
    source = torch.full((height, width + 1), -1)
    inside = (first >= 0) & (first < after) & (first < width)
    target = torch.from_numpy(np.where(inside, first, width).astype(np.int64))
    source.scatter_reduce_(-1, target, torch.arange(width).expand(height, width), "amax")
    row, wide = _found(after - first > 1)  # the few that are stretched over several
    begin, end = first[row, wide].astype(np.int64), after[row, wide]
    for more in range(1, int(TEAR) + 1):
        target = begin + more
        inside = (target >= 0) & (target < end) & (target < width)
        place = np.where(inside, target, width) + row * (width + 1)
        source.view(-1).scatter_reduce_(0, torch.from_numpy(place), torch.from_numpy(wide), "amax")
    return source[:, :width].numpy()


def _soften(
    drawn: Image,
    share: Numbers,
    source: Places,
    column: Numbers,
    place: Numbers,
    start: Numbers,
    joined: NDArray[np.bool_],
) -> None:
    """Mix the pixels on both sides of every edge by where in between it lies, in place."""
    width = source.shape[-1]
    jump = np.zeros_like(column)
    np.subtract(column[:, 1:], column[:, :-1], out=jump[:, :-1])
    jump[:, :-1] -= 1
    y, x = _found(np.abs(jump) > TEAR - 1)  # (E,); the other pixel is x + 1
    before = jump[y, x] < 0  # the left one is the nearer
    left, right = source[y, x], source[y, x + 1]
    last, first = left.clip(min=0), right.clip(min=0)
    for _ in range(_PER_PIXEL):
        following = (last + 1).clip(max=width - 1)
        last = np.where(joined[y, last] & (place[y, following] < x + 1), following, last)
        previous = (first - 1).clip(min=0)
        first = np.where(joined[y, previous] & (place[y, previous] > x), previous, first)
    edge = np.where(before, place[y, last] + 0.5, start[y, first])
    offset = (edge - x.astype(np.float32) - 0.5).clip(-0.5, 0.5)  # of the border between the two pixels
    colors = drawn[y, x], drawn[y, x + 1]
    for chosen, side, gone, amount in (
        (offset > 0, 1, (right < 0, left < 0), offset),
        (offset < 0, 0, (left < 0, right < 0), -offset),
    ):
        yy, tt, other, amount = y[chosen], x[chosen] + side, colors[1 - side][chosen], amount[chosen]
        to_hole, from_hole = gone[0][chosen], gone[1][chosen]
        part = np.where(to_hole, 1, np.where(from_hole, 0, amount))[:, None]  # of the other one's colour
        mixed = drawn[yy, tt] * (1 - part) + other * part
        drawn[yy, tt] = mixed.round() if drawn.dtype == np.uint8 else mixed
        share[yy, tt] = np.clip(
            share[yy, tt] + np.where(from_hole, amount, 0) - np.where(to_hole, amount, 0), 0, 1
        )
