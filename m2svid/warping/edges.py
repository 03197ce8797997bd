"""Clean edges of depth: what a network, a resize or a codec smears over several pixels becomes one step.

Shapes: ... any leading dimensions, H W pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from m2svid.warping.frames import Flags, Numbers, compiled, each_frame, find

_SHARE = 1 / 170  # of the width that an edge may be smeared to either side: 3 px of 512
_STEP = np.float32(2)  # px, smallest difference across an edge
_SLOPE = np.float32(0.5)  # px, smallest difference of a pixel in it to neighbours on both sides
_AHEAD = 16  # columns that are looked at together


def clean_edges(disparity: Tensor, strength: float = 1.0) -> Tensor:
    """Put the mixed pixels of depth edges on one of both sides.

    Mixed is what lies between higher and lower neighbours where the disparity changes by more than 2 px
    nearby; it gets the largest or the smallest disparity around, whichever is closer. Sharp edges, flat and
    gently sloping surfaces stay as they are.

    Args:
        disparity: (..., 1, H, W) floating, pixels; on the CPU.
        strength: 1 looks 3 px around in a frame 512 px wide, in proportion in others; 0 changes nothing.
    """
    radius = round(strength * _SHARE * disparity.shape[-1])
    if not radius:
        return disparity
    cleaned = torch.empty(disparity.shape)

    def clean(frame: Tensor, cleaned: Tensor) -> None:
        _clean(frame[0].numpy(), radius, cleaned[0].numpy())

    each_frame(clean, disparity.float().contiguous(), cleaned)
    return cleaned.to(disparity.dtype)


@compiled
def _clean(smeared: Numbers, radius: int, cleaned: Numbers) -> None:
    """Fill `cleaned`, (H, W). Comparisons are written out because those of `max` also look for NaN."""
    height, width = smeared.shape
    highest, lowest = np.empty(width, np.float32), np.empty(width, np.float32)
    steep, places = np.empty(width, np.bool_), np.empty(width, np.int32)
    for y in range(height):
        cleaned[y] = smeared[y]
        _look_around(smeared, y, 1, 0, highest, lowest)
        _find_steep(smeared[y], highest, lowest, steep)
        known = 0  # columns that have their extremes
        for x in places[: find(steep, places)]:
            first, after = max(x - radius, 0), min(x + radius + 1, width)
            if after > known:
                start, known = max(first, known), min(after + _AHEAD, width)
                _look_around(smeared, y, radius, start, highest[start:known], lowest[start:known])
            high = low = smeared[y, x]
            for column in range(first, after):
                high = highest[column] if highest[column] > high else high
                low = lowest[column] if lowest[column] < low else low
            if high - low > _STEP:
                cleaned[y, x] = high if 2 * smeared[y, x] >= high + low else low


@compiled
def _look_around(
    smeared: Numbers, y: int, radius: int, start: int, highest: Numbers, lowest: Numbers
) -> None:
    """Fill in the largest and smallest value up to `radius` above and below a row, in columns from one on.

    The loops are as simple as they can be, so that the processor runs each for several pixels at once.
    """
    width = len(highest)
    own = smeared[y, start : start + width]
    for x in range(width):
        highest[x] = own[x]
    for x in range(width):
        lowest[x] = own[x]
    for other in range(max(y - radius, 0), min(y + radius + 1, len(smeared))):
        row = smeared[other, start : start + width]
        for x in range(width):
            highest[x] = row[x] if row[x] > highest[x] else highest[x]
        for x in range(width):
            lowest[x] = row[x] if row[x] < lowest[x] else lowest[x]


@compiled
def _find_steep(own: Numbers, highest: Numbers, lowest: Numbers, steep: Flags) -> None:
    """Fill in which pixels of a row, (W,), lie between higher and lower ones beside them."""
    last = len(own) - 1
    steep[0] = _is_steep(own, highest, lowest, 0, 0, min(1, last))
    for left in range(last - 1):
        steep[left + 1] = _is_steep(own, highest, lowest, left, left + 1, left + 2)
    steep[last] = _is_steep(own, highest, lowest, max(last - 1, 0), last, last)


@compiled
def _is_steep(own: Numbers, highest: Numbers, lowest: Numbers, left: int, x: int, right: int) -> bool:
    high = highest[left] if highest[left] > highest[right] else highest[right]
    low = lowest[left] if lowest[left] < lowest[right] else lowest[right]
    high = highest[x] if highest[x] > high else high
    low = lowest[x] if lowest[x] < low else low
    return (high - own[x] > _SLOPE) & (own[x] - low > _SLOPE)
