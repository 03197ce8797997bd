"""The background fill against a walk along each row; the smooth one on scenes whose filling is known."""

import cv2
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


def pyramid_fill(warped, share):
    """(H, W, 3) in [0, 1], (H, W): the same with OpenCV's sizes and a search along each row."""
    height, width = share.shape
    hole, reach = share == 1, width // 16
    weight, color = 1 - share, warped.copy()
    for y, x in np.ndindex(height, width):
        right = [at for at in range(x + 1, width) if not hole[y, at]]
        if hole[y, x]:
            left = [at for at in range(x) if not hole[y, at]]
            weight[y, x], color[y, x] = 0.1, warped[y, right[0] if right else left[-1]]
        elif not hole[y, max(x - reach, 0) : x].any():
            inner = [at for at in range(x, min(x + reach + 1, width)) if hole[y, at]]
            if inner and any(not hole[y, at] for at in range(inner[0], width)):
                weight[y, x] *= 0.1
    levels = [np.dstack([color * weight[..., None], weight]).astype(np.float32)]
    while min(levels[-1].shape[:2]) > 2:
        half = levels[-1].shape[1] // 2, levels[-1].shape[0] // 2
        levels.append(cv2.resize(levels[-1], half, interpolation=cv2.INTER_AREA))
    around = levels[-1][..., :3] / levels[-1][..., 3:]
    for level in reversed(levels[:-1]):
        own = np.minimum(2 * level[..., 3:], 1)
        mean = cv2.resize(around, level.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        around = mean * (1 - own) + level[..., :3] / level[..., 3:].clip(1e-6) * own
    return warped + (around - warped) * share[..., None]


def test_equals_a_pyramid_of_another_library():
    rng = np.random.default_rng(0)
    warped = cv2.GaussianBlur(rng.random((32, 128, 3), dtype=np.float32), (0, 0), 2)
    share = np.zeros((32, 128), np.float32)
    share[4:20, 30:44] = share[10:28, 52:55] = share[:, 120:] = share[7, 10:100:9] = 1
    share[4:20, 44] = share[25:30, 80:90] = 0.3
    filled = fill_smoothly(torch.from_numpy(warped).permute(2, 0, 1), torch.from_numpy(share)[None])
    np.testing.assert_allclose(filled.permute(1, 2, 0), pyramid_fill(warped, share), atol=2e-5)


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
