"""A full disk ends in one sentence, leaves no output under its name, and the same command continues."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import av
import numpy as np
import pytest

from m2svid import files
from m2svid.convert.verbs import convert
from m2svid.errors import UserError
from m2svid.video import mux
from tests.convert.films import make_depth, make_film, picture

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def call(tmp_path):
    film = make_film(tmp_path / "film.mp4", 100)
    options = {"depth": str(make_depth(tmp_path / "depth.npz", 100)), "refine": "none", "progress": "quiet"}
    return lambda output: convert(str(film), tmp_path / output, **options)


def test_while_pieces_are_written(call, tmp_path, monkeypatch):
    call("straight.mp4")
    written = []
    save = np.savez

    def fail_at_the_second(file, **arrays):
        written.append(file)
        if len(written) == 2:
            file.write(b"half of it")
            raise FULL
        save(file, **arrays)

    monkeypatch.setattr(files.np, "savez", fail_at_the_second)
    with pytest.raises(UserError, match=r"can't be written: No space left on device; what is done so far"):
        call("out.mp4")
    assert not (tmp_path / "out.mp4").exists()
    kept = len(list((tmp_path / "out.mp4.work" / "film").iterdir()))
    assert kept in (1, 2)  # of three: the one before, and maybe the one after
    monkeypatch.undo()
    call("out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "straight.mp4").read_bytes()


def test_while_the_film_is_joined(call, tmp_path, monkeypatch):
    def fail(*_):
        raise av.error.OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield

    monkeypatch.setattr(mux, "_timed", fail)
    with pytest.raises(UserError, match=r"out\.mp4 can't be written: No space left on device"):
        call("out.mp4")
    assert {entry.name for entry in tmp_path.iterdir()} == {"film.mp4", "depth.npz", "out.mp4.work"}
    monkeypatch.undo()
    call("out.mp4")
    assert (tmp_path / "out.mp4").exists() and not (tmp_path / "out.mp4.work").exists()


def test_while_a_picture_is_written(tmp_path, monkeypatch):
    av.VideoFrame.from_ndarray(picture(0, 64, 48), "rgb24").save(tmp_path / "one.png")

    def fail(self, data):
        raise FULL

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(UserError, match=r"two\.png can't be written: No space left on device"):
        convert(
            str(tmp_path / "one.png"),
            tmp_path / "two.png",
            depth=str(make_depth(tmp_path / "depth.npz", 1)),
            refine="none",
            progress="quiet",
        )
    assert not (tmp_path / "two.png").exists()
