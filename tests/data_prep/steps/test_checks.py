"""Eye order, row alignment, and what is refused."""

import numpy as np
import pytest

from data_prep.steps.alignment import vertical_offset
from data_prep.steps.checks import check_stereo
from data_prep.steps.eye_order import EyeOrder, eye_order
from data_prep.steps.search_range import find_disparities
from data_prep.steps.video import StereoVideo
from m2svid.errors import UserError
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


def check(views, **options):
    settings = {"check_order": True, "max_vertical_offset": 2.0} | options
    check_stereo(StereoVideo("film.mp4", "side-by-side"), views, **settings)


def test_good_stereo_passes():
    check(pairs())
    check(pairs(far=-5, near=6))


def test_swapped_eyes_are_named_with_the_option():
    with pytest.raises(UserError, match=r"film\.mp4.*swapped.*--swap_eyes true"):
        check(pairs(swap=True))
    check(pairs(swap=True), check_order=False)


def test_unrectified_views_are_refused():
    with pytest.raises(UserError, match=r"film\.mp4.*not rectified.*4\.\d px.*2 px"):
        check(pairs(offset=4))
    check(pairs(offset=1))


def test_unrelated_halves_are_refused_with_the_share():
    views = [(texture(96, 192, seed), texture(96, 192, seed + 100)) for seed in range(4)]
    with pytest.raises(UserError, match=r"film\.mp4.*do not match, \d\.\d% of the pixels"):
        check(views)


def test_one_picture_twice_is_refused():
    picture = texture(96, 192, 0)
    with pytest.raises(UserError, match=r"film\.mp4.*one picture"):
        check([(picture, picture.copy())])


def test_textureless_video_is_refused():
    blank = np.full((96, 192, 3), 128, np.uint8)
    with pytest.raises(UserError, match=r"film\.mp4"):
        check([(blank, blank)])
