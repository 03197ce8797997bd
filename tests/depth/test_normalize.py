"""Normalisation of depth, against numpy by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from m2svid.depth.normalize import bounds, limits, normalize, smooth, step


def test_spans_the_shot_and_ignores_wild_values():
    rng = np.random.default_rng(0)
    maps = rng.uniform(3, 8, (6, 40, 50)).astype(np.float32)
    maps[:, 0, 0], maps[:, 2, 2] = 1e6, -1e6
    unit = normalize(maps, smooth(bounds(maps)))
    assert unit.min() == 0 and unit.max() == 1
    np.testing.assert_allclose(np.quantile(unit, [0.25, 0.5, 0.75]), [0.245, 0.5, 0.755], atol=0.02)


def test_constant_depth_is_zero_not_nan():
    maps = np.full((3, 8, 8), 4.2, np.float32)
    assert (normalize(maps, smooth(bounds(maps))) == 0).all()


def test_smoothing_removes_flicker_and_keeps_a_constant():
    steady = np.tile([1.0, 5.0], (40, 1))
    np.testing.assert_allclose(smooth(steady), steady)
    np.testing.assert_allclose(smooth(steady[:1]), steady[:1])
    flicker = steady + 0.5 * (-1.0) ** np.arange(40)[:, None]
    assert np.abs(np.diff(smooth(flicker), axis=0)).max() < 0.03


def test_smoothing_equals_a_direct_sum():
    shot = np.random.default_rng(1).normal(size=(9, 2))
    time = np.arange(9)
    weight = np.exp(-0.5 * ((time[:, None] - time) / 3) ** 2)
    np.testing.assert_allclose(smooth(shot, 3), weight @ shot / weight.sum(1, keepdims=True), rtol=1e-3)


def moving_square(frames):
    """(T, 48, 64) inverse depth: a near square before a slope, moving by a pixel a frame."""
    maps = np.repeat(np.linspace(1, 3, 48, dtype=np.float32)[None, :, None], frames, 0).repeat(64, 2)
    for index in range(frames):
        maps[index, 20:36, 5 + index : 21 + index] = 5
    return maps


def shot_limits(maps):
    steps = [(1.0, 0.0), *(step(now, before) for before, now in pairwise(maps))]
    return limits(bounds(maps), np.array(steps))


def test_a_scale_of_each_frame_does_not_flicker():
    """Whatever an estimator multiplies and adds in each frame, the shot's depth is the same."""
    truth, random = moving_square(40), np.random.default_rng(0)
    scale, shift = random.uniform(0.7, 1.3, (2, 40, 1, 1)).astype(np.float32)
    wanted = normalize(truth, smooth(bounds(truth)))
    made = normalize(scale * truth + shift, shot_limits(scale * truth + shift))
    np.testing.assert_allclose(made, wanted, atol=2e-3)
    still = normalize(scale * truth + shift, smooth(bounds(scale * truth + shift)))
    assert np.abs(still - wanted).mean() > 0.05  # as smoothed bounds alone leave it


def test_noise_does_not_shrink_the_scale_over_a_long_shot():
    """Least squares would: with noise of a tenth of the variance, to 0.9 ** 300 of it."""
    random = np.random.default_rng(0)
    truth = np.linspace(0, 1, 4000).reshape(50, 80)
    noisy = [(truth + random.normal(0, 0.09, truth.shape)).astype(np.float32) for _ in range(301)]
    scales = [step(now, before)[0] for before, now in pairwise(noisy)]
    assert 0.5 < np.prod(scales) < 2


def test_maps_without_depth_keep_the_scale():
    flat = np.full((8, 8), 3, np.float32)
    assert step(flat, moving_square(1)[0][:8, :8]) == (1.0, 0.0)
