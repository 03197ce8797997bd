"""Matchers of rectified pairs behind one signature.

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from data_prep.steps.disparity import DisparityRange
from data_prep.steps.video import Pair

Maps = NDArray[np.float32]
TOLERANCE = 1.0  # px, by which left and right view may disagree


@dataclass(frozen=True)
class Matched:
    """Disparity of the left views of a clip.

    Attributes:
        disparity: (T, H, W) float32 px, signed: a pixel x of the left view is seen at x - d in the right
            view.
        confidence: (T, H, W) float32, from 1 where the right view's disparity leads back exactly, down to 0;
            at least `CONSISTENT` where it leads back to within `TOLERANCE`. Elsewhere the disparity is
            meaningless.
        vertical: px by which rows are apart, but for the worst quarter of the consistent pixels; None where
            the matcher looks along rows only.
    """

    disparity: Maps
    confidence: Maps
    vertical: float | None = None

    @property
    def consistent(self) -> NDArray[np.bool_]:
        """(T, H, W), True where both views agree."""
        return self.confidence >= CONSISTENT


CONSISTENT = np.float32(0.5)


class StereoMatcher(Protocol):
    """Find the disparity of the left views of a clip, with a left-right check."""

    def __call__(self, pairs: Sequence[Pair], search: DisparityRange) -> Matched:
        """Match the T pairs of a clip.

        Args:
            pairs: row-aligned views, (H, W, 3) uint8 each.
            search: disparities that occur, for matchers that look through a range.
        """


def left_right_confidence(from_left: Maps, from_right: Maps) -> Maps:
    """The agreement of two views' disparities.

    Args:
        from_left: (T, H, W) px, seen from the left view.
        from_right: (T, H, W) px, seen from the right view, of the same sign.

    Returns:
        (T, H, W) float32: 1 / (1 + e²) of the difference e in units of `TOLERANCE`, 0 outside the right view.
    """
    width = from_left.shape[-1]
    target = np.arange(width, dtype=np.float32) - from_left
    floor = np.floor(target).clip(0, width - 2).astype(np.int64) if width > 1 else np.zeros_like(target, int)
    share = (target - floor).clip(0, 1)
    near, next_ = (np.take_along_axis(from_right, np.minimum(floor + step, width - 1), -1) for step in (0, 1))
    back = near * (1 - share) + next_ * share
    inside = (target >= -0.5) & (target <= width - 0.5)
    return np.where(inside, 1 / (1 + ((from_left - back) / TOLERANCE) ** 2), 0).astype(np.float32)


def in_windows(run: Callable[[int, int], Maps], count: int, window: int, overlap: int) -> Maps:
    """Run a matcher of several frames on a long clip; where windows overlap, the later one comes in linearly.

    Args:
        run: gives the maps (T, ...) of the frames from one number to another.
        count: frames of the clip.
        window: frames that it sees together, at most.
        overlap: frames that neighbouring windows share, less than the window.

    Returns:
        (count, ...) maps.
    """
    result = run(0, min(window, count))
    while len(result) < count:
        begin = len(result) - overlap
        # The last window is moved back rather than short: every frame has as many neighbours.
        begin = max(0, min(begin, count - window))
        later = run(begin, min(begin + window, count))
        shared = len(result) - begin
        weight = np.linspace(0, 1, shared + 2, dtype=np.float32)[1:-1].reshape(-1, *[1] * (result.ndim - 1))
        result[begin:] = result[begin:] * (1 - weight) + later[:shared] * weight
        result = np.concatenate([result, later[shared:]])
    return result
