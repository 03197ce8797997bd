"""Disparity of rectified pairs, known at every pixel.

A pixel x of the left view is seen at x - d in the right view. Shapes: H W pixels.
"""

from __future__ import annotations

import numpy as np

from data_prep.steps.video import Pair, gray
from m2svid.warping.matching import DisparityRange, dense, match


def dense_disparity(pair: Pair, search: DisparityRange) -> tuple[np.ndarray, np.ndarray]:
    """Disparity of a pair of (H, W, 3) uint8 views: matched, checked, and made `dense`.

    Returns:
        disparity: (H, W) float32 px >= 0.
        consistent: (H, W) bool, where it was matched; elsewhere it was filled.
    """
    disparity, consistent = match(gray(pair[0]), gray(pair[1]), search)
    return dense(disparity, consistent), consistent
