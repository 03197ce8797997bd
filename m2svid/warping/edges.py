"""Clean edges of depth: what a network, a resize or a codec smears over several pixels becomes one step.

Shapes: ... any leading dimensions, H W pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from m2svid.warping.frames import each_frame

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
        smeared = np.ascontiguousarray(frame[0].float().numpy())
        steep = cv2.dilate(smeared, near) - smeared > _SLOPE
        steep &= smeared - cv2.erode(smeared, near) > _SLOPE
        cleaned.copy_(frame)
        place = np.flatnonzero(steep)
        if not len(place):
            return
        high, low = (change(smeared, far).reshape(-1)[place] for change in (cv2.dilate, cv2.erode))
        snapped = np.where(2 * smeared.reshape(-1)[place] >= high + low, high, low)
        edge = high - low > _STEP
        cleaned.view(-1)[place[edge]] = torch.from_numpy(snapped[edge]).to(cleaned.dtype)

    cleaned = torch.empty_like(disparity, memory_format=torch.contiguous_format)
    each_frame(clean, disparity.contiguous(), cleaned)
    return cleaned
