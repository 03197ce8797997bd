"""The warp against a slow pixel-by-pixel calculation, on scenes that provoke ties, overlaps and edges."""

import math

import numpy as np
import pytest
import torch

from m2svid.errors import UserError
from m2svid.warping.splat import warp

H, W = 6, 23


def slow_warp(left, disparity):
    """One frame, (3, H, W) and (1, H, W); a z-buffer for each of the two splats, then the weighted mean."""
    _, height, width = left.shape
    colours, depths = left.astype(np.float32), disparity[0].astype(np.float32)
    warped, hole = np.zeros(left.shape, np.float32), np.ones((1, height, width), bool)
    for y in range(height):
        nearest = [[None] * width, [None] * width]  # the (d, weight, colour) of each target
        for x in range(width):
            d = depths[y, x]
            fraction = np.float32(d - np.floor(d))
            for buffer, shift, weight in ((0, math.floor(d), 1 - fraction), (1, math.floor(d) + 1, fraction)):
                target = x - shift
                if target >= 0 and (nearest[buffer][target] is None or d > nearest[buffer][target][0]):
                    nearest[buffer][target] = (d, np.float32(weight), colours[:, y, x])
        for target in range(width):
            hits = [buffer[target] for buffer in nearest if buffer[target] is not None]
            total = sum((weight for _, weight, _ in hits), np.float32(0))
            if total > 0:
                warped[:, y, target] = sum(weight * colour for _, weight, colour in hits) / total
                hole[0, y, target] = False
    return warped.astype(left.dtype), hole


def scene(name, rng):
    x = np.broadcast_to(np.arange(W, dtype=np.float32), (1, H, W))
    if name == "random":
        return rng.uniform(0, 9, (1, H, W))
    if name == "integers":
        return rng.integers(0, 5, (1, H, W))
    if name == "ties":  # few values, so that many sources share a depth
        return rng.choice([0.0, 1.5, 2.25, 4.0], (1, H, W))
    if name == "thin":  # one-pixel poles in front of a far plane
        return np.where(x % 5 == 2, 6.3, 1.2)
    if name == "slope":
        return 0.37 * x
    if name == "steep slope":  # folds over: farther right is nearer by more than a pixel a pixel
        return 1.8 * x
    if name == "falling slope":  # stretches: opens holes inside one surface
        return 0.9 * (W - 1 - x)
    if name == "beyond":
        return rng.choice([0.5, W - 0.5, W, W + 1.25, 3.0 * W, 1e12], (1, H, W))
    return np.zeros((1, H, W))


SCENES = ["random", "integers", "ties", "thin", "slope", "steep slope", "falling slope", "beyond", "zero"]


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_equals_the_slow_calculation(name, dtype):
    rng = np.random.default_rng(SCENES.index(name))
    left = rng.integers(1, 256, (3, H, W)).astype(dtype)
    disparity = scene(name, rng).astype(np.float32)
    expected, expected_hole = slow_warp(left, disparity)
    warped, hole = warp(torch.from_numpy(left), torch.from_numpy(disparity))
    np.testing.assert_array_equal(hole.numpy(), expected_hole)
    np.testing.assert_array_equal(warped.numpy(), expected)


def test_moves_left_by_whole_pixels_and_opens_the_right_border():
    left = torch.arange(1, 9, dtype=torch.uint8).expand(3, 2, 8)
    warped, hole = warp(left, torch.full((1, 2, 8), 3.0))
    assert warped[0, 0].tolist() == [4, 5, 6, 7, 8, 0, 0, 0]
    assert hole[0, 0].tolist() == [False] * 5 + [True] * 3


def test_leading_dimensions_are_independent_frames():
    generator = torch.Generator().manual_seed(0)
    left = torch.rand(2, 3, H, W, 3, generator=generator).movedim(
        -1, 2
    )  # as decoders give it: not contiguous
    disparity = torch.rand(2, 3, 1, H, W, generator=generator) * 6
    warped, hole = warp(left, disparity)
    for b in range(2):
        for t in range(3):
            alone, alone_hole = warp(left[b, t], disparity[b, t])
            assert torch.equal(warped[b, t], alone) and torch.equal(hole[b, t], alone_hole)


def test_half_precision_stays_half_but_is_calculated_in_float32():
    left = torch.rand(3, H, W, dtype=torch.float16)
    disparity = torch.full((1, H, W), 700.3, dtype=torch.float16).fmod(5)
    warped, _ = warp(left, disparity)
    assert warped.dtype == torch.float16
    assert torch.equal(warped, warp(left.float(), disparity.float())[0].half())


@pytest.mark.parametrize("value", [-0.01, float("nan"), float("inf"), -float("inf")])
def test_refuses_impossible_disparity(value):
    disparity = torch.ones(1, H, W)
    disparity[0, 2, 3] = value
    with pytest.raises(UserError, match="disparity must be finite and >= 0"):
        warp(torch.zeros(3, H, W), disparity)


@pytest.mark.parametrize("shape", [(H, W), (1, H, W + 1), (2, 1, H, W), (3, H, W)])
def test_refuses_shapes_that_do_not_belong_together(shape):
    with pytest.raises(UserError, match=r"disparity must be \(1, 6, 23\)"):
        warp(torch.zeros(3, H, W), torch.zeros(shape))
    with pytest.raises(UserError, match="left must be"):
        warp(torch.zeros(4, H, W), torch.zeros(1, H, W))


def test_refuses_integer_disparity():
    with pytest.raises(UserError, match="floating point"):
        warp(torch.zeros(3, H, W), torch.zeros(1, H, W, dtype=torch.int64))


def test_no_frames_in_no_frames_out():
    warped, hole = warp(torch.zeros(0, 3, H, W), torch.zeros(0, 1, H, W))
    assert warped.shape == (0, 3, H, W) and hole.shape == (0, 1, H, W)
