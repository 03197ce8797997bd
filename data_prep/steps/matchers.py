"""The stereo matchers by name: SGBM here, RAFT and BiDAStereo in files of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_prep.steps.devices import pick_device
from data_prep.steps.disparity import DisparityRange, match
from data_prep.steps.stereo_matcher import Matched, StereoMatcher
from data_prep.steps.video import Pair, gray
from m2svid.errors import UserError


def open_matcher(name: str, weights: Path | None, device: str) -> StereoMatcher:
    """The matcher that `--matcher` names.

    Args:
        name: sgbm, raft or bidastereo.
        weights: file of its weights, if it has some.
        device: auto, cpu or cuda.

    Raises:
        UserError: there is no such matcher, or its weights can't be had.
    """
    if name == "sgbm":
        if weights is not None:
            raise UserError(f"--matcher_weights {weights} is for raft and bidastereo; sgbm has no weights")
        return match_by_sgbm
    if name == "raft":
        from data_prep.steps.raft import Raft  # imports torchvision's models

        return Raft(weights, pick_device(device))
    if name == "bidastereo":
        from data_prep.steps.bidastereo import BiDAStereo

        return BiDAStereo(weights, pick_device(device))
    raise UserError(f"--matcher must be sgbm, raft or bidastereo, not {name!r}")


def match_by_sgbm(pairs: Sequence[Pair], search: DisparityRange) -> Matched:
    """Semi-global matching, each pair alone; see `m2svid.warping.matching`. Its confidence is 0 or 1."""
    found = [match(gray(left), gray(right), search) for left, right in pairs]
    return Matched(
        np.stack([disparity for disparity, _ in found]),
        np.stack([valid for _, valid in found]).astype(np.float32),
    )
