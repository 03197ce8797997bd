"""What a run says of things that are not as in the source."""

from __future__ import annotations

import io
import json

import av
import numpy as np

from m2svid.convert.report import Reporter
from m2svid.convert.verbs import convert
from tests.convert.films import make_depth, make_film, picture

OPTIONS = {"refine": "none", "progress": "json"}


def test_cover_art_and_further_videos_are_named(tmp_path, capsys):
    plain = make_film(tmp_path / "plain.mp4", 3, sound=1)
    film = tmp_path / "film.mkv"
    with av.open(str(plain)) as source, av.open(str(film), "w") as target:
        copies = [target.add_stream_from_template(stream) for stream in source.streams]
        second = target.add_stream("ffv1", rate=24, width=64, height=48, pix_fmt="yuv420p")
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream_index]
                target.mux(packet)
        target.mux(second.encode(av.VideoFrame.from_ndarray(picture(0, 64, 48), "rgb24")))
        target.mux(second.encode(None))
    convert(str(film), tmp_path / "out.mkv", depth=str(make_depth(tmp_path / "depth.npz", 3)), **OPTIONS)
    assert "stream 2 (another video) is not taken over" in capsys.readouterr().err


def test_padding_is_told(tmp_path, capsys):
    film = make_film(tmp_path / "film.mkv", 2, size=(63, 47), codec="ffv1")
    depth = str(make_depth(tmp_path / "depth.npz", 2))
    convert(str(film), tmp_path / "out.mp4", depth=depth, **OPTIONS)
    assert r"each view from 63\u00d747 to 64\u00d748" in capsys.readouterr().err
    even = make_film(tmp_path / "even.mkv", 2)
    convert(str(even), tmp_path / "even_out.mp4", depth=depth, **OPTIONS)
    assert "padding: each" not in capsys.readouterr().err


def test_interlaced_films_are_told(tmp_path, caplog):
    film = tmp_path / "film.mp4"
    with av.open(str(film), "w") as target:
        flags = {"x264-params": "interlaced=1:log-level=error"}
        stream = target.add_stream("libx264", rate=25, width=64, height=64, options=flags)
        for index in range(2):
            target.mux(stream.encode(av.VideoFrame.from_ndarray(picture(index, 64, 64), "rgb24")))
        target.mux(stream.encode(None))
    np.savez(tmp_path / "depth.npz", depth=np.zeros((2, 64, 64), np.uint8))
    convert(str(film), tmp_path / "out.mp4", depth=str(tmp_path / "depth.npz"), **OPTIONS)
    assert "2 of 2 frames are interlaced: give --deinterlace" in caplog.text


def test_depth_of_every_shot_is_counted_beside_the_frames(tmp_path, capsys):
    film = make_film(tmp_path / "film.mkv", 60, cuts=(20,))
    depth = str(make_depth(tmp_path / "depth.npz", 60))
    convert(str(film), tmp_path / "out.mkv", depth=depth, depth_range="shot", **OPTIONS)
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    steps = [(fact["stage"], fact["done"], fact["total"]) for fact in told if fact["event"] == "progress"]
    first, second = ("depth of shot 1", 20, 20), ("depth of shot 2", 40, 40)
    assert steps.index(first) < steps.index(("frames", 20, 60))
    assert steps.index(second) < steps.index(("frames", 60, 60))
    assert steps[-1] == ("frames", 60, 60)


def test_bars_of_stages_in_one_another():
    report = Reporter("bar")
    report._console.file = io.StringIO()
    with report.stage("frames", 4, 1) as outer:
        with report.stage("depth", 2) as inner:
            inner(2)
            assert [task.completed for task in report._bars._progress.tasks] == [1, 2]
        outer(3)
        (left,) = report._bars._progress.tasks
        assert (left.completed, left.finished) == (4, True)
    assert report._bars._progress is None
    with report.stage("again", 1):
        assert len(report._bars._progress.tasks) == 1
