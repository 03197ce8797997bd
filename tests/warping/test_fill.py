"""The background fill against a walk along each row."""

import numpy as np
import torch

from m2svid.warping.fill import fill_from_background
from m2svid.warping.splat import warp


def slow_fill(warped, hole):
    filled = warped.copy()
    height, width = hole.shape[-2:]
    for y in range(height):
        valid = [x for x in range(width) if not hole[0, y, x]]
        for x in range(width):
            to_the_right = [v for v in valid if v >= x]
            if valid:
                filled[:, y, x] = warped[:, y, to_the_right[0] if to_the_right else valid[-1]]
    return filled


def test_equals_the_walk():
    rng = np.random.default_rng(0)
    warped = rng.integers(0, 256, (5, 3, 7, 19), dtype=np.uint8)
    hole = rng.random((5, 1, 7, 19)) < np.array([0.05, 0.3, 0.6, 0.9, 0.97])[:, None, None, None]
    hole[:, :, 0] = True
    hole[:, :, 1] = False
    filled = fill_from_background(torch.from_numpy(warped), torch.from_numpy(hole)).numpy()
    for frame in range(5):
        np.testing.assert_array_equal(filled[frame], slow_fill(warped[frame], hole[frame]))


def test_takes_the_background_not_the_occluder():
    disparity = torch.full((1, 1, 20), 1.0)
    disparity[..., 8:12] = 5.0
    left = torch.where(disparity > 1, 200.0, 50.0).expand(3, 1, 20)
    warped, hole = warp(left, disparity)
    # The occluder lands on 3..6; 7..10 would have shown what it hid, 19 what lies outside the left view.
    assert hole[0, 0].nonzero().flatten().tolist() == [7, 8, 9, 10, 19]
    filled = fill_from_background(warped, hole)
    assert (filled[:, 0, [7, 8, 9, 10, 19]] == 50).all()
