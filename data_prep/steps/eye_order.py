"""Which of two views is the left eye's.

The sign of the disparities does not tell: converged cameras see what is behind the screen with negative ones,
and so does a pair with its eyes swapped. Occlusion tells: of two surfaces beside each other the one with the
larger disparity is nearer, so a strip that one eye alone sees belongs to the one with the smaller disparity.

Shapes: H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from data_prep.steps.disparity import DisparityRange, match
from data_prep.steps.video import Pair, gray

_NEIGHBOURS = 4  # pixels beside a strip whose colour is compared with the strip's
_SMALLEST_STEP = 2.0  # pixels of disparity
_CLEAR_CONTRAST = 10.0  # of 255: by how much one neighbour must fit better than the other
_CLEAR_VOTE = 2.5  # standard deviations


@dataclass(frozen=True)
class EyeOrder:
    """Evidence for and against the order of the views.

    Attributes:
        positive: share of the matched pixels with a disparity > 0.
        occlusion: standard deviations by which occlusions favour the given order; negative: the other one.
    """

    positive: float
    occlusion: float

    def __str__(self) -> str:
        return f"{self.positive:.0%} positive disparities, occlusions {self.occlusion:+.1f} σ for this order"

    @property
    def verdict(self) -> Literal["right", "swapped"]:
        """By the occlusions where they are clear, by the sign of the disparities where not."""
        if abs(self.occlusion) >= _CLEAR_VOTE:
            return "right" if self.occlusion > 0 else "swapped"
        return "right" if self.positive >= 0.5 else "swapped"


def eye_order(pairs: Sequence[Pair], search: DisparityRange) -> EyeOrder:
    """Measured on row-aligned pairs of (H, W, 3) uint8 views; disparities of either sign, within `search`."""
    swapped = DisparityRange(-search.high, -search.low)
    given, other, signs = [], [], []
    for left, right in ((gray(left), gray(right)) for left, right in pairs):
        disparity, consistent = match(left, right, search)
        signs.append(disparity[consistent] > 0)
        given.append(_votes(left, disparity, consistent))
        other.append(_votes(right, *match(right, left, swapped)))
    return EyeOrder(
        float(np.concatenate(signs).mean()), _deviations(np.concatenate(given), np.concatenate(other))
    )


def _deviations(given: np.ndarray, other: np.ndarray) -> float:
    """Two-proportion z-test: how much more the votes are for one order than for the other."""
    if not len(given) or not len(other):
        return 0.0
    pooled = np.concatenate([given, other]).mean()
    spread = np.sqrt(pooled * (1 - pooled) * (1 / len(given) + 1 / len(other)))
    return float((given.mean() - other.mean()) / spread) if spread else 0.0


def _votes(view: np.ndarray, disparity: np.ndarray, consistent: np.ndarray) -> np.ndarray:
    """One bool a strip without match: True if it looks like its neighbour with the smaller disparity."""
    row, before, after = _strips(consistent)
    step = disparity[row, after] - disparity[row, before]
    # An occluded strip is as wide as the step of disparity at its place.
    occluded = (step >= _SMALLEST_STEP) & (np.abs(after - before - 1 - step) <= _SMALLEST_STEP + step / 2)
    row, before, after = row[occluded], before[occluded], after[occluded]
    sums = np.pad(np.cumsum(view, axis=1, dtype=np.float64), ((0, 0), (1, 0)))

    def mean(begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        return (sums[row, end] - sums[row, begin]) / (end - begin)

    strip = mean(before + 1, after)
    to_smaller = np.abs(strip - mean(before + 1 - _NEIGHBOURS, before + 1))
    to_larger = np.abs(strip - mean(after, after + _NEIGHBOURS))
    clear = np.abs(to_smaller - to_larger) > _CLEAR_CONTRAST
    return (to_smaller < to_larger)[clear]


def _strips(consistent: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, last valid column before and first valid column after each run of at least 2 invalid pixels."""
    width = consistent.shape[1]
    columns = np.arange(width)
    following = np.minimum.accumulate(np.where(consistent, columns, width)[:, ::-1], axis=1)[:, ::-1]
    row, before = np.nonzero(consistent[:, :-1] & ~consistent[:, 1:])
    after = following[row, before + 1]
    inside = (before + 1 >= _NEIGHBOURS) & (after + _NEIGHBOURS <= width) & (after - before > 2)
    return row[inside], before[inside], after[inside]
