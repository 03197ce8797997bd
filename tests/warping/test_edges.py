"""Cleaned depth edges, against steps drawn by hand."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from m2svid.warping.edges import clean_edges

WIDTH = 340  # at which a strength of 1 looks 2 px around


def rows(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.tile(values.astype(np.float32), (9, 1)))[None]


def test_every_pixel_of_a_smeared_edge_goes_to_the_nearer_side():
    smeared = np.where(np.arange(WIDTH) < 100, 20.0, 4.0)
    smeared[98:102] = [18, 14, 10, 6]
    expected = np.where(np.arange(WIDTH) < 100, 20.0, 4.0)
    assert torch.equal(clean_edges(rows(smeared)), rows(expected))
    both = torch.stack([rows(smeared), rows(smeared[::-1].copy())])
    assert torch.equal(clean_edges(both)[1].flip(-1), rows(expected))
    assert torch.equal(clean_edges(rows(smeared), 0), rows(smeared))


def test_what_is_sharp_or_gentle_stays():
    sharp = np.where((np.arange(WIDTH) // 7) % 2, 20.0, 4.0)
    sharp[200] = 30  # thin
    slope = np.arange(WIDTH) * 0.4
    noise = np.random.default_rng(0).uniform(0, 0.9, WIDTH)
    for values in (sharp, slope, 5 + noise):
        assert torch.equal(clean_edges(rows(values)), rows(values))


def test_more_strength_cleans_wider_edges():
    image = np.full((60, WIDTH), 4.0, np.float32)
    image[20:40, 100:200] = 20
    smeared = torch.from_numpy(cv2.GaussianBlur(image, (0, 0), 2))[None]

    def between(disparity: torch.Tensor) -> int:
        return int(((disparity > 5) & (disparity < 19)).sum())

    left = [between(clean_edges(smeared, strength)) for strength in (0, 1, 3)]
    assert left[0] > left[1] > left[2] == 0
    moved = (clean_edges(smeared, 3)[0] > 12).numpy() != (image > 12)
    assert moved.sum() <= 12  # three pixels of every corner are rounded off


def test_equals_opencvs_morphology_up_to_the_borders():
    rng = np.random.default_rng(0)
    smeared = cv2.GaussianBlur((rng.random((40, WIDTH)) * 200).astype(np.float32), (0, 0), 3)
    near, far = np.ones((3, 3)), np.ones((5, 5))
    steep = (cv2.dilate(smeared, near) - smeared > 0.5) & (smeared - cv2.erode(smeared, near) > 0.5)
    high, low = cv2.dilate(smeared, far), cv2.erode(smeared, far)
    snapped = np.where(2 * smeared >= high + low, high, low)
    expected = np.where(steep & (high - low > 2), snapped, smeared)
    assert 0.1 < (expected != smeared).mean() < 0.9 and (expected != smeared)[:, [0, -1]].any()
    np.testing.assert_array_equal(clean_edges(torch.from_numpy(smeared)[None])[0], expected)


def test_a_single_column_stays():
    assert torch.equal(clean_edges(torch.ones(1, 9, 1), 200.0), torch.ones(1, 9, 1))
