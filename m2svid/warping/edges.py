"""Clean edges of depth: what a network, a resize or a codec smears over several pixels becomes one step.

Shapes: ... any leading dimensions, H W pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from m2svid.warping.frames import Numbers, compiled, each_frame

_SHARE = 1 / 170  # of the width that an edge may be smeared to either side: 3 px of 512
_STEP, _SLOPE = 2.0, 0.5  # px: smallest difference across an edge, and to both neighbours of a pixel in it


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
    near, far = (np.ones((size, size), np.uint8) for size in (3, 2 * radius + 1))

    def clean(frame: Tensor, cleaned: Tensor) -> None:
        smeared = frame[0].numpy()
        ends = [change(smeared, size) for size in (near, far) for change in (cv2.dilate, cv2.erode)]
        _snap(smeared, *ends, cleaned[0].numpy())

    cleaned = torch.empty(disparity.shape)
    each_frame(clean, disparity.float().contiguous(), cleaned)
    return cleaned.to(disparity.dtype)


@compiled
def _snap(
    smeared: Numbers, beside_high: Numbers, beside_low: Numbers, high: Numbers, low: Numbers, cleaned: Numbers
) -> None:
    """Fill `cleaned`, (H, W), given the largest and smallest disparity beside each pixel and around it."""
    height, width = smeared.shape
    for y in range(height):
        for x in range(width):
            own = smeared[y, x]
            steep = (beside_high[y, x] - own > _SLOPE) & (own - beside_low[y, x] > _SLOPE)
            if steep and high[y, x] - low[y, x] > _STEP:
                own = high[y, x] if 2 * own >= high[y, x] + low[y, x] else low[y, x]
            cleaned[y, x] = own
