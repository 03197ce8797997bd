"""Matchers of rectified pairs behind one signature.

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from data_prep.steps.disparity import DisparityRange, match
from data_prep.steps.video import Pair, gray
from m2svid.errors import UserError


class StereoMatcher(Protocol):
    """Finds the disparity of the left views of a clip, with a left-right check."""

    def __call__(self, pairs: Sequence[Pair], search: DisparityRange) -> tuple[np.ndarray, np.ndarray]:
        """Match the T pairs of a clip.

        Args:
            pairs: row-aligned views, (H, W, 3) uint8 each.
            search: disparities that occur, for matchers that look through a range.

        Returns:
            disparity: (T, H, W) float32 px, signed: a pixel x of the left view is seen at x - d in the right
                view.
            consistent: (T, H, W) bool, where the right view's disparity leads back; elsewhere it is
                meaningless.
        """


def match_by_sgbm(pairs: Sequence[Pair], search: DisparityRange) -> tuple[np.ndarray, np.ndarray]:
    """Semi-global matching, each pair alone; see `disparity.match`."""
    found = [match(gray(left), gray(right), search) for left, right in pairs]
    return np.stack([disparity for disparity, _ in found]), np.stack([valid for _, valid in found])


def open_matcher(name: str, weights: Path | None, device: str) -> StereoMatcher:
    """The matcher that `--matcher` names.

    Args:
        name: sgbm, raft or bidastereo.
        weights: file of its weights, if it has some.
        device: auto, cpu or cuda.
    """
    if name == "sgbm":
        return match_by_sgbm
    raise UserError(f"--matcher {name} is not there yet; use sgbm")
