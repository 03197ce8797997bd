"""Numbers of frames and shots against those counted by hand on made parallax."""

import numpy as np
import pytest

from m2svid.comfort.measures import ShotMeter, sampled
from m2svid.comfort.profiles import Placement, open_profile
from m2svid.comfort.verdict import judge
from m2svid.video.shots import Shot

TV = open_profile("tv")


def shot(*maps, rate=4.0, index=0):
    meter = ShotMeter(Shot(index, 0, len(maps)), 0.0, len(maps) / rate)
    for number, parallax in enumerate(maps):
        meter.add(np.float32(parallax), number / rate)
    return meter.result()


def plane(far, near, height=20, width=100):
    """Far on the left, near on the right half."""
    return np.repeat(np.where(np.arange(width) < width // 2, far, near)[None], height, 0)


def test_ends_shares_and_centre_by_hand():
    measured = shot(plane(1.5, -0.5), plane(1.5, -3.0))
    assert measured.ends == pytest.approx((-3.0, 1.5), abs=0.006)
    assert measured.spread.share(-np.inf, -2.5) == 0.25  # a half of one of two frames
    assert [frame.near for frame in measured.frames] == [-0.5, -3.0]
    assert [frame.far for frame in measured.frames] == [1.5, 1.5]
    assert measured.frames[0].centre == pytest.approx(0.5)  # as many far as near pixels in the middle


def test_less_than_a_hundredth_is_no_end():
    parallax = plane(1.0, 1.0)
    parallax[0, :15] = -20.0  # of 2000 pixels
    assert shot(parallax).ends == pytest.approx((1.0, 1.0), abs=0.006)


def test_parallax_of_inverse_depth():
    assert Placement(3.0, 2 / 3).parallax(np.float32([0, 1])) == pytest.approx([2, -1])


def test_speed_over_half_a_second():
    """Near comes 0.1 % nearer from frame to frame, 4 a second; far stays."""
    measured = shot(*[plane(1.0, -0.1 * number) for number in range(9)])
    assert measured.speed == pytest.approx(0.4)
    assert shot(plane(1, 0)).speed == 0
    assert shot(plane(1, 0), plane(2, 0)).speed == pytest.approx(4)  # shorter than half a second


def test_a_jump_is_the_change_of_the_middle():
    before, after = shot(plane(1, 1), plane(0.5, 0.5)), shot(plane(-1.5, -1.5), plane(3, 3), index=1)
    assert after.jump(before) == -2.0
    assert before.jump(None) is None
    assert judge(after, before, TV).notes[-1] == "its middle jumps by -2.0 % at the cut before"
    assert judge(after, shot(plane(-1, -1)), TV).notes == judge(after, None, TV).notes


def test_things_in_front_of_the_screen_violate_the_window_only_at_a_border():
    inside, left, behind = (plane(1.0, 1.0) for _ in range(3))
    inside[5:15, 40:60] = left[5:15, 0:20] = -0.9
    behind[5:15, 0:20] = -0.2  # hardly in front
    assert shot(inside).window == shot(behind).window == (0, 0)
    assert shot(left).window == (0.5, 0)  # half of the height
    assert judge(shot(left), None, TV).notes == (
        "50 % of the left border is in front of the screen and cut off",
    )
    assert judge(shot(inside), None, TV).notes == ()


def test_a_border_that_one_eye_only_sees_is_as_far_as_what_is_beside_it():
    parallax = plane(-1.0, 1.0)
    parallax[:, :6] = parallax[:, -6:] = np.nan
    assert shot(parallax).window == (1, 0)


@pytest.mark.parametrize(
    ("far", "near", "verdict"),
    [
        (2.0, -1.0, "comfortable"),
        (2.0, 1.9, "flat"),
        (0.4, -2.4, "short"),
        (3.9, 1.0, "short"),
        (2.0, -2.0, "strong"),  # 4 % from near to far
        (0.0, -2.9, "strong"),
        (4.5, 3.0, "strong"),
    ],
)
def test_verdicts_of_tv(far, near, verdict):
    assert judge(shot(plane(far, near)), None, TV).name == verdict


def test_frames_in_which_nothing_is_known_have_no_numbers():
    unknown = np.full((20, 100), np.nan)
    measured = shot(plane(1, -0.5), unknown, plane(1, -0.5))
    assert [frame.time for frame in measured.frames] == [0.0, 0.5]
    assert measured.ends == pytest.approx((-0.5, 1), abs=0.006)
    nothing = shot(unknown)
    assert (nothing.ends, nothing.window, nothing.speed, nothing.jump(measured)) == (None, (0, 0), 0, None)
    assert judge(nothing, measured, TV).name == "unknown"


def test_both_frames_at_a_cut_are_measured():
    assert sampled(Shot(0, 10, 30), 24.0) == [10, 16, 22, 28, 29]
    assert sampled(Shot(0, 3, 4), 24.0) == [3]
    assert sampled(Shot(0, 0, 3), 1.0) == [0, 1, 2]
