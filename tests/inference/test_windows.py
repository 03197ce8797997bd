"""Windows over time, against the properties that every plan must have."""

from __future__ import annotations

from itertools import pairwise

import pytest

from m2svid.errors import UserError
from m2svid.inference.windows import plan_windows
from m2svid.video.shots import Shot


def shots(*lengths: int) -> list[Shot]:
    bounds = [sum(lengths[:place]) for place in range(len(lengths) + 1)]
    return [Shot(place, bounds[place], bounds[place + 1]) for place in range(len(lengths))]


@pytest.mark.parametrize("length", [1, 2, 7, 24, 25, 26, 51, 1000])
@pytest.mark.parametrize(("size", "overlap"), [(25, 3), (16, 0), (16, 15), (2, 1), (1, 0)])
def test_every_frame_is_emitted_once_and_in_order(length, size, overlap):
    windows = plan_windows(shots(length, 5, length), size, overlap)
    emitted = [frame for w in windows for frame in range(w.emit_start, w.emit_stop)]
    assert emitted == list(range(2 * length + 5))
    assert [w.index for w in windows] == list(range(len(windows)))


@pytest.mark.parametrize("length", [7, 26, 51, 100])
def test_windows_stay_in_their_shot_and_are_full_where_they_can_be(length):
    cuts = shots(length, 3, length)
    for window in plan_windows(cuts, 25, 3):
        shot = cuts[window.shot]
        assert shot.start <= window.start < window.stop <= shot.stop
        assert window.stop - window.start == min(25, len(shot))


def test_without_overlap_no_window_knows_another():
    assert [(w.start, w.stop, w.known) for w in plan_windows(shots(37), 16, 0)] == [
        (0, 16, 0),
        (16, 32, 0),
        (32, 37, 0),
    ]


def test_known_frames_were_made_by_the_window_before():
    windows = plan_windows(shots(60, 60), 25, 3)
    for before, after in pairwise(windows):
        if after.shot != before.shot:
            assert after.known == after.fade == 0
        else:
            assert before.stop - after.start == after.known + after.fade >= 3
            assert after.fade == 2
            assert after.emit_start == before.emit_stop == before.stop - 2


def test_hand_made_plan():
    """26 frames by 25 with 3: the second window is moved back to be full; it fades over 23 and 24."""
    first, second = plan_windows(shots(26), 25, 3)
    assert (first.start, first.stop, first.emit_start, first.emit_stop) == (0, 25, 0, 23)
    assert (second.start, second.stop, second.known, second.emit_start, second.emit_stop) == (
        1,
        26,
        22,
        23,
        26,
    )


def test_overlap_must_leave_something_to_add():
    with pytest.raises(UserError, match="--overlap must be from 0 to"):
        plan_windows(shots(10), 4, 4)
