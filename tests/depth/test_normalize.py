"""Normalisation of depth, against numpy by hand."""

from __future__ import annotations

import numpy as np

from m2svid.depth.normalize import bounds, normalize, smooth


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
