"""Left view + disparity -> right view for the eye rather than for a model: opaque surfaces with soft edges.

`splat` moves pixels: where a slanted surface is stretched, the background shines through, and edges lie on
whole pixels. Here neighbours of nearly the same disparity are one surface without gaps.
Shapes: ... any leading dimensions, H W pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from m2svid.warping.frames import Image, Numbers, Packed, Places, compiled, each_frame, find

TEAR = 2.0  # px in the right view between neighbours of the left one, beyond which they are torn apart
_WIDE = 4.0  # px of a tear beside which mixed colours are seen
_1, _8, _16, _BYTE = np.uint32(1), np.uint32(8), np.uint32(16), np.uint32(255)
_ZERO, _HALF, _ONE, _FAR = np.float32(0), np.float32(0.5), np.float32(1), np.float32(np.inf)
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
        half = _HALF if left.dtype == torch.uint8 else _ZERO
        _draw(left.numpy(), disparity[0].float().numpy(), warped.numpy(), hole[0].numpy(), half)

    warped = torch.empty(left.shape, dtype=left.dtype)
    hole = torch.empty(disparity.shape, dtype=torch.float32)
    each_frame(draw, left.contiguous(), disparity.contiguous(), warped, hole)
    return warped, hole


@compiled
def _draw(image: Image, disparity: Numbers, drawn: Image, share: Numbers, half: float) -> None:
    """Draw rows: (3, H, W), (H, W) -> (3, H, W), (H, W); `half` rounds bytes, 0 is for floats.

    There are many short loops because the processor runs a simple one for several pixels at once.
    """
    height, width = disparity.shape
    numbers, places = np.empty((5, width), np.float32), np.empty((5, width), np.int32)
    place, gap, start, column, part = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    first, after, source, own, marked = places[0], places[1], places[2], places[3], places[4]
    flags, line = np.empty(width, np.bool_), np.empty(width + 3, np.float32)
    packed = np.empty((3, width + 3), np.uint32)
    for y in range(height):
        _spread(disparity[y], place, gap, start, first, after)
        for x in range(1, width):
            flags[x] = place[x] - place[x - 1] > _WIDE
        for before in marked[: find(flags[1:], marked)]:
            _drop_ghost(image, y, before + 1, first, after)
        _cover(first, after, source)
        _look_up(place, gap, source, own, part, column)
        for target in range(width):
            share[y, target] = source[target] < 0
        if half:
            _color_bytes(image, y, own, part, packed, drawn, half)
        else:
            for channel in range(3):
                _color(image[channel, y], own, part, line, drawn[channel, y])
        for target in range(width - 1):
            flags[target] = abs(column[target + 1] - column[target] - 1) > TEAR - 1
        for target in marked[: find(flags[: width - 1], marked)]:
            offset = _border(target, place, gap, start, source, column)
            _soften(image, y, target, offset, column, drawn, share[y], half)


@compiled
def _spread(
    disparity: Numbers, place: Numbers, gap: Numbers, start: Numbers, first: Places, after: Places
) -> None:
    """Find what the sources of a row, (W,), cover: fill in their place in the right view, the gap to the next
    one, infinite where they are not one surface, where they begin, and their targets, `first` to `after`."""
    width = len(disparity)
    for x in range(width):
        place[x] = np.float32(x) - disparity[x]
    for x in range(width - 1):
        between = place[x + 1] - place[x]
        gap[x] = between if (between > 0) & (between <= TEAR) else _FAR
    gap[width - 1] = _FAR
    start[0] = place[0] - _HALF
    for x in range(1, width):
        start[x] = place[x] - (_HALF if gap[x - 1] == _FAR else _ZERO)
    for x in range(width):
        first[x] = np.int32(np.ceil(start[x]))
        after[x] = np.int32(np.ceil(place[x] + (_HALF if gap[x] == _FAR else gap[x])))


@compiled
def _drop_ghost(image: Image, y: int, x: int, first: Places, after: Places) -> None:
    """Let the background's pixel beside a tear cover nothing if it looks more like the foreground: it would
    be a ghost of its outline beyond the hole."""
    behind = min(x + 2, len(first) - 1)
    to_front = to_back = _ZERO
    for channel in range(3):
        own = np.float32(image[channel, y, x])
        to_front += abs(np.float32(image[channel, y, x - 1]) - own)
        to_back += abs(np.float32(image[channel, y, behind]) - own)
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
def _look_up(
    place: Numbers, gap: Numbers, source: Places, own: Places, part: Numbers, column: Numbers
) -> None:
    """Fill in the column of the left view that each target of a row shows, as its pixel `own` and the part of
    the way from there to the next one; what is empty lies far behind, in a pixel of its own after the row."""
    width = len(source)
    for target in range(width):
        x = max(source[target], 0)
        share = min(max((np.float32(target) - place[x]) / gap[x], _ZERO), _ONE)
        column[target] = np.float32(x) + share if source[target] >= 0 else np.float32(-2 * width)
    for target in range(width):
        at = max(column[target], _ZERO)
        x = np.int32(at)
        own[target] = x if source[target] >= 0 else width + 1
        part[target] = at - np.float32(x)


@compiled
def _color_bytes(
    image: Image, y: int, own: Places, part: Numbers, packed: Packed, drawn: Image, half: float
) -> None:
    """Fill in a row of (3, H, W), interpolated; 0 where it is empty. The channels of a pixel are packed into
    one number, because looking up takes most of the time; `packed` is written over."""
    width = image.shape[2]
    line, near, far = packed[0], packed[1], packed[2]
    red, green, blue = image[0, y], image[1, y], image[2, y]
    for x in range(width):
        line[x] = np.uint32(red[x]) | np.uint32(green[x]) << _8 | np.uint32(blue[x]) << _16
    line[width], line[width + 1 :] = line[width - 1], 0
    for target in range(width):
        x = np.uint32(own[target])  # it is not negative: no index from the end is looked for
        near[target], far[target] = line[x], line[x + _1]
    for channel in range(3):
        shift, row = np.uint32(8 * channel), drawn[channel, y]
        for target in range(width):
            color = np.float32(np.int32(near[target] >> shift & _BYTE))
            beside = np.float32(np.int32(far[target] >> shift & _BYTE))
            row[target] = np.int32(color + (beside - color) * part[target] + half)


@compiled
def _color(row: Image, own: Places, part: Numbers, line: Numbers, drawn: Image) -> None:
    """Fill in a channel of a row, (W,), as above; `line` is written over."""
    width = len(row)
    for x in range(width):
        line[x] = row[x]
    line[width], line[width + 1 :] = row[width - 1], 0
    for target in range(width):
        x = np.uint32(own[target])
        drawn[target] = line[x] + (line[x + _1] - line[x]) * part[target]


@compiled
def _seen(row: Image, column: float) -> float:
    """Interpolate a row (W,)."""
    x = int(column)
    own, beside = np.float32(row[x]), np.float32(row[min(x + 1, len(row) - 1)])
    return own + (beside - own) * (column - np.float32(x))


@compiled
def _border(
    target: int, place: Numbers, gap: Numbers, start: Numbers, source: Places, column: Numbers
) -> float:
    """Find where the surfaces of a target and of the next one meet, px to the right of their border."""
    if column[target + 1] < column[target] + 1:  # the left one is the nearer
        x = max(source[target], 0)
        for _ in range(_PER_PIXEL):
            x += gap[x] < _FAR and place[x + 1] < target + 1
        edge = place[x] + _HALF
    else:
        x = max(source[target + 1], 0)
        for _ in range(_PER_PIXEL):
            x -= x > 0 and gap[x - 1] < _FAR and place[x - 1] > target
        edge = start[x]
    return min(max(edge - target - _HALF, -_HALF), _HALF)


@compiled
def _soften(
    image: Image,
    y: int,
    target: int,
    offset: float,
    column: Numbers,
    drawn: Image,
    share: Numbers,
    half: float,
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
        before = np.float32(drawn[channel, y, own])
        color = _seen(image[channel, y], column[other])
        drawn[channel, y, own] = before + (color - before) * amount + half
