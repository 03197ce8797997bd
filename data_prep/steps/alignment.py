"""Vertical offset of two views that should be row-aligned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_prep.steps.points import Sift
from data_prep.steps.video import Pair

_FEATURES = 1000
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
    sift = Sift(_FEATURES)
    distance = np.abs(np.concatenate([sift(pair).vertical for pair in pairs]))
    plausible = distance < _PLAUSIBLE * height
    if not plausible.any():
        return VerticalOffset(0.0, 0, 0.0)
    return VerticalOffset(
        float(np.quantile(distance[plausible], 0.75)), int(plausible.sum()), float(plausible.mean())
    )
