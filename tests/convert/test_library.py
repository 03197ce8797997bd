"""`m2svid.convert` as a function."""

import subprocess
import sys
from pathlib import Path

import pytest

import m2svid
from m2svid.errors import UserError
from tests.convert.films import make_depth, make_film, read_rgb


@pytest.fixture
def options(tmp_path):
    return {"refine": "none", "depth": str(make_depth(tmp_path / "depth.npz", 70))}


def test_a_program_converts_and_is_told(tmp_path, options, capsys):
    film = make_film(tmp_path / "film.mp4", 70, cuts=(12,))
    events = []
    result = m2svid.convert(str(film), tmp_path / "out.mp4", on_event=events.append, layout="tb", **options)
    assert result == {film: tmp_path / "out.mp4"}
    assert read_rgb(tmp_path / "out.mp4").shape == (70, 96, 64, 3)
    steps = [event.fields for event in events if event.name == "progress"]
    done = [(step["done"], step["total"]) for step in steps if step["stage"] == "frames"]
    assert done == [(12, 70), (60, 70), (70, 70)]  # two shots in windows of up to 48
    assert [event.fields["shots"] for event in events if event.name == "plan"] == [[0, 12]]
    assert events[-1].name == "done" and events[-1].text == f"{tmp_path / 'out.mp4'} is complete"
    shown = capsys.readouterr()
    assert shown.out == shown.err == ""


def test_several_films_and_mistakes(tmp_path, options):
    films = [make_film(tmp_path / f"{name}.mp4", 70) for name in "ab"]
    made = m2svid.convert(films, str(tmp_path / "out"), progress="quiet", **options)
    assert made == {film: tmp_path / "out" / f"{film.stem}_LRF_Full_SBS.mp4" for film in films}
    events = []
    assert m2svid.convert(films, tmp_path / "out", on_event=events.append, **options) == made
    assert [event.name for event in events] == ["skipped", "skipped"]
    with pytest.raises(UserError, match="--layout must be one of"):
        m2svid.convert(films, layout="sideways", **options)


def test_the_name_is_the_packages_too():
    """Importing from the package replaces the function by the package, which can be called as well."""
    code = (
        "import sys, m2svid; first = m2svid.convert; assert 'torch' not in sys.modules; "
        "import m2svid.convert.report; from m2svid import convert; "
        "assert convert.report.Reporter and callable(convert) and convert is not first; "
        "assert convert.__call__ is first"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path.cwd())
    assert done.returncode == 0, done.stderr
