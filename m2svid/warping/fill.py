"""Filling holes without a model: from the background beside them, alone or smoothed over their surroundings.

Shapes: ... any leading dimensions, H W pixels.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from m2svid.warping.frames import Flags, Image, Numbers, Places, compiled, each_frame, find

# What a pixel counts in the mean of its surroundings, where one that is seen counts 1. Chosen on a street, a
# forest and the procedural world by the PSNR in holes.
_SIDE, _OCCLUDER = np.float32(0.1), np.float32(0.1)
# Times its weight, this is the share that a pixel, or a mean of some, has in what is filled there.
_SATURATION = np.float32(2)
_REACH = 16  # the occluder is looked for up to the width over this from a hole
_SMALLEST = 2  # pixels a side of the coarsest mean
_LEAST = np.float32(1e-6)  # weight by which a mean is divided
_NEAR, _FAR = np.float32(0.75), np.float32(0.25)  # shares of two pixels in one of the next finer level


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
    place = hole.flatten().nonzero().squeeze(-1)  # (M,), all rows one after the other
    begins = torch.ones_like(place, dtype=torch.bool)  # of runs of hole pixels
    begins[1:] = (place.diff() > 1) | (place[1:] % width == 0)
    start, stop = place[begins], place[begins.roll(-1)] + 1
    beside = torch.where(stop % width > 0, stop, torch.where(start % width > 0, start - 1, -1))
    source = beside[begins.cumsum(0) - 1]
    source = torch.where(source < 0, place, source)
    filled = warped.clone(memory_format=torch.contiguous_format)
    colors = filled.view(-1, 3, pixels).movedim(1, 0)
    frame = place // pixels
    colors[:, frame, place % pixels] = colors[:, frame, source % pixels]
    return filled


def fill_smoothly(warped: Tensor, hole: Tensor) -> Tensor:
    """Fill holes with a mix of the background beside them and of means over more and more of what is around.

    Means are taken over pixels twice as large at each level of a pyramid, as far as there is nothing finer.
    The pixels to the left of a hole, which are likely to be of what hides the background, count little.

    Args:
        warped: (..., 3, H, W), uint8 or float in [0, 1]; on the CPU.
        hole: (..., 1, H, W), bool, or the share of each pixel that is to be filled, float32 in [0, 1].

    Returns:
        Like `warped`.
    """

    def fill(warped: Tensor, hole: Tensor, filled: Tensor) -> None:
        image, share, made = warped.numpy(), hole[0].float().numpy(), filled.numpy()
        np.copyto(made, image)
        count = _count(share)
        if not count:
            return
        gone, weight = np.empty((3, count), np.int32), np.empty(count, np.float32)
        levels = [_halve_view(image, share, gone, weight)]
        while min(levels[-1].shape[1:]) > _SMALLEST:
            levels.append(_halve(levels[-1]))
        levels[-1][:3] /= levels[-1][3:].clip(_LEAST)
        for around, level in pairwise(reversed(levels)):
            _mix(level, around)
        half = np.float32(0.5 if image.dtype == np.uint8 else 0)
        _fill(image, share, gone, weight, levels[0], made, half)

    filled = torch.empty(warped.shape, dtype=warped.dtype)
    each_frame(fill, warped.contiguous(), hole.contiguous(), filled)
    return filled


@compiled
def _count(share: Numbers) -> int:
    """Count the pixels of (H, W) of which a share is to be filled."""
    count = 0
    for y in range(len(share)):
        for x in range(share.shape[1]):
            count += share[y, x] > 0
    return count


@compiled
def _halve_view(image: Image, share: Numbers, gone: Places, own: Numbers) -> Numbers:
    """(3, H, W), (H, W) -> (4, H/2, W/2), rounded up: means of the weighted colours and of the weight. Fill
    in row, column and source's column of the pixels to fill, (3, N), and their weights, (N,)."""
    height, width = share.shape
    half = np.empty((4, (height + 1) // 2, (width + 1) // 2), np.float32)
    weight, source = np.empty(width, np.float32), np.empty(width, np.int32)
    flags, holes = np.empty(width, np.bool_), np.empty(width, np.int32)
    total = np.zeros((4, width + width % 2), np.float32)
    stop = 0
    for y in range(height):
        start = stop
        found = holes[: _weigh(share[y], weight, source, flags, holes)]
        for x in range(width):
            total[3, x] += weight[x]
        for x in found:
            gone[0, stop], gone[1, stop], gone[2, stop], own[stop] = y, x, source[x], weight[x]
            weight[x] = 0  # below, it is added by itself
            stop += 1
        for channel in range(3):
            row, sums = image[channel, y], total[channel]
            for x in range(width):
                sums[x] += weight[x] * np.float32(row[x])
            for at in range(start, stop):
                sums[gone[1, at]] += own[at] * np.float32(row[gone[2, at]])
        if y % 2 or y == height - 1:
            part = np.float32(0.25 if y % 2 else 0.5)  # of a pixel in the mean
            for channel in range(4):
                _halve_line(total[channel], part, half[channel, y // 2])
            if width % 2:
                half[:, y // 2, -1] *= 2
            total[:] = 0
    return half


@compiled
def _weigh(share: Numbers, weight: Numbers, source: Places, flags: Flags, found: Places) -> int:
    """Fill in, for a row, (W,), what each pixel counts in means, which pixels are to be filled, and whose
    colour these have in means; tell how many. `flags` are written over.

    A hole has the colour of the background beside it. What lies to the left of a hole is likely to be its
    occluder, unless another hole lies there; a hole at the right border has none.
    """
    width = len(share)
    reach = max(1, width // _REACH)
    for x in range(width):
        weight[x] = 1 - share[x]
    for x in range(width):
        flags[x] = share[x] > 0
    count = find(flags, found)
    at = clear = 0
    while at < count:
        start = stop = found[at]
        while at < count and found[at] == stop and share[stop] == 1:
            stop, at = stop + 1, at + 1
        if stop == start:  # there is something of its own
            source[start], at = start, at + 1
            continue
        if stop < width:
            weight[max(start - reach, clear, 0) : start] *= _OCCLUDER
            source[start:stop] = stop
        elif start:
            source[start:stop] = start - 1
        else:
            source[start:stop] = np.arange(width)
        weight[start:stop] = _SIDE
        clear = stop + reach
    return count


@compiled
def _halve(level: Numbers) -> Numbers:
    """(4, H, W) -> (4, H/2, W/2), rounded up: means of up to four pixels."""
    height, width = level.shape[1:]
    half = np.empty((4, (height + 1) // 2, (width + 1) // 2), np.float32)
    line = np.empty(width + width % 2, np.float32)
    for channel in range(4):
        for y in range(half.shape[1]):
            upper, lower = level[channel, 2 * y], level[channel, min(2 * y + 1, height - 1)]
            for x in range(width):
                line[x] = upper[x] + lower[x]
            line[-1] = line[width - 1]  # again, if W is odd
            _halve_line(line, np.float32(0.25), half[channel, y])
    return half


@compiled
def _halve_line(line: Numbers, part: float, half: Numbers) -> None:
    """Fill in the sums of two neighbours of a line, (W,), times a number."""
    for x in range(len(half)):
        half[x] = (line[2 * x] + line[2 * x + 1]) * part


@compiled
def _mix(level: Numbers, around: Numbers) -> None:
    """Fill in means of a level, (4, H, W): its own as far as they have weight, and for the rest the coarser
    ones, (4, H/2, W/2), which are mixed already."""
    height, width = level.shape[1:]
    count = around.shape[2]
    line, mean = np.empty(count + 2, np.float32), np.empty(2 * count, np.float32)
    for y in range(height):
        weight = level[3, y]
        y0, y1 = _beside(y, around.shape[1])
        for channel in range(3):
            near, far, color = around[channel, y0], around[channel, y1], level[channel, y]
            for x in range(count):
                line[x + 1] = _NEAR * near[x] + _FAR * far[x]
            line[0], line[-1] = line[1], line[count]
            for x in range(count):
                mean[2 * x] = _NEAR * line[x + 1] + _FAR * line[x]
                mean[2 * x + 1] = _NEAR * line[x + 1] + _FAR * line[x + 2]
            for x in range(width):
                own = color[x] / max(weight[x], _LEAST)
                share = weight[x] * _SATURATION
                color[x] = mean[x] + (own - mean[x]) * share if share < 1 else own


@compiled
def _beside(at: int, count: int) -> tuple[int, int]:
    """The nearest pixel of a level, of so many, at one of the next finer one, and the nearest but one."""
    return at // 2, min(max(at // 2 + at % 2 * 2 - 1, 0), count - 1)


@compiled
def _fill(
    image: Image, share: Numbers, gone: Places, weight: Numbers, around: Numbers, made: Image, half: float
) -> None:
    """Fill in pixels of a view, (3, H, W), of which (4, H/2, W/2) is around; `half` rounds a colour.

    Row, column and source's column of the pixels are (3, N), their weights (N,).
    """
    for at in range(len(weight)):
        y, x, source = gone[0, at], gone[1, at], gone[2, at]
        y0, y1 = _beside(y, around.shape[1])
        x0, x1 = _beside(x, around.shape[2])
        own = min(weight[at] * _SATURATION, np.float32(1))
        for channel in range(3):
            near, far = around[channel, y0], around[channel, y1]
            mean = _NEAR * (_NEAR * near[x0] + _FAR * near[x1]) + _FAR * (_NEAR * far[x0] + _FAR * far[x1])
            known, beside = np.float32(image[channel, y, x]), np.float32(image[channel, y, source])
            color = mean + (beside - mean) * own
            made[channel, y, x] = known + (color - known) * share[y, x] + half
