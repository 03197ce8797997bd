"""The warp equals the published one to the last bit."""

from pathlib import Path

import numpy as np
import torch

from m2svid.warping.splat import warp

FIXTURE = Path(__file__).parent / "fixtures" / "warp.npz"


def test_warped_view_and_hole_are_identical():
    with np.load(FIXTURE) as fixture:
        left, warped = (torch.from_numpy(fixture[name]).movedim(-1, 1) for name in ("left", "warped"))
        disparity, hole = (torch.from_numpy(fixture[name])[:, None] for name in ("disparity", "hole"))
    ours, ours_hole = warp(left, disparity)
    assert torch.equal(ours_hole, hole)
    assert torch.equal(ours, warped)
