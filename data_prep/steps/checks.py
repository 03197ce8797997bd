"""Checks of a video's halves: one scene, row-aligned, with parallax; and how they lie in the frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from data_prep.dataset import Rejected
from data_prep.steps.alignment import vertical_offset
from data_prep.steps.eye_order import EyeOrder, eye_order
from data_prep.steps.search_range import Disparities, find_disparities
from data_prep.steps.video import Layout, Pair, split_views
from data_prep.steps.views import LEAST_PARALLAX, MATCHING_SHARE

_SAME_SCENE = 0.7  # of the matched points within 5 % of the height
_ENOUGH_POINTS = 50


@dataclass(frozen=True)
class Halves:
    """The layout of the views in a frame.

    Attributes:
        layout: of the halves.
        swapped: the right eye's view comes first.
        order: what the order was seen by; None if it was given.
    """

    layout: Layout
    swapped: bool
    order: EyeOrder | None

    def views(self, frame: np.ndarray) -> Pair:
        """Left and right view of a frame, (H, W, 3) uint8 each."""
        first, second = split_views(frame, self.layout)
        return (second, first) if self.swapped else (first, second)


def find_halves(frames: Sequence[np.ndarray], layout: Layout | None, swapped: bool | None) -> Halves:
    """Detect what is not given.

    Args:
        frames: moments of a video, (H, W, 3) uint8.
        layout: of the halves, if it is known.
        swapped: whether the right eye's view comes first, if it is known.

    Raises:
        Rejected: the halves of no layout match: mono, or another layout.
        UserError: the frame can't be halved.
    """
    candidates = (
        [layout] if layout is not None else [name for name in get_args(Layout) if _even(frames, name)]
    )
    matched = {name: _matched(frames, name) for name in candidates}
    best = max(matched, key=lambda name: matched[name].consistent, default=None)
    if best is None or matched[best].consistent < MATCHING_SHARE:
        shares = ", ".join(f"{found.consistent:.1%} {name}" for name, found in matched.items())
        raise Rejected(
            "layout",
            f"no stereo: the halves don't match, only {shares or 'nothing'} of the pixels agree where "
            f"stereo pairs have more than {MATCHING_SHARE:.0%}; is it mono, or another layout?",
        )
    if swapped is not None:
        return Halves(best, swapped, None)
    order = eye_order([split_views(frame, best) for frame in frames], matched[best].search)
    return Halves(best, order.verdict == "swapped", order)


def _even(frames: Sequence[np.ndarray], layout: Layout) -> bool:
    return frames[0].shape[1 if layout == "side-by-side" else 0] % 2 == 0


def _matched(frames: Sequence[np.ndarray], layout: Layout) -> Disparities:
    return find_disparities([split_views(frame, layout) for frame in frames])


def check_pairs(pairs: Sequence[Pair], max_vertical_offset: float) -> None:
    """Check some pairs of (H, W, 3) uint8 views of a video.

    Args:
        pairs: moments of the video.
        max_vertical_offset: a quarter of the matched points may be farther apart, pixels.

    Raises:
        Rejected: the views are not row-aligned, or have no parallax.
    """
    offset = vertical_offset(pairs)
    if (
        offset.matches >= _ENOUGH_POINTS
        and offset.plausible >= _SAME_SCENE
        and offset.pixels > max_vertical_offset
    ):
        raise Rejected(
            "vertical offset",
            f"not rectified: a quarter of the matched points is more than {offset.pixels:.1f} px apart "
            f"vertically, {max_vertical_offset:g} px are accepted",
        )
    found = find_disparities(pairs)
    if found.high - found.low < LEAST_PARALLAX:
        raise Rejected(
            "parallax",
            f"no parallax: both halves are one picture, their disparities differ by "
            f"{found.high - found.low:.1f} px",
        )
