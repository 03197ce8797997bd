"""Interlaced films: told, and made whole on request."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from m2svid.convert.verbs import convert
from m2svid.video.read import Video
from m2svid.video.shots import survey
from tests.convert.films import make_depth, read_luma, read_times


def make_interlaced(path: Path, frames: int = 30) -> Path:
    """A bar that moves by 4 px a field: the lines of a frame are of two moments."""
    options = {"x264-params": "tff=1:log-level=error:keyint=8", "qp": "8"}
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=25, width=128, height=96, options=options)
        for index in range(frames):
            luma = np.full((96, 128), 60, np.uint8)
            for field in (0, 1):
                place = 4 * (2 * index + field) % 100
                luma[field::2, place : place + 20] = 200
            frame = av.VideoFrame(128, 96, "yuv420p")
            for plane, value in zip(frame.planes, (luma, 128, 128), strict=True):
                np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width] = value
            frame.pts, frame.time_base = index, Fraction(1, 25)
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return path


def combs(luma: np.ndarray) -> float:
    """How much lines differ from the mean of the two around them."""
    luma = luma.astype(float)
    return np.abs(luma[:, 1:-1] - (luma[:, :-2] + luma[:, 2:]) / 2).mean()


def test_on_request_frames_are_made_whole_and_keep_their_times(tmp_path, caplog):
    film = make_interlaced(tmp_path / "film.mp4")
    depth = str(make_depth(tmp_path / "depth.npz", 30))
    options = {"depth": depth, "refine": "none", "progress": "quiet", "codec": "ffv1"}
    convert(str(film), tmp_path / "out.mkv", deinterlace=True, **options)
    assert "interlaced" not in caplog.text
    made = read_luma(tmp_path / "out.mkv")[:, :, :128]
    assert combs(made) < 0.1 * combs(read_luma(film))
    source = read_times(film)
    assert [round(time * 25) for time in read_times(tmp_path / "out.mkv")] == [round(t * 25) for t in source]
    convert(str(film), tmp_path / "combed.mkv", **options)
    assert "30 of 30 frames are interlaced: give --deinterlace" in caplog.text


def test_a_film_entered_in_the_middle_gives_the_same_frames(tmp_path):
    video = Video(make_interlaced(tmp_path / "film.mp4"), deinterlace=True)
    found = survey(video, find_cuts=False)
    whole = [frame.raw.to_ndarray() for frame in video.frames()]
    assert len(whole) == 30
    assert len(found.keys) > 2
    for start in (1, 8, 9, 17, 29):
        for frame in found.frames(video, start):
            np.testing.assert_array_equal(frame.raw.to_ndarray(), whole[frame.index])
