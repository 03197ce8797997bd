"""Drawn surfaces, against a walk along every row with 64 samples a pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from m2svid.warping.surface import TEAR, warp_surfaces

SAMPLES = 64


def walk(left: np.ndarray, disparity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(W,) gray, (W,) px -> mean colour of what is seen in each pixel, and the share where nothing is."""
    width = len(left)
    place = np.arange(width) - disparity
    color, seen = np.zeros((2, width, SAMPLES))
    for target in range(width):
        for sample in range(SAMPLES):
            t = target - 0.5 + (sample + 0.5) / SAMPLES
            for x in reversed(range(width)):  # the last source is the nearest
                gap = place[x + 1] - place[x] if x + 1 < width else np.inf
                if 0 < gap <= TEAR and place[x] <= t < place[x + 1]:
                    color[target, sample] = left[x] + (left[x + 1] - left[x]) * (t - place[x]) / gap
                elif abs(t - place[x]) > 0.5:
                    continue
                else:
                    color[target, sample] = left[x]
                seen[target, sample] = 1
                break
    return color.sum(1) / seen.sum(1).clip(1), 1 - seen.mean(1)


def drawn(left: np.ndarray, disparity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    image = torch.from_numpy(left.astype(np.float32)).expand(3, 1, -1) / 255
    warped, hole = warp_surfaces(image, torch.from_numpy(disparity.astype(np.float32))[None, None])
    assert torch.equal(warped[0], warped[1])
    return warped[0, 0].numpy() * 255, hole[0, 0].numpy()


@pytest.mark.parametrize(("near", "far"), [(9.0, 2.0), (9.25, 2.0), (9.6, 2.3), (8.5, 1.75), (9.9, 0.1)])
def test_equals_the_walk_at_any_fraction_of_a_pixel(near, far):
    disparity = np.full(48, far)
    disparity[20:32] = near
    left = np.where(disparity == near, 200.0, 50.0)
    color, hole = walk(left, disparity)
    found, share = drawn(left, disparity)
    np.testing.assert_allclose(share[1:-1], hole[1:-1], atol=1.5 / SAMPLES)
    np.testing.assert_allclose((found * (share < 1))[1:], (color * (hole < 1))[1:], atol=3)
    assert 0 < share.sum() < 20


def test_a_slanted_surface_hides_what_is_behind_it():
    disparity = np.full(64, 1.0)
    disparity[10:40] = 20 - 0.5 * np.arange(30)  # stretched to 1.5 times its width
    left = np.where(disparity > 1, 200.0, 50.0)
    left[5] = 90
    found, share = drawn(left, disparity)
    place = np.arange(64) - disparity
    inner = np.arange(int(np.ceil(max(place[10], 0))), int(place[39]))
    assert (found[inner] == 200).all() and (share[inner] == 0).all()


def test_smooth_depth_is_interpolated():
    x = np.arange(64)
    disparity = 4 + 3 * np.sin(x / 9)
    left = 100 + 50 * np.sin(x / 5)
    found, share = drawn(left, disparity)
    place = x - disparity
    assert (np.diff(place) > 0).all()
    inside = np.arange(1, 58)
    np.testing.assert_allclose(found[inside], np.interp(inside, place, left), atol=0.01)
    assert not share[inside].any()


def test_a_pixel_of_the_outline_left_on_the_background_is_dropped():
    disparity = np.full(48, 2.0)
    disparity[20:30] = 12.0
    left = np.where(disparity == 12, 200.0, 50.0)
    hole = drawn(left, disparity)[1]
    left[30] = 180  # of the foreground, but for its disparity
    ghost, wider = drawn(left, disparity)
    assert hole[28] == 0 and wider[28] == 1
    assert ghost.max() == 200 and 180 not in ghost
    left[30] = 70
    np.testing.assert_array_equal(drawn(left, disparity)[1], hole)


def test_frames_of_any_type_and_arrangement_are_drawn_alike():
    generator = torch.Generator().manual_seed(0)
    left = torch.randint(0, 256, (2, 2, 3, 20, 40), generator=generator, dtype=torch.uint8)
    disparity = torch.rand(2, 2, 1, 20, 40, generator=generator) * 3
    disparity[..., 5:12, 10:20] += 6
    warped, hole = warp_surfaces(left, disparity)
    assert warped.dtype == torch.uint8 and warped.shape == left.shape and hole.shape == disparity.shape
    floating, share = warp_surfaces(left.float() / 255, disparity)
    assert torch.equal(hole, share)
    assert (warped - floating * 255).abs().max() <= 1.01  # rounded again where edges are mixed
    alone, _ = warp_surfaces(left[1, 0], disparity[1, 0])
    assert torch.equal(alone, warped[1, 0])
