"""From the frames of a clip to what a shard holds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data_prep.steps.disparity import DisparityRange, dense_disparity
from data_prep.steps.search_range import find_disparities
from data_prep.steps.shift import crop_even, shift_views
from data_prep.steps.video import Pair

_SAMPLES = 4  # pairs on which the disparity range of a clip is found


@dataclass(frozen=True)
class MatchedClip:
    """Views with disparity.

    Attributes:
        left: (T, 3, H, W) uint8, H and W even.
        right: like left.
        disparity: (T, 1, H, W) float32 px >= 0, seen from the left view, known everywhere.
        matched: share of the pixels whose disparity was matched, not filled.
        shift: pixels that were added to all disparities; the views were wider by that.
        cropped: (rows, columns) cut off because their number was odd.
        search: disparities looked for.
    """

    left: Tensor
    right: Tensor
    disparity: Tensor
    matched: float
    shift: int
    cropped: tuple[int, int]
    search: DisparityRange

    def __str__(self) -> str:
        frames, _, height, width = self.left.shape
        low, high = self.disparity.aminmax()
        shifted = f", views shifted by {self.shift} px to make disparities positive" if self.shift else ""
        cropped = " and ".join(
            f"last {name} cropped to make the size even"
            for count, name in zip(self.cropped, ("row", "column"), strict=True)
            if count
        )
        return (
            f"{frames} frames of {width}×{height}, disparity {low:.1f} to {high:.1f} px, "
            f"{self.matched:.0%} matched{shifted}{cropped and ', '}{cropped}"
        )


def match_clip(pairs: Sequence[Pair], max_disparity: int | None) -> MatchedClip:
    """Makes sizes even and disparities positive, and matches every frame.

    Args:
        pairs: T row-aligned pairs of (H, W, 3) uint8 views.
        max_disparity: largest disparity to look for, pixels; None finds it in some of the pairs.
    """
    height, width = pairs[0][0].shape[:2]
    pairs = [crop_even(pair) for pair in pairs]
    found = find_disparities(pairs[:: -(-len(pairs) // _SAMPLES)])
    pairs = [shift_views(pair, found.shift) for pair in pairs]
    search = found.shifted().search
    if max_disparity is not None:
        search = DisparityRange(min(search.low, 0), max_disparity)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # OpenCV lets other threads run
        matched = list(pool.map(lambda pair: dense_disparity(pair, search), pairs))
    return MatchedClip(
        _video([left for left, _ in pairs]),
        _video([right for _, right in pairs]),
        torch.from_numpy(np.stack([disparity for disparity, _ in matched]))[:, None],
        float(np.mean([consistent.mean() for _, consistent in matched])),
        found.shift,
        (height % 2, width % 2),
        search,
    )


def _video(frames: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
