"""A path is written whole or stays as it was."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from m2svid.errors import UserError
from m2svid.files import natural, whole


def test_a_file_replaces_the_old_one_only_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with whole(path) as temporary:
        temporary.write_text("one")
        assert not path.exists()
    with whole(path) as temporary:
        temporary.write_text("two")
        assert path.read_text() == "one"
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_appears_with_all_that_is_in_it(tmp_path):
    with whole(tmp_path / "folder") as temporary:
        (temporary / "deep").mkdir(parents=True)
        (temporary / "deep" / "a.txt").write_text("one")
        assert not (tmp_path / "folder").exists()
    assert (tmp_path / "folder" / "deep" / "a.txt").read_text() == "one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there(tmp_path, error):
    (tmp_path / "a.txt").write_text("one")
    for name in ("a.txt", "folder"):
        with pytest.raises(error), whole(tmp_path / name) as temporary:
            if name == "folder":
                temporary.mkdir()
                temporary /= "part"
            temporary.write_text("tw")
            raise error
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "one"


def test_a_full_disk_is_one_sentence(tmp_path):
    message = r"a\.txt can't be written: No space left on device; the rest is kept"
    with pytest.raises(UserError, match=message), whole(tmp_path / "a.txt", "the rest is kept") as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"a\.txt can't be written: "), whole(tmp_path / "file" / "a.txt"):
        raise AssertionError("there is nowhere to write to")


def test_what_a_killed_process_leaves_is_written_anew(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from m2svid.files import natural, whole\n"
        "with whole(Path(sys.argv[1])) as temporary:\n"
        "    temporary.mkdir(); (temporary / 'old').write_text('x'); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "folder")])
    while not list(tmp_path.rglob("old")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "folder").exists()
    with whole(tmp_path / "folder") as temporary:
        temporary.mkdir()
    assert not list((tmp_path / "folder").iterdir())


def test_numbers_in_names_count_as_numbers():
    names = ["f1.png", "f2.png", "f10.png", "f10b2.png", "f10b10.png", "f010c.png", "g.png", "10.png"]
    expected = ["10.png", "f1.png", "f2.png", "f10.png", "f10b2.png", "f10b10.png", "f010c.png", "g.png"]
    assert [path.name for path in sorted(map(Path, names), key=natural)] == expected
