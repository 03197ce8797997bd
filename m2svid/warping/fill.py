"""Filling holes without a model: from the background beside them, alone or smoothed over their surroundings.

Shapes: ... any leading dimensions, H W pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from m2svid.warping.frames import Image, Numbers, Places, compiled, each_frame, interleaved_like

# What a pixel counts in the mean of its surroundings, where one that is seen counts 1. Chosen on a street, a
# forest and the procedural world by the PSNR in holes.
_SIDE, _OCCLUDER = np.float32(0.1), np.float32(0.1)
_SATURATION = np.float32(
    2
)  # times its weight is the share that a pixel, or a mean of some, has in what is filled there
_REACH = 16  # the occluder is looked for up to the width over this from a hole
_SMALLEST = 2  # pixels a side of the coarsest mean


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
        image, share = np.ascontiguousarray(warped.permute(1, 2, 0).numpy()), hole[0].float().numpy()
        made = filled.permute(1, 2, 0).numpy()
        np.copyto(made, image)
        if not share.any():
            return
        levels = [_halve_view(image, share)]
        while min(levels[-1].shape[:2]) > _SMALLEST:
            levels.append(_halve(levels[-1]))
        around = levels[-1][..., :3] / levels[-1][..., 3:].clip(1e-6)
        for level in reversed(levels[:-1]):
            around = _mix(level, around)
        _fill(image, share, around, made, np.float32(0.5 if image.dtype == np.uint8 else 0))

    filled = interleaved_like(warped)
    each_frame(fill, warped, hole.contiguous(), filled)
    return filled


@compiled
def _halve_view(image: Image, share: Numbers) -> Numbers:
    """(H, W, 3), (H, W) -> (H/2, W/2, 4), rounded up: means of the weighted colours and of the weight."""
    height, width = share.shape
    half = np.zeros(((height + 1) // 2, (width + 1) // 2, 4), np.float32)
    weight, source = np.empty(width, np.float32), np.empty(width, np.int32)
    for y in range(height):
        _weigh(share[y], weight, source)
        rows = min(2, height - y // 2 * 2)
        for x in range(width):
            part, beside = weight[x] / np.float32(rows * min(2, width - x // 2 * 2)), source[x]
            for channel in range(3):
                half[y // 2, x // 2, channel] += part * image[y, beside, channel]
            half[y // 2, x // 2, 3] += part
    return half


@compiled
def _weigh(share: Numbers, weight: Numbers, source: Places) -> None:
    """Fill in, for a row, (W,), what each pixel counts in means, and the pixel whose colour it has there.

    A hole has the colour of the background beside it. What lies to the left of a hole is likely to be its
    occluder, unless another hole lies there; a hole at the right border has none.
    """
    width = len(share)
    reach = max(1, width // _REACH)
    for x in range(width):
        weight[x], source[x] = 1 - share[x], x
    start, clear = 0, 0
    while start < width:
        if share[start] < 1:
            start += 1
            continue
        stop = start + 1
        while stop < width and share[stop] == 1:
            stop += 1
        if stop < width:
            weight[max(start - reach, clear, 0) : start] *= _OCCLUDER
            source[start:stop] = stop
        elif start:
            source[start:stop] = start - 1
        weight[start:stop] = _SIDE
        start, clear = stop, stop + reach


@compiled
def _halve(level: Numbers) -> Numbers:
    """(H, W, 4) -> (H/2, W/2, 4), rounded up: means of up to four pixels."""
    height, width = level.shape[:2]
    half = np.empty(((height + 1) // 2, (width + 1) // 2, 4), np.float32)
    for y in range(half.shape[0]):
        below = min(2 * y + 1, height - 1)
        for x in range(half.shape[1]):
            beside = min(2 * x + 1, width - 1)
            for channel in range(4):
                total = level[2 * y, 2 * x, channel] + level[2 * y, beside, channel]
                total += level[below, 2 * x, channel] + level[below, beside, channel]
                half[y, x, channel] = total / 4
    return half


@compiled
def _mix(level: Numbers, around: Numbers) -> Numbers:
    """(H, W, 4), (H/2, W/2, 3) -> (H, W, 3): a level's own means as far as they have weight, and for the rest
    the coarser ones."""
    height, width = level.shape[:2]
    mixed = np.empty((height, width, 3), np.float32)
    for y in range(height):
        for x in range(width):
            weight = level[y, x, 3]
            own = min(weight * _SATURATION, np.float32(1))
            for channel in range(3):
                color = level[y, x, channel] / max(weight, np.float32(1e-6))
                if own < 1:
                    mean = _between(around, y, x, channel)
                    color = mean + (color - mean) * own
                mixed[y, x, channel] = color
    return mixed


@compiled
def _between(around: Numbers, y: int, x: int, channel: int) -> float:
    """Interpolate a level (H/2, W/2, 3) at a pixel of the next finer one."""
    y0, x0 = y // 2, x // 2
    y1 = min(max(y0 + (y % 2) * 2 - 1, 0), around.shape[0] - 1)
    x1 = min(max(x0 + (x % 2) * 2 - 1, 0), around.shape[1] - 1)
    near, far = np.float32(0.75), np.float32(0.25)
    return near * (near * around[y0, x0, channel] + far * around[y0, x1, channel]) + far * (
        near * around[y1, x0, channel] + far * around[y1, x1, channel]
    )


@compiled
def _fill(image: Image, share: Numbers, around: Numbers, made: Image, half: float) -> None:
    """Fill in the holes of a view, (H, W, 3), of which (H/2, W/2, 3) is around; `half` rounds a colour."""
    height, width = share.shape
    weight, source = np.empty(width, np.float32), np.empty(width, np.int32)
    for y in range(height):
        _weigh(share[y], weight, source)
        for x in range(width):
            if share[y, x] > 0:
                own = min(weight[x] * _SATURATION, np.float32(1))
                for channel in range(3):
                    known, beside = np.float32(image[y, x, channel]), np.float32(image[y, source[x], channel])
                    mean = _between(around, y, x, channel)
                    color = mean + (beside - mean) * own
                    made[y, x, channel] = known + (color - known) * share[y, x] + half
