"""Whether a video is what its user takes it for: stereo, row-aligned, left eye first."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from data_prep.steps.alignment import vertical_offset
from data_prep.steps.eye_order import eye_order
from data_prep.steps.search_range import Disparities, find_disparities
from data_prep.steps.video import Pair, StereoVideo
from m2svid.errors import UserError

log = logging.getLogger(__name__)

MATCHING_SHARE = 0.2  # of the pixels; two views of one scene have 0.3 to 0.9, unrelated pictures below 0.1
_SAME_SCENE = 0.7  # of the matched points within 5 % of the height
_ENOUGH_POINTS = 50
_LEAST_PARALLAX = 1.0  # pixels between the farthest and the nearest points


def check_stereo(
    video: StereoVideo, pairs: Sequence[Pair], check_order: bool, max_vertical_offset: float
) -> None:
    """Looks at some pairs of (H, W, 3) uint8 views of a video.

    Args:
        video: where they are from.
        pairs: moments of the video.
        check_order: whether to look at the order of the eyes.
        max_vertical_offset: pixels.

    Raises:
        UserError: the views are not row-aligned, do not show one scene, have no parallax, or are swapped.
    """
    offset = vertical_offset(pairs)
    if (
        offset.matches >= _ENOUGH_POINTS
        and offset.plausible >= _SAME_SCENE
        and offset.pixels > max_vertical_offset
    ):
        raise UserError(
            f"{video.path}: the views are not rectified, a quarter of the matched points is more than "
            f"{offset.pixels:.1f} px apart vertically ({max_vertical_offset:g} px are accepted); rectify it"
        )
    found = find_disparities(pairs)
    _check_match(video.path, found)
    if check_order:
        _check_order(video, pairs, found)


def _check_match(path: Path, found: Disparities) -> None:
    if found.consistent < MATCHING_SHARE:
        raise UserError(
            f"{path}: the two halves do not match, {found.consistent:.1%} of the pixels agree where a stereo "
            f"pair has more than {MATCHING_SHARE:.0%}; is it a stereo video of that --layout?"
        )
    if found.high - found.low < _LEAST_PARALLAX:
        raise UserError(
            f"{path}: the two halves are one picture, their disparities differ by only "
            f"{found.high - found.low:.1f} px; there is no stereo in it"
        )


def _check_order(video: StereoVideo, pairs: Sequence[Pair], found: Disparities) -> None:
    order = eye_order(pairs, found.search)
    log.info("%s: order of the eyes: %s", video.path, order)
    if order.verdict == "swapped":
        raise UserError(
            f"{video.path}: left and right eye look swapped ({order}); give "
            f"--swap_eyes {str(not video.swap_eyes).lower()}, or --check_order false if the order is right"
        )
