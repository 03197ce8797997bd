"""How far two views are from being row-aligned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from data_prep.steps.video import Pair, gray

_FEATURES = 1000
_RATIO = 0.8  # D. Lowe's ratio test, IJCV 2004
_PLAUSIBLE = 0.05  # of the height: matches farther off in y are mismatches


@dataclass(frozen=True)
class VerticalOffset:
    """Vertical distances of matched points.

    Attributes:
        pixels: three quarters of the matches are at most this far apart vertically.
        matches: how many matches that was measured on.
        plausible: share of all matches that are less than 5 % of the height apart; small if the views differ.
    """

    pixels: float
    matches: int
    plausible: float


def vertical_offset(pairs: Sequence[Pair]) -> VerticalOffset:
    """Measured with SIFT on all pairs together; views of (H, W, 3) uint8."""
    height = pairs[0][0].shape[0]
    distance = np.abs(np.concatenate([_vertical_distances(*pair) for pair in pairs]))
    plausible = distance < _PLAUSIBLE * height
    if not plausible.any():
        return VerticalOffset(0.0, 0, 0.0)
    return VerticalOffset(
        float(np.quantile(distance[plausible], 0.75)), int(plausible.sum()), float(plausible.mean())
    )


def _vertical_distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    sift = cv2.SIFT_create(_FEATURES)
    left_points, left_features = sift.detectAndCompute(gray(left), None)
    right_points, right_features = sift.detectAndCompute(gray(right), None)
    if len(left_points) < 2 or len(right_points) < 2:
        return np.zeros(0)
    candidates = cv2.BFMatcher().knnMatch(left_features, right_features, 2)
    best = [first for first, second in candidates if first.distance < _RATIO * second.distance]
    return np.array([right_points[m.trainIdx].pt[1] - left_points[m.queryIdx].pt[1] for m in best])
