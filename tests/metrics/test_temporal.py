"""Metrics over time against made movements and loops over pixels."""

import numpy as np
import pytest

from m2svid.errors import UserError
from m2svid.metrics.temporal import Flow, border_ratio, changes, flicker, flows, visible, warping_error
from tests.metrics.made_views import shifted, texture


def moving(frames=4, step=2, size=(64, 96)):
    """(T, H, W, 3) float32: a texture that moves to the left by whole pixels."""
    return np.stack([shifted(texture(*size), step * t) for t in range(frames)]).astype(np.float32) / 255


def test_flow_of_a_moving_texture():
    for offset, seen in flows(moving()):
        inner = offset[12:-12, 12:-12]
        assert np.median(inner[..., 0]) == pytest.approx(-2, abs=0.1)
        assert np.median(inner[..., 1]) == pytest.approx(0, abs=0.1)
        assert seen[12:-12, 12:-12].mean() > 0.9
        assert not seen[:, 0].any()  # leaves the frame


def test_visibility_pixel_by_pixel():
    generator = np.random.default_rng(0)
    forth, back = (generator.normal(0, 0.4, (9, 11, 2)).astype(np.float32) for _ in range(2))
    forth[:, :6] = 1  # flows of whole pixels that agree, and noise
    back[:, 1:7] = -1
    found = visible(forth, back)
    for y in range(1, 7):
        for x in range(5):
            agrees = back[y + 1, x + 1]
            assert np.array_equal(forth[y, x], (1, 1))
            total = ((forth[y, x] + agrees) ** 2).sum()
            border = ((forth[y, x + 1] - forth[y, x]) ** 2).sum() + (
                (forth[y + 1, x] - forth[y, x]) ** 2
            ).sum()
            expected = total <= 0.01 * (2 + (agrees**2).sum()) + 0.5 and border <= 0.01 * 2 + 0.002
            assert found[y, x] == expected, (y, x)
    assert found[2, 2]
    assert not found[2, 8:].any()  # grad f is larger than allowed in noise
    assert not found[-1, :6].any()  # leads out of the frame


def test_warping_error_pixel_by_pixel():
    generator = np.random.default_rng(1)
    video = generator.random((3, 7, 8, 3)).astype(np.float32)
    offset = np.zeros((7, 8, 2), np.float32)
    offset[..., 0] = 1.5
    seen = generator.random((7, 8)) < 0.7
    seen[:, -2:] = False
    mask = generator.random((3, 7, 8)) < 0.5
    expected, expected_inside = [], []
    for t in range(2):
        errors = {
            (y, x): np.square((video[t + 1, y, x + 1] + video[t + 1, y, x + 2]) / 2 - video[t, y, x]).mean()
            for y, x in np.argwhere(seen)
        }
        expected.append(np.mean(list(errors.values())))
        expected_inside.append(np.mean([error for (y, x), error in errors.items() if mask[t, y, x]]))
    flow = [Flow(offset, seen)] * 2
    assert warping_error(video, flow) == pytest.approx(np.mean(expected), rel=1e-5)
    assert warping_error(video, flow, mask) == pytest.approx(np.mean(expected_inside), rel=1e-5)
    assert warping_error(video, flow, np.zeros_like(mask)) is None


def test_warping_error_sees_flashing_and_not_movement():
    steady = moving()
    flashing = steady.copy()
    flashing[1::2] *= 0.8
    along = flows(steady)
    assert warping_error(steady, along) < 1e-4
    assert warping_error(flashing, along) > 20 * warping_error(steady, along)


def test_too_small_for_flow():
    with pytest.raises(UserError, match=r"96×8 pixels are too small for warping_error.*leave it out"):
        flows(moving(size=(8, 96)))


def test_flicker_by_hand():
    video = np.zeros((3, 2, 2, 3), np.float32)
    video[1] = 0.25
    video[1, 0, 0] = 1
    video[2] = 0.5
    # changes: (1 + 3 * 0.25) / 4, then (0.5 + 3 * 0.25) / 4
    assert flicker(video) == pytest.approx((1.75 / 4 + 1.25 / 4) / 2)
    mask = np.zeros((3, 2, 2), bool)
    mask[:, 0, 0] = True
    mask[2, 0, 0] = False  # not in both frames of the second pair
    assert flicker(video, mask) == pytest.approx(1)
    assert flicker(video, ~np.ones_like(mask)) is None
    assert flicker(video[:1]) is None


def test_border_ratio_by_hand():
    video = (
        np.zeros((6, 2, 2, 3), np.float32)
        + np.array([0, 1, 3, 4, 9, 10], np.float32)[:, None, None, None] / 10
    )
    assert changes(video) == pytest.approx([0.1, 0.2, 0.1, 0.5, 0.1])
    assert border_ratio(changes(video), {2}) == pytest.approx(0.2 / 0.2)
    assert border_ratio(changes(video), {2}, left_out={4}) == pytest.approx(0.2 / 0.1)
    assert border_ratio(changes(video), ()) is None
    assert border_ratio(np.zeros(4), {2}) is None
