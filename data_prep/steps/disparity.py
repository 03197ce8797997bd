"""Disparity of rectified pairs, known at every pixel.

A pixel x of the left view is seen at x - d in the right view. Shapes: H W pixels.
"""

from __future__ import annotations

import cv2
import numpy as np

from data_prep.steps.video import Pair, gray
from m2svid.warping.matching import DisparityRange, fill_from_background, match

_MEDIAN = 5  # pixels
_FILLING_MEDIAN = 21  # pixels


def dense_disparity(pair: Pair, search: DisparityRange) -> tuple[np.ndarray, np.ndarray]:
    """Disparity of a pair of (H, W, 3) uint8 views: matched, checked, and made `dense`.

    Returns:
        disparity: (H, W) float32 px >= 0.
        consistent: (H, W) bool, where it was matched; elsewhere it was filled.
    """
    disparity, consistent = match(gray(pair[0]), gray(pair[1]), search)
    return dense(disparity, consistent), consistent


def dense(disparity: np.ndarray, consistent: np.ndarray) -> np.ndarray:
    """Fill unmatched pixels from the background and smooth.

    What is found below 0, down to the search's low end, is infinitely far but for the error of matching: 0.

    Args:
        disparity: (H, W) float32 px.
        consistent: (H, W) bool, where it was matched.

    Returns:
        (H, W) float32 px >= 0.
    """
    filled = fill_from_background(disparity, consistent).clip(min=0)
    return cv2.medianBlur(_without_streaks(filled, consistent), _MEDIAN)


def _without_streaks(filled: np.ndarray, consistent: np.ndarray) -> np.ndarray:
    """Lowers what was filled to the median around it: rows that found a wrong neighbour stand out."""
    unit = max(float(filled.max()), 1.0) / 255  # a large median takes 8 bits
    coarse = cv2.medianBlur(np.rint(filled / unit).astype(np.uint8), _FILLING_MEDIAN) * np.float32(unit)
    return np.where(consistent, filled, np.minimum(filled, coarse))
