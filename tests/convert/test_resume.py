"""Interrupted conversions end in the same file as uninterrupted ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from m2svid.convert import stereo_makers
from m2svid.convert.runner import Runner
from m2svid.convert.verbs import convert
from m2svid.convert.work_folder import WorkFolder
from m2svid.errors import UserError
from tests.convert.films import make_depth, make_film

ROOT = Path(__file__).parents[2]
CALL = (
    "import json, sys; from pathlib import Path; from m2svid.convert.verbs import convert;"
    "o = json.loads(sys.argv[1]); convert(output=Path(o.pop('output')), **o)"
)


@pytest.mark.parametrize(
    "chosen", [{"depth_range": "shot"}, {"max_disparity": "auto", "convergence": "auto"}]
)
def test_killed_run_continues_to_the_identical_file(tmp_path, chosen):
    film = make_film(tmp_path / "film.mkv", 180, size=(160, 120), cuts=(97,), sound=1)
    depth = make_depth(tmp_path / "depth.npz", 180)
    options = {
        "input": str(film),
        "depth": str(depth),
        "refine": "none",
        "progress": "quiet",
        **chosen,
    }
    straight, broken = tmp_path / "straight.mp4", tmp_path / "broken.mp4"
    convert(output=straight, **options)

    process = subprocess.Popen(
        [sys.executable, "-c", CALL, json.dumps(options | {"output": str(broken)})], cwd=ROOT
    )
    pieces = tmp_path / "broken.mp4.work" / "film"
    while len(list(pieces.glob("*.npz"))) < 2:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not broken.exists()
    kept = {piece: piece.stat().st_mtime_ns for piece in pieces.glob("*.npz")}
    assert kept

    convert(output=broken, **options)
    assert broken.read_bytes() == straight.read_bytes()
    assert not pieces.exists()


def test_an_interrupted_run_says_how_to_go_on(tmp_path):
    film = make_film(tmp_path / "film.mkv", 300, size=(320, 240))  # long enough to be interrupted
    depth = make_depth(tmp_path / "depth.npz", 300)
    command = [sys.executable, "-m", "m2svid", "convert", str(film), "-o", str(tmp_path / "out.mp4")]
    options = ["--refine", "none", "--depth", str(depth)]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    process = subprocess.Popen(command + options, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    pieces = tmp_path / "out.mp4.work" / "film"
    while not list(pieces.glob("*.npz")):
        assert process.poll() is None, "the run ended before it could be interrupted"
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate()
    assert process.returncode == 130
    assert "out.mp4.work keeps what is done: the same command continues it" in told.replace("\n", "")
    assert "Traceback" not in told and not (tmp_path / "out.mp4").exists()


def test_finished_windows_are_not_made_again(tmp_path, monkeypatch):
    film = make_film(tmp_path / "film.mp4", 100)
    options = {"depth": str(make_depth(tmp_path / "depth.npz", 100)), "refine": "none", "progress": "quiet"}
    made = []
    whole = WorkFolder.remove

    def stop_at_the_end(self):
        made.extend(sorted((self.path / "film").iterdir()))

    monkeypatch.setattr(WorkFolder, "remove", stop_at_the_end)
    convert(str(film), tmp_path / "out.mp4", **options)
    first = (tmp_path / "out.mp4").read_bytes()
    (tmp_path / "out.mp4").unlink()
    made[1].unlink()  # as if the run had died before this window
    times = {piece: piece.stat().st_mtime_ns for piece in made if piece.exists()}
    convert(str(film), tmp_path / "out.mp4", **options)
    assert {piece: piece.stat().st_mtime_ns for piece in times} == times
    assert (tmp_path / "out.mp4").read_bytes() == first
    monkeypatch.setattr(WorkFolder, "remove", whole)


def test_changed_settings_are_refused_unless_restarted(tmp_path):
    with WorkFolder(tmp_path / "out.mp4", {"crf": 18}) as work:
        work.save_tail(0, np.zeros(3))
    with (
        pytest.raises(UserError, match=r"crf was 18, is 20.*--restart"),
        WorkFolder(tmp_path / "out.mp4", {"crf": 20}),
    ):
        pass
    with WorkFolder(tmp_path / "out.mp4", {"crf": 18}) as work:
        assert work.load_tail(0).shape == (3,)
    with WorkFolder(tmp_path / "out.mp4", {"crf": 20}, restart=True) as work:
        assert not (work.path / "tail").exists()


def test_windows_fit_the_encoder_and_others_are_refused(tmp_path, monkeypatch):
    film, depth = make_film(tmp_path / "film.mp4", 100), make_depth(tmp_path / "depth.npz", 100)
    options = {"depth": str(depth), "refine": "none", "progress": "quiet"}

    def stop(*_):
        raise KeyboardInterrupt

    frames = 2 * 64 * 48
    for kept, windows in ((20 * frames, 5), (15 * frames, 7), (49 * frames, 3)):
        monkeypatch.setattr(stereo_makers, "_KEPT", kept)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Runner, "_join", stop)
            convert(str(film), tmp_path / "out.mp4", restart=True, **options)
        assert len(list((tmp_path / "out.mp4.work" / "film").iterdir())) == windows
    monkeypatch.setattr(stereo_makers, "_KEPT", 20 * frames)
    with pytest.raises(UserError, match=r"other settings \(window was 48, is 20\).*--restart"):
        convert(str(film), tmp_path / "out.mp4", **options)


def test_second_run_is_kept_out(tmp_path):
    with (
        WorkFolder(tmp_path / "out.mp4", {}),
        pytest.raises(UserError, match="another run"),
        WorkFolder(tmp_path / "out.mp4", {}),
    ):
        pass


def test_a_mistake_leaves_nothing_behind(tmp_path):
    with pytest.raises(UserError), WorkFolder(tmp_path / "out.mp4", {"crf": 1}):
        raise UserError("for instance a depth of the wrong length")
    assert list(tmp_path.iterdir()) == []


def test_finished_output_is_not_overwritten(tmp_path):
    film = make_film(tmp_path / "film.mp4", 2)
    options = {"depth": str(make_depth(tmp_path / "depth.npz", 2)), "refine": "none", "progress": "quiet"}
    convert(str(film), tmp_path / "out.mp4", **options)
    with pytest.raises(UserError, match="exists: give --restart"):
        convert(str(film), tmp_path / "out.mp4", **options)
    convert(str(film), tmp_path / "out.mp4", restart=True, **options)
