"""Left view + disparity -> right view for the eye rather than for a model: opaque surfaces with soft edges.

`splat` moves pixels: where a slanted surface is stretched, the background shines through, and edges lie on
whole pixels. Here neighbours of nearly the same disparity are one surface without gaps.
Shapes: ... any leading dimensions, H W pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from m2svid.warping.frames import Flags, Image, Numbers, Places, compiled, each_frame, interleaved_like

TEAR = 2.0  # px in the right view between neighbours of the left one, beyond which they are torn apart
_WIDE = 4.0  # px of a tear beside which mixed colours are seen
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_PER_PIXEL = 3  # sources of a compressed surface within one pixel that are followed to its edge


def warp_surfaces(left: Tensor, disparity: Tensor) -> tuple[Tensor, Tensor]:
    """Draw the surfaces of the left view where the right eye sees them.

    A pixel x lies at x - disparity and reaches halfway to its neighbours, or up to them where they are less
    than `TEAR` px away. The nearest surface over the centre of a target pixel gives its colour, interpolated
    linearly; at its edges the target is mixed by the share that it covers.

    Args:
        left: (..., 3, H, W), uint8 or float in [0, 1]; on the CPU.
        disparity: (..., 1, H, W) floating, pixels of this resolution; finite.

    Returns:
        warped: like `left`, 0 where nothing lands.
        hole: (..., 1, H, W) float32 in [0, 1]: the share of the pixel on which nothing lands.
    """

    def draw(left: Tensor, disparity: Tensor, warped: Tensor, hole: Tensor) -> None:
        image, shift = np.ascontiguousarray(left.permute(1, 2, 0).numpy()), disparity[0].float().numpy()
        half = _HALF if left.dtype == torch.uint8 else _ZERO
        _draw(image, shift, warped.permute(1, 2, 0).numpy(), hole[0].numpy(), half)

    warped, hole = interleaved_like(left), torch.empty(disparity.shape, dtype=torch.float32)
    each_frame(draw, left, disparity.contiguous(), warped, hole)
    return warped, hole


@compiled
def _draw(image: Image, disparity: Numbers, drawn: Image, share: Numbers, half: float) -> None:
    """Draw rows: (H, W, 3), (H, W) -> (H, W, 3), (H, W); `half` rounds a colour that is stored.

    There are many short loops because the processor runs a simple one for several pixels at once.
    """
    height, width = disparity.shape
    numbers, places = np.empty((4, width), np.float32), np.empty((3, width), np.int32)
    place, gap, start, column = numbers[0], numbers[1], numbers[2], numbers[3]
    first, after, source = places[0], places[1], places[2]
    joined = np.empty(width, np.bool_)
    for y in range(height):
        _spread(disparity[y], place, gap, joined, start, first, after)
        _drop_ghosts(image[y], gap, first, after)
        _cover(first, after, source)
        _look_up(place, gap, joined, source, column)
        for target in range(width):
            share[y, target] = source[target] < 0
        for target in range(width):
            at = column[target]
            for channel in range(3):
                drawn[y, target, channel] = (_seen(image[y], at, channel) if at >= 0 else _ZERO) + half
        for target in range(width - 1):
            if abs(column[target + 1] - column[target] - 1) > TEAR - 1:
                offset = _border(target, place, start, joined, source, column)
                _soften(image[y], target, offset, column, drawn[y], share[y], half)


@compiled
def _spread(
    disparity: Numbers,
    place: Numbers,
    gap: Numbers,
    joined: Flags,
    start: Numbers,
    first: Places,
    after: Places,
) -> None:
    """Find what the sources of a row, (W,), cover: fill in their place in the right view, the gap to the next
    one, True where they are one surface with it, where they begin, and their targets, `first` to `after`."""
    width = len(disparity)
    for x in range(width):
        place[x] = np.float32(x) - disparity[x]
    for x in range(width - 1):
        gap[x] = place[x + 1] - place[x]
    gap[width - 1] = 0
    for x in range(width):
        joined[x] = (gap[x] > 0) & (gap[x] <= TEAR)
    start[0] = place[0] - _HALF
    for x in range(1, width):
        start[x] = place[x] - (_ZERO if joined[x - 1] else _HALF)
    for x in range(width):
        first[x] = np.int32(np.ceil(start[x]))
        after[x] = np.int32(np.ceil(place[x] + (gap[x] if joined[x] else _HALF)))


@compiled
def _drop_ghosts(image: Image, gap: Numbers, first: Places, after: Places) -> None:
    """Let the background's pixels at a tear of a row that look more like the foreground cover nothing: they
    would be a ghost of its outline beyond the hole."""
    width = len(gap)
    for x in range(1, width):
        if gap[x - 1] > _WIDE:
            behind = min(x + 2, width - 1)
            to_front = to_back = _ZERO
            for channel in range(3):
                own = np.float32(image[x, channel])
                to_front += abs(np.float32(image[x - 1, channel]) - own)
                to_back += abs(np.float32(image[behind, channel]) - own)
            if to_front < to_back:
                after[x] = first[x]


@compiled
def _cover(first: Places, after: Places, source: Places) -> None:
    """Fill in the source that each target of a row shows: the last, which is the nearest; -1 = none."""
    width = len(source)
    source[:] = -1
    for x in range(width):
        if first[x] >= 0 and after[x] == first[x] + 1 and after[x] <= width:
            source[first[x]] = x
        else:
            for target in range(max(first[x], 0), min(after[x], width)):
                source[target] = x


@compiled
def _look_up(place: Numbers, gap: Numbers, joined: Flags, source: Places, column: Numbers) -> None:
    """Fill in the column of the left view that each target of a row shows; what is empty lies far behind."""
    width = len(source)
    for target in range(width):
        x = max(source[target], 0)
        share = min(max((np.float32(target) - place[x]) / gap[x], _ZERO), _ONE) if joined[x] else _ZERO
        column[target] = np.float32(x) + share if source[target] >= 0 else np.float32(-2 * width)


@compiled
def _seen(image: Image, column: float, channel: int) -> float:
    """Interpolate a row (W, 3)."""
    x = int(column)
    own, beside = np.float32(image[x, channel]), np.float32(image[min(x + 1, len(image) - 1), channel])
    return own + (beside - own) * (column - np.float32(x))


@compiled
def _border(
    target: int, place: Numbers, start: Numbers, joined: Flags, source: Places, column: Numbers
) -> float:
    """Find where the surfaces of a target and of the next one meet, px to the right of their border."""
    if column[target + 1] < column[target] + 1:  # the left one is the nearer
        x = max(source[target], 0)
        for _ in range(_PER_PIXEL):
            x += joined[x] and place[x + 1] < target + 1
        edge = place[x] + _HALF
    else:
        x = max(source[target + 1], 0)
        for _ in range(_PER_PIXEL):
            x -= x > 0 and joined[x - 1] and place[x - 1] > target
        edge = start[x]
    return min(max(edge - target - _HALF, -_HALF), _HALF)


@compiled
def _soften(
    image: Image, target: int, offset: float, column: Numbers, drawn: Image, share: Numbers, half: float
) -> None:
    """Mix the colour of the surface that reaches across the border of two pixels of a row into the other."""
    own, other = (target + 1, target) if offset > 0 else (target, target + 1)
    amount = abs(offset)
    if column[other] < 0:
        share[own] = min(share[own] + amount, _ONE)
        return
    if column[own] < 0:
        share[own] = max(share[own] - amount, _ZERO)
        amount = _ONE
    for channel in range(3):
        before = np.float32(drawn[own, channel])
        drawn[own, channel] = before + (_seen(image, column[other], channel) - before) * amount + half
