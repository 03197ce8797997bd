"""Times of frames: those that can be relied on are kept as they are."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import av
import numpy as np
import pytest

from m2svid.video.read import Video
from m2svid.video.shots import survey
from m2svid.video.times import clock, gaps, repaired, usable
from tests.convert.films import make_film


def test_one_time_given_twice_moves_no_other_frame(tmp_path, caplog):
    times = [0, 100, 200, 350, 500, 800, 1600, 2400, 3300, 4100, 5000, 5900]
    film, copy = make_film(tmp_path / "film.mkv", 12, times=times), tmp_path / "copy.mkv"
    with av.open(str(film)) as source, av.open(str(copy), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.pts = 800 if packet.pts == 1600 else packet.pts
                packet.dts, packet.stream = packet.pts, stream
                target.mux(packet)
    found = survey(Video(copy))
    assert found.times[:5] == tuple(times[:5])
    assert found.times[7:] == tuple(times[7:])
    assert found.times[4] < found.times[5] < found.times[6] < found.times[7]
    assert "1 of 12 frames have no usable time" in caplog.text


@pytest.mark.parametrize("seed", range(20))
def test_as_many_times_as_possible_are_kept(seed):
    times = [int(time) for time in np.random.default_rng(seed).integers(0, 9, 9)]
    kept = usable(times)
    assert [times[index] for index in kept] == sorted({times[index] for index in kept})
    increasing = (len(c) for n in range(10) for c in combinations(times, n) if sorted(set(c)) == list(c))
    assert len(kept) == max(increasing)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, 10, None, 30], (0, 10, 20, 30)),
        ([0, 10, 10, 10, 40], (0, 10, 20, 30, 40)),
        ([0, 10, 9000, 30, 40], (0, 10, 20, 30, 40)),
        ([None, None, 50, 60], (30, 40, 50, 60)),
        ([0, 10, 20, None, None], (0, 10, 20, 30, 40)),
        ([5, 6, 6, 7, 8, 11], (5, 6, 7, 8, 9, 11)),
        ([None, None, None], (0, 10, 20)),
    ],
)
def test_frames_without_a_time_lie_between_the_others(times, expected):
    assert repaired(times, usable(times), Fraction(10)) == expected


def test_gaps_are_seen_where_frames_follow_evenly():
    steady = [index * 40 for index in range(50)]
    assert gaps(steady) == {}
    assert gaps(steady[:10] + steady[13:]) == {10: 3}
    assert gaps([round(index * 41.7) for index in range(50) if index != 20]) == {20: 1}
    assert gaps([0, 40, 55, 140, 141, 300, 333]) == {}
    assert gaps([7]) == {}


def test_a_clock_carries_over():
    assert clock(3723.46) == "1:02:03.5"
    assert clock(59.96) == "0:01:00.0"
