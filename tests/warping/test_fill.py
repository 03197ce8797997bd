"""The background fill against a walk along each row; the smooth one on scenes whose filling is known."""

import numpy as np
import torch

from m2svid.warping.fill import fill_from_background, fill_smoothly
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


def test_holes_in_one_color_take_it_to_any_share():
    generator = torch.Generator().manual_seed(0)
    share = torch.rand(2, 1, 40, 50, generator=generator)
    share[share > 0.7], share[share < 0.3] = 1, 0
    warped = torch.full((2, 3, 40, 50), 0.25) + 0.5 * (share == 1)  # what is in holes doesn't matter
    torch.testing.assert_close(fill_smoothly(warped, share), torch.full_like(warped, 0.25))


def test_the_filling_is_of_the_background_and_nothing_else_changes():
    warped = torch.full((3, 64, 512), 50, dtype=torch.uint8)
    warped[:, 20:44, 20:40] = 200
    hole = torch.zeros(1, 64, 512, dtype=torch.bool)
    hole[:, 20:44, 40:48] = True
    hole[:, :, 500:] = True
    warped[hole.expand(3, -1, -1)] = 0
    filled = fill_smoothly(warped, hole)
    outside = ~hole.expand(3, -1, -1)
    assert torch.equal(filled[outside], warped[outside])
    made = filled[:, 20:44, 40:48].float()
    assert (made.mean() - 50).abs() < 10 and made.max() < 100  # halfway would be 125
    assert (filled[:, :, 500:] == 50).all()


def test_stripes_fade_instead_of_streaking():
    warped = torch.full((3, 64, 96), 50.0) / 255
    warped[:, ::2] = 200 / 255
    hole = torch.zeros(1, 64, 96, dtype=torch.bool)
    hole[:, :, 64:] = True
    streaks, filled = (fill(warped, hole)[0, :, -1] for fill in (fill_from_background, fill_smoothly))
    assert streaks.std() > 0.25 and 0.1 < filled.std() / streaks.std() < 0.5


def test_a_view_of_nothing_stays_finite():
    for size in ((1, 1), (1, 9), (7, 5)):
        hole = torch.ones(1, *size, dtype=torch.bool)
        assert fill_smoothly(torch.zeros(3, *size), hole).isfinite().all()
