"""Matching and filling, against made pairs and a hand-made fill."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from data_prep.steps.disparity import DisparityRange, dense_disparity, match
from data_prep.steps.search_range import find_disparities
from data_prep.steps.shift import crop_even, shift_views
from data_prep.steps.video import gray
from m2svid.warping.matching import fill_from_background
from tests.data_prep.scenes import BOX, WIDTH, pair

SCENES = Path(__file__).parents[3].parent / "shared" / "data"


def test_matched_disparity_is_the_true_one():
    left, right, truth = pair()
    disparity, consistent = dense_disparity((left, right), DisparityRange(0, 20))
    wrong = np.abs(disparity - truth) > 2
    assert wrong.mean() < 0.04
    assert consistent.mean() > 0.8
    # Seen by the left eye only: the wall left of the box, 10 px wide.
    rows, columns = BOX
    occluded = (slice(rows.start + 4, rows.stop - 4), slice(columns.start - 8, columns.start - 3))
    assert not consistent[occluded].any()
    assert np.abs(disparity[occluded] - 4).max() < 2


def test_negative_disparities_are_found_and_shifted():
    left, right, _ = pair(far=-12, near=-2)
    found = find_disparities([(left, right)])
    assert found.low == pytest.approx(-12, abs=1) and found.high == pytest.approx(-2, abs=1)
    assert found.shift == 16
    shifted = shift_views((left, right), found.shift)
    assert shifted[0].shape == shifted[1].shape == (left.shape[0], WIDTH - 16, 3)
    disparity, consistent = match(gray(shifted[0]), gray(shifted[1]), found.shifted().search)
    assert np.median(disparity[consistent]) == pytest.approx(-12 + 16, abs=0.5)
    assert np.median(disparity[32:68, 84:126]) == pytest.approx(-2 + 16, abs=0.5)


def test_positive_disparities_are_not_shifted():
    left, right, _ = pair()
    found = find_disparities([(left, right)])
    assert found.shift == 0 and shift_views((left, right), 0)[0] is left
    assert found.search.low <= 3 and 15 <= found.search.high <= 25


def test_fill_takes_the_smaller_neighbour_of_the_row():
    disparity = np.array([[9, 0, 0, 3, 0], [0, 5, 0, 0, 8], [0, 0, 0, 0, 0]], np.float32)
    filled = fill_from_background(disparity, disparity > 0)
    assert filled.tolist() == [[9, 3, 3, 3, 3], [5, 5, 5, 5, 8], [5, 5, 5, 5, 8]]


def test_fill_equals_a_loop_on_random_masks():
    rng = np.random.default_rng(0)
    disparity = rng.uniform(0, 30, (20, 30)).astype(np.float32)
    valid = rng.uniform(size=(20, 30)) < 0.3
    valid[:, 5] = True  # no empty rows
    expected = disparity.copy()
    for y, x in zip(*np.nonzero(~valid), strict=True):
        before, after = np.flatnonzero(valid[y, :x]), np.flatnonzero(valid[y, x:]) + x
        expected[y, x] = min([disparity[y, i] for i in (*before[-1:], *after[:1])])
    np.testing.assert_array_equal(fill_from_background(disparity, valid), expected)


def test_fill_of_nothing_is_zero():
    assert not fill_from_background(np.ones((2, 3), np.float32), np.zeros((2, 3), bool)).any()


def test_crop_even():
    odd = np.zeros((7, 9, 3), np.uint8)
    assert [view.shape for view in crop_even((odd, odd))] == [(6, 8, 3)] * 2


@pytest.mark.skipif(not SCENES.is_dir(), reason="needs the folder of test videos beside the repository")
def test_real_pair_against_ground_truth():
    folder = SCENES / "adirondack"
    views = [cv2.imread(str(folder / f"Adirondack_{side}.png"))[..., ::-1] for side in ("left", "right")]
    truth = cv2.imread(str(folder / "Adirondack_gt.png"), cv2.IMREAD_GRAYSCALE).astype(np.float32)
    found = find_disparities([tuple(views)])
    disparity, _ = dense_disparity(tuple(views), found.search)
    error = np.abs(disparity - truth)[truth > 0]
    assert (error > 2).mean() < 0.10
    assert error.mean() < 2
