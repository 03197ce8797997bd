"""Eye order, row alignment, and what is refused."""

import numpy as np
import pytest

from data_prep.dataset import Rejected
from data_prep.steps.alignment import vertical_offset
from data_prep.steps.checks import check_pairs, find_halves
from data_prep.steps.eye_order import EyeOrder, eye_order
from data_prep.steps.search_range import find_disparities
from tests.data_prep.scenes import pair, texture


def pairs(swap=False, count=4, **options):
    views = [pair(seed=10 * index, **options)[:2] for index in range(count)]
    return [view[::-1] for view in views] if swap else views


def order(views):
    return eye_order(views, find_disparities(views).search)


@pytest.mark.parametrize(("far", "near"), [(4, 14), (-12, -2), (-5, 6)])
def test_occlusions_tell_the_order_whatever_the_sign(far, near):
    right, swapped = order(pairs(far=far, near=near)), order(pairs(far=far, near=near, swap=True))
    assert right.verdict == "right" and right.occlusion > 2.5
    assert swapped.verdict == "swapped" and swapped.occlusion < -2.5
    assert right.positive == pytest.approx(1 - swapped.positive, abs=0.05)


def test_sign_decides_where_occlusions_are_unclear():
    assert EyeOrder(0.9, -1.0).verdict == "right"
    assert EyeOrder(0.1, 1.0).verdict == "swapped"


def test_vertical_offset():
    assert vertical_offset(pairs()).pixels < 0.5
    assert vertical_offset(pairs(offset=4)).pixels == pytest.approx(4, abs=0.5)


def frames(views, axis=1):
    return [np.concatenate(view, axis) for view in views]


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize(("layout", "axis"), [("side-by-side", 1), ("top-bottom", 0)])
def test_layout_and_eye_order_are_found(layout, axis, swap):
    views = pairs()
    found = find_halves(frames(pairs(swap=swap), axis), None, None)
    assert (found.layout, found.swapped) == (layout, swap)
    np.testing.assert_array_equal(found.views(frames(pairs(swap=swap), axis)[0])[0], views[0][0])


def test_what_is_given_is_believed():
    found = find_halves(frames(pairs(swap=True)), "side-by-side", False)
    assert not found.swapped and found.order is None
    with pytest.raises(Rejected, match="no stereo"):
        find_halves(frames(pairs()), "top-bottom", None)


def test_mono_is_rejected_with_the_shares():
    mono = [texture(96, 384, seed) for seed in range(4)]
    with pytest.raises(Rejected, match=r"layout: no stereo: .*\d\.\d% side-by-side, \d\.\d% top-bottom"):
        find_halves(mono, None, None)


def test_good_stereo_passes():
    check_pairs(pairs(), 2.0)
    check_pairs(pairs(far=-5, near=6), 2.0)


def test_unrectified_views_are_rejected():
    with pytest.raises(Rejected, match=r"vertical offset: not rectified: .*4\.\d px.*2 px"):
        check_pairs(pairs(offset=4), 2.0)
    check_pairs(pairs(offset=1), 2.0)


def test_one_picture_twice_is_rejected():
    picture = texture(96, 192, 0)
    with pytest.raises(Rejected, match="parallax: no parallax"):
        check_pairs([(picture, picture.copy())], 2.0)
