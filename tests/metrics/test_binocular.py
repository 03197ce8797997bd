"""Metrics of both eyes against hand-made cases and the published formulas, written out pixel by pixel."""

import numpy as np
import pytest

from m2svid.metrics.binocular import color_difference, disparity_errors, ematch_sift, siou
from tests.metrics.made_views import shifted, texture


def flat(*levels, size=(64, 64)):
    """A video of gray frames."""
    return np.stack([np.full((*size, 3), level, np.uint8) for level in levels])


def with_square(level, left, size=64):
    frame = np.zeros((size, size, 3), np.uint8)
    frame[16:48, left : left + 24] = level
    return frame


def test_siou_of_the_reference_points():
    left, right = with_square(200, 20)[None], with_square(200, 12)[None]
    assert siou(right, right, left) == 1
    # The left view as prediction: no pixel differs from left, so only edges can count.
    assert siou(left, right, left) < 0.25
    assert siou(left, left, left) == 0.75  # no difference anywhere: an IoU of nothing is 0


def test_siou_counts_differences_by_hand():
    # No edges at all, so 0.25 D. Against left = 100: truth differs in columns 0..31, prediction in 16..47.
    left, truth, prediction = (flat(100) for _ in range(3))
    truth[:, :, :32] += 6
    prediction[:, :, 16:48] += 6
    assert siou(prediction, truth, left) == pytest.approx(0.25 * 16 / 48)
    truth[:, :, :32] -= 1  # a difference of 5 is none
    assert siou(prediction, truth, left) == 0


def test_siou_wraps_round_as_published():
    # Darker than left by 3: |difference| 3 is none, but 253 modulo 256.
    left, darker = flat(100), flat(97)
    assert siou(darker, darker, left) == 0
    assert siou(darker, darker, left, wrapped=True) == 0.25


def test_siou_is_the_mean_over_frames():
    left = np.concatenate([with_square(200, 20)[None]] * 2)
    right = np.concatenate([with_square(200, 12)[None]] * 2)
    mixed = np.stack([right[0], left[0]])
    assert siou(mixed, right, left) == pytest.approx((1 + siou(left[:1], right[:1], left[:1])) / 2)


def test_ematch_reference_points():
    left = texture(192, 256)[None]
    right = shifted(left[0], 8)[None]
    assert ematch_sift(right, right, left) == 0
    # Horizontal shifts don't matter, vertical ones beyond 2 px at 768 px do, another picture has no match.
    assert ematch_sift(shifted(left[0], 16)[None], right, left) < 15
    assert ematch_sift(shifted(left[0], 8, rows=4)[None], right, left) > 90
    assert ematch_sift(texture(192, 256, seed=1)[None], right, left) > 90
    assert ematch_sift(flat(0), flat(0), flat(0)) is None


def test_ematch_counts_the_left_keypoints_that_lose_their_match():
    """Half of the right view is blank: what was matched there is lost, what wasn't stays."""
    left = texture(192, 256)[None]
    right = shifted(left[0], 8)[None]
    blank = right.copy()
    blank[:, :, 128:] = 128
    assert 35 < ematch_sift(blank, right, left) < 65


def test_disparity_errors_of_a_known_shift():
    left = texture(96, 256, smooth=2)[None]
    truth, ours = shifted(left[0], 8)[None], shifted(left[0], 10)[None]
    errors = disparity_errors(ours, truth, left)
    assert errors["epe"] == pytest.approx(2, abs=0.1)
    assert errors["d1"] < 0.02
    assert errors["matched"] > 0.9
    errors = disparity_errors(shifted(left[0], 12)[None], truth, left)
    assert errors["epe"] == pytest.approx(4, abs=0.1)
    assert errors["d1"] > 0.97  # 4 px is more than 3 px and more than 5 % of 8
    same = disparity_errors(truth, truth, left)
    assert (same["epe"], same["d1"], same["matched"]) == (0, 0, 1)


def test_disparity_errors_without_a_match():
    left = texture(96, 256, smooth=2)[None]
    truth, noise = shifted(left[0], 8)[None], texture(96, 256, seed=5, smooth=1)[None]
    assert disparity_errors(noise, truth, left)["matched"] < 0.2
    nothing = disparity_errors(truth, noise, left)
    assert nothing["matched"] is None or nothing["matched"] < 1


def lab(rgb):
    """CIELAB of sRGB in [0, 1] after IEC 61966-2-1 and CIE 15, white D65."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
    xyz = linear @ np.array(matrix).T / (0.950456, 1, 1.088754)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def test_color_difference_is_cie76_of_the_means():
    video, left = (np.stack([texture(40, 48, seed), texture(40, 48, seed + 1)]) for seed in (0, 2))
    video = video // 2 + 60
    means = [lab(frames / 255).mean((1, 2)) for frames in (video, left)]
    expected = np.sqrt(np.square(means[0] - means[1]).sum(-1)).mean()
    assert color_difference(video, left) == pytest.approx(expected, abs=0.02)
    assert color_difference(left, left) == 0
