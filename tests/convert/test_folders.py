"""Folders of films: outputs, names, and what is done already."""

from __future__ import annotations

import pytest

from m2svid.convert import runner
from m2svid.convert.stereo_options import Options
from m2svid.convert.verbs import convert, depth, warp
from m2svid.errors import UserError
from tests.convert.films import make_depth, make_film


@pytest.fixture
def films(tmp_path):
    """A folder of two films."""
    folder = tmp_path / "films"
    folder.mkdir()
    for name in "ab":
        make_film(folder / f"{name}.mp4", 2)
    return folder


@pytest.fixture
def options(tmp_path):
    given = str(make_depth(tmp_path / "depth.npz", 2))
    return {"depth": given, "refine": "none", "progress": "quiet"}


def contents(folder):
    return {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}


def test_outputs_are_never_inputs(films, options, capsys):
    convert(str(films), **options)
    made = contents(films)
    assert sorted(made) == ["a.mp4", "a_LRF_Full_SBS.mp4", "b.mp4", "b_LRF_Full_SBS.mp4"]
    convert(str(films), **options)
    convert(str(films / "*.mp4"), **options)
    assert contents(films) == made
    capsys.readouterr()
    convert(str(films), layout="tb", **(options | {"progress": "json"}))  # nor those of another layout
    assert sorted(set(contents(films)) - set(made)) == ["a_TBF_fulltb.mp4", "b_TBF_fulltb.mp4"]
    assert "a_LRF_Full_SBS.mp4 was made of a film beside it: skipped" in capsys.readouterr().err
    # named by itself, it is a film like others
    convert(str(films / "a_LRF_Full_SBS.mp4"), films / "four.mp4", depth_range="shot", **wide(films, options))


def test_a_part_has_a_name_of_its_own(films, options):
    """The whole film can be made beside its part, and the part is not taken for another film."""
    parts = {
        "+1f": "a_0s+1f",
        "1f": "a_0s_to_1f",
        "00:00:00.05": "a_0s_to_00-00-00.05",
    }
    for end in parts:
        convert(str(films / "a.mp4"), end=end, **options)
    convert(str(films / "a.mp4"), start="1f", **options)
    made = {f"{name}_LRF_Full_SBS.mp4" for name in (*parts.values(), "a_1f_to_end")}
    assert set(contents(films)) == {"a.mp4", "b.mp4"} | made
    convert(str(films), **options)
    whole = {"a_LRF_Full_SBS.mp4", "b_LRF_Full_SBS.mp4"}
    assert set(contents(films)) == {"a.mp4", "b.mp4"} | made | whole


def wide(films, options):
    """With a depth of the shape of a film side by side."""
    return options | {"depth": str(make_depth(films / "wide.npz", 2, (64, 24)))}


def test_a_folder_of_one_film_is_skipped_when_it_is_done(films, options):
    (films / "b.mp4").unlink()
    convert(str(films), **options)
    made = contents(films)
    convert(str(films), **options)
    assert contents(films) == made


def test_two_films_of_one_output_are_refused_before_the_work(films, options):
    make_film(films / "a.mov", 2)
    before = contents(films)
    with pytest.raises(UserError, match=r"a\.mov and .*a\.mp4 would both become .*a_LRF_Full_SBS\.mp4"):
        convert(str(films), **options)
    assert contents(films) == before


def test_a_pair_that_is_done_is_skipped(films, options):
    convert(str(films), layout="pair", **options)
    made = contents(films)
    assert len(made) == 6
    convert(str(films), layout="pair", **options)
    assert contents(films) == made


def run_pair(film, folder, options):
    convert(str(film), folder / "out.mp4", layout="pair", **options)


def run_warp(film, folder, options):
    warp(film, folder, depth=options["depth"], progress="quiet")


def run_depth(film, folder, options):
    depth(film, folder / "out.mkv", preview=True, depth=options["depth"], progress="quiet")


@pytest.mark.parametrize("run", [run_pair, run_warp, run_depth])
def test_a_run_stopped_between_two_results_continues(films, options, tmp_path, monkeypatch, run):
    film = films / "a.mp4"
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    for folder in (straight, broken):
        folder.mkdir()
    run(film, straight, options)
    whole, joined = runner.assemble, []

    def stop_at_the_second(*args):
        joined.append(args)
        if len(joined) == 2:
            raise KeyboardInterrupt
        whole(*args)

    monkeypatch.setattr(runner, "assemble", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        run(film, broken, options)
    monkeypatch.undo()
    (first,) = (file for file in broken.iterdir() if file.is_file())
    before = first.stat().st_mtime_ns
    run(film, broken, options)
    assert first.stat().st_mtime_ns == before
    assert {f.name: f.read_bytes() for f in broken.iterdir()} == {
        f.name: f.read_bytes() for f in straight.iterdir()
    }


def test_a_file_of_somebody_else_is_not_taken_for_a_result(films, options, tmp_path):
    (tmp_path / "out_right.mp4").write_bytes(b"precious")
    with pytest.raises(UserError, match=r"out_right\.mp4 exists: give --restart"):
        run_pair(films / "a.mp4", tmp_path, options)
    assert (tmp_path / "out_right.mp4").read_bytes() == b"precious"
    assert not (tmp_path / "out_left.mp4.work").exists()


def test_an_overlap_that_no_tile_can_have_is_refused_at_once():
    message = "--tile-overlap must be a multiple of 8 px, smaller than 256 px, the smallest tile that may be"
    with pytest.raises(UserError, match=message):
        Options(refine="none", tile_overlap=512)
    with pytest.raises(UserError, match="smaller than --tile, not 512"):
        Options(refine="none", tile=512, tile_overlap=512)
    Options(refine="none", tile=1024, tile_overlap=512)
    Options(refine="none", tile=0, tile_overlap=512)  # no tiles
