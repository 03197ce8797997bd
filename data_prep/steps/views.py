"""From row-aligned pairs to views whose disparities are positive, and on to a clip with disparity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from data_prep.dataset import Facts, Rejected, Views
from data_prep.steps.disparity import dense
from data_prep.steps.search_range import find_disparities
from data_prep.steps.shift import crop_even, shift_views
from data_prep.steps.stereo_matcher import StereoMatcher
from data_prep.steps.video import Pair
from m2svid.data.shards import Clip
from m2svid.warping.matching import DisparityRange

MATCHING_SHARE = 0.2  # of the pixels; two views of one scene have 0.3 to 0.9, unrelated pictures below 0.1
LEAST_PARALLAX = 1.0  # pixels between the farthest and the nearest points
LARGEST_VERTICAL_OFFSET = 2.0  # px, as the paper's for points
_SAMPLES = 4  # pairs on which the disparity range of a clip is found


def positive_views(
    key: str,
    pairs: Sequence[Pair],
    fps: Fraction,
    notes: Facts,
    max_disparity: int | None = None,
    points: tuple[float, float] | None = None,
) -> Views:
    """Make the size even and all disparities positive, as the paper does for Ego4D.

    Args:
        key: of the clip.
        pairs: T row-aligned pairs of (H, W, 3) uint8 views.
        fps: exact frame rate.
        notes: how the pairs were made; what is done here is added.
        max_disparity: largest disparity to look for, pixels; None finds it in some of the pairs.
        points: smallest and largest disparity of points that were matched well; None finds them by matching
            some of the pairs densely, where mismatches may make the shift larger than it need be.

    Raises:
        Rejected: the views don't match, or show no parallax.
    """
    height, width = pairs[0][0].shape[:2]
    pairs = [crop_even(pair) for pair in pairs]
    found = find_disparities(pairs[:: -(-len(pairs) // _SAMPLES)])
    if found.consistent < MATCHING_SHARE:
        raise Rejected(
            "matching",
            f"too little matches: {found.consistent:.1%} of the pixels of some frames agree, "
            f"stereo pairs have more than {MATCHING_SHARE:.0%}",
        )
    if found.high - found.low < LEAST_PARALLAX:
        raise Rejected("parallax", f"no parallax: disparities differ by {found.high - found.low:.1f} px only")
    if points is not None:
        found = replace(found, low=points[0], high=points[1])
    search = found.shifted().search
    if max_disparity is not None:
        search = DisparityRange(min(search.low, 0), max_disparity)
    notes = notes | {"disparity_shift": found.shift, "cropped_rows_columns": [height % 2, width % 2]}
    return Views(key, [shift_views(pair, found.shift) for pair in pairs], fps, search, notes)


def match_views(views: Views, matcher: StereoMatcher) -> Clip:
    """Match a clip, fill what has no match, and store it as tensors.

    Raises:
        Rejected: too little matches, or rows are apart for a matcher that looks off them.
    """
    found = matcher(views.pairs, views.search)
    if found.vertical is not None and found.vertical > LARGEST_VERTICAL_OFFSET:
        raise Rejected(
            "vertical offset",
            f"not row-aligned: a quarter of the pixels is more than {found.vertical:.1f} px off its row, "
            f"{LARGEST_VERTICAL_OFFSET:g} px are the most",
        )
    matched = float(found.consistent.mean())
    if matched < MATCHING_SHARE:
        raise Rejected(
            "matching",
            f"too little matches: {matched:.1%} of the pixels agree, at least {MATCHING_SHARE:.0%} must",
        )
    filled = [dense(*frame) for frame in zip(found.disparity, found.consistent, strict=True)]
    notes = {
        "matched_share": round(matched, 4),
        "confidence": round(float(found.confidence.mean()), 4),
        "disparity_search": [views.search.low, views.search.high],
    }
    if found.vertical is not None:
        notes["matched_vertical_px"] = round(found.vertical, 2)
    return Clip(
        views.key,
        _video([left for left, _ in views.pairs]),
        _video([right for _, right in views.pairs]),
        views.fps,
        torch.from_numpy(np.stack(filled))[:, None],
        notes=views.notes | notes,
    )


def _video(frames: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
