"""What is never written over, names that are hard to write, several films, and folders that can't be used."""

import os
from functools import partial
from pathlib import Path

import pytest

from m2svid import cli
from m2svid.convert.preview import preview
from m2svid.convert.verbs import convert, depth, refine, warp
from m2svid.convert.work_folder import work_path
from m2svid.errors import UserError
from m2svid.evaluation.measure import measure
from m2svid.evaluation.results import Results, VideoResult
from m2svid.files import check_output
from m2svid.report.make import report
from m2svid.sheets import draw
from m2svid.sheets import film as sheets
from tests.convert.films import make_depth, make_film, read_rgb


@pytest.fixture
def film(tmp_path):
    return make_film(tmp_path / "film.mp4", 2)


@pytest.fixture
def options(tmp_path):
    given = str(make_depth(tmp_path / "depth.npz", 2))
    return {"depth": given, "refine": "none", "progress": "quiet"}


def other_name(path: Path, kind: str) -> Path:
    """Another name of the same file."""
    if kind == "same":
        return path
    if kind == "roundabout":
        return path.parent / "folder" / ".." / path.name
    other = path.with_name("other.mp4")
    (os.link if kind == "hard link" else os.symlink)(path, other)
    return other


@pytest.mark.parametrize("kind", ["same", "roundabout", "link", "hard link"])
def test_a_film_is_never_written_over(kind, film, options):
    (film.parent / "folder").mkdir()
    content, output = film.read_bytes(), other_name(film, kind)
    for given, result in ((film, output), (output, film)):
        for restart in (False, True):
            with pytest.raises(UserError, match=r"is the input .*never written over") as refused:
                convert(str(given), result, restart=restart, **options)
            assert "--restart" not in str(refused.value)
    assert film.read_bytes() == content
    assert not work_path(film).exists()


def test_a_file_system_that_takes_letters_of_either_case_for_the_same(film, monkeypatch):
    def samefile(path, other):
        return path.resolve().as_posix().lower() == Path(other).resolve().as_posix().lower()

    monkeypatch.setattr(Path, "samefile", samefile)
    with pytest.raises(UserError, match="never written over"):
        check_output(film.with_name("FILM.mp4"), [film])


def test_no_verb_on_films_writes_over_any_of_its_inputs(film, options, tmp_path):
    again = {"progress": "quiet", "restart": True}
    given = {"depth": options["depth"], **again}
    warp(film, tmp_path / "parts", **given)
    warped, hole = (tmp_path / "parts" / f"{name}.mkv" for name in ("warped", "hole"))
    maps = make_film(tmp_path / "depth.mkv", 2, codec="ffv1", pix_fmt="gray")
    seen = {path: path.read_bytes() for path in (film, maps, warped, hole)}
    calls = [
        partial(convert, str(film), maps, refine="none", depth=str(maps), **again),
        partial(depth, film, maps, depth=str(maps), **again),
        partial(depth, film, film, **given),
        partial(warp, warped, tmp_path / "parts", **given),
        partial(refine, film, warped, hole, hole, refine="none", **again),
        partial(sheets.sheet, film, warped, film, film),
        partial(sheets.sheet, film, warped, film, warped),
        partial(measure, film, warped, left=film, output=warped, metrics=["psnr"]),
    ]
    for call in calls:
        with pytest.raises(UserError, match="never written over"):
            call()
    assert {path: path.read_bytes() for path in seen} == seen


def test_a_report_is_not_written_over_the_results(tmp_path):
    file = tmp_path / "report.json"
    Results("mine", "films", [VideoResult("a", {"psnr": 30.0})], {"psnr": 30.0}, {}, {}).write(file)
    content = file.read_bytes()
    with pytest.raises(UserError, match=r"report\.json is the input .*never written over"):
        report([f"mine={file}"], tmp_path, metrics=["psnr"])
    assert [file.read_bytes(), *tmp_path.iterdir()] == [content, file]


def test_the_output_of_one_film_is_not_another_of_the_films(film, options, tmp_path):
    (tmp_path / "other").mkdir()
    second = make_film(tmp_path / "other" / "film_LRF_Full_SBS.mp4", 2)
    content = second.read_bytes()
    with pytest.raises(UserError, match=r"1 of 2 films failed: .*film\.mp4"):
        convert([str(film), str(second)], tmp_path / "other", restart=True, **options)
    assert second.read_bytes() == content
    assert len(read_rgb(tmp_path / "other" / "film_LRF_Full_SBS_LRF_Full_SBS.mp4")) == 2


def test_a_sheet_of_shards_is_not_written_over_one(tmp_path):
    shard = tmp_path / "clips.tar"
    shard.write_bytes(b"clips")
    with pytest.raises(UserError, match="never written over"):
        draw.sheet(str(shard), shard)


def test_films_given_one_by_one(film, options, tmp_path, monkeypatch):
    """As a shell makes of `in/*.mp4`; their results are not taken for films the second time."""
    make_film(tmp_path / "second.mp4", 2)
    monkeypatch.chdir(tmp_path)
    words = ["--refine", "none", "--depth", options["depth"], "--progress", "quiet"]
    for _ in range(2):
        found = sorted(map(str, Path().glob("*.mp4")))
        cli.main(["convert", *words, *found])
        made = sorted(path.name for path in tmp_path.glob("*.mp4"))
        assert made == ["film.mp4", "film_LRF_Full_SBS.mp4", "second.mp4", "second_LRF_Full_SBS.mp4"]


def test_a_new_folder_as_output_is_made(film, options, tmp_path):
    make_film(tmp_path / "second.mp4", 2)
    convert(str(tmp_path / "*.mp4"), tmp_path / "new" / "er", **options)
    assert sorted(path.name for path in (tmp_path / "new" / "er").iterdir()) == [
        "film_LRF_Full_SBS.mp4",
        "second_LRF_Full_SBS.mp4",
    ]
    depth(film, tmp_path / "maps", depth=options["depth"], progress="quiet")
    assert (tmp_path / "maps" / "film_depth.mkv").exists()


def test_a_folder_of_one_film_takes_no_name_of_a_file(film, options, tmp_path):
    """Else it would do so once only: the result may lie in the folder, too."""
    with pytest.raises(UserError, match="names one file, but there may be several films"):
        convert(str(tmp_path), tmp_path / "out.mp4", **options)


@pytest.mark.parametrize("one_by_one", [False, True])
def test_all_films_are_checked_before_the_first_is_converted(one_by_one, film, options, tmp_path, capsys):
    (tmp_path / "zebra.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (tmp_path / "words.mkv").write_text("no film")
    given = sorted(map(str, tmp_path.glob("*.m*")))
    with pytest.raises(UserError, match=r"2 of 3 films failed: .*words\.mkv, .*zebra\.mp4"):
        convert(given if one_by_one else str(tmp_path), **(options | {"progress": "json"}))
    told = capsys.readouterr().err
    assert "zebra.mp4 does not exist" in told and "words.mkv is not a video" in told
    assert told.rindex('"failed"') < told.index('"plan"')
    assert (tmp_path / "film_LRF_Full_SBS.mp4").exists()


@pytest.mark.parametrize("name", ["Dune: Part Two.mp4", "50%d.mp4", "a b'c\"d#e?f&.mkv", "日本語 🎬.mp4"])
def test_names_that_are_no_plain_words(name, options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_film(tmp_path / "plain.mkv", 2, sound=1)
    film = Path("plain.mkv").rename(name)
    convert(name, Path(f"3D: {name}"), **options)
    assert read_rgb(tmp_path / f"3D: {name}").shape == (2, 48, 128, 3)
    depth(film, Path(f"depth: {film.stem}.mkv"), depth=options["depth"], progress="quiet")
    convert(name, Path(f"again: {name}"), **(options | {"depth": f"depth: {film.stem}.mkv"}))


def test_a_name_too_long_for_the_file_system_is_refused_before_the_work(options, tmp_path):
    film = make_film(tmp_path / f"{'x' * 240}.mp4", 2)
    make_film(tmp_path / "short.mp4", 2)
    with pytest.raises(UserError, match=r"LRF_Full_SBS\.mp4 is too long: .* takes \d+ bytes.* -o"):
        convert(str(film), **options)
    with pytest.raises(UserError, match="1 of 2 films failed"):
        convert(str(tmp_path), **options)
    assert (tmp_path / "short_LRF_Full_SBS.mp4").exists()
    longest = tmp_path / f"{'y' * (255 - len('..unfinished.mp4'))}.mp4"
    convert(str(film), longest, **options)
    assert longest.exists()


def test_folders_that_can_not_be_read_or_made(film, options, tmp_path, monkeypatch):
    """Permissions don't bind the super-user, so the calls fail here as they would for others."""

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UserError, match=rf"{tmp_path} can't be read: Permission denied"):
        convert(str(tmp_path), **options)
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match=r"folder .*new can't be made: Permission denied"):
        convert(str(film), tmp_path / "new", **options)
    with pytest.raises(UserError, match=r"folder .*parts can't be made: Permission denied"):
        warp(film, tmp_path / "parts", depth=options["depth"], progress="quiet")
    with pytest.raises(UserError, match=r"out\.mp4\.work can't be made: Permission denied"):
        convert(str(film), tmp_path / "out.mp4", **options)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match=rf"the folder {tmp_path} can't be written to"):
        convert(str(film), tmp_path / "out.mp4", **options)


@pytest.mark.parametrize("damage", [b"", b'{"crf": 1', b"\xff\xfe"])
@pytest.mark.parametrize("name", ["settings.json", "survey.json", "joined.json"])
def test_a_damaged_work_folder_is_told_and_restarted(damage, name, film, options, tmp_path, monkeypatch):
    output = tmp_path / "out.mp4"
    with monkeypatch.context() as broken:
        broken.setattr("m2svid.convert.runner.assemble", interrupt)
        with pytest.raises(KeyboardInterrupt):
            convert(str(film), output, **options)
    (work_path(output) / name).write_bytes(damage)
    with pytest.raises(UserError, match=rf"{name} can't be read: give --restart"):
        convert(str(film), output, **options)
    convert(str(film), output, restart=True, **options)
    assert len(read_rgb(output)) == 2


def test_a_damaged_piece_is_told(film, options, tmp_path, monkeypatch):
    output = tmp_path / "out.mp4"
    with monkeypatch.context() as broken:
        broken.setattr("m2svid.convert.runner.assemble", interrupt)
        with pytest.raises(KeyboardInterrupt):
            convert(str(film), output, **options)
    piece = next(work_path(output).rglob("*.npz"))
    for content in (b"", b"rubbish", piece.read_bytes()[:200]):
        piece.write_bytes(content)
        with pytest.raises(UserError, match=r"000000\.npz is damaged: give --restart"):
            convert(str(film), output, **options)
    convert(str(film), output, restart=True, **options)
    assert read_rgb(output).shape == (2, 48, 128, 3)


def interrupt(*_):
    raise KeyboardInterrupt


def test_all_is_checked_before_a_model_is_opened(film, tmp_path, monkeypatch):
    """Which may take a download, or a network that isn't there."""

    def opened(*_):
        raise AssertionError("a model is opened")

    monkeypatch.setattr("m2svid.convert.setup.open_depth", opened)
    monkeypatch.setattr("m2svid.weights.load.load", opened)
    there = tmp_path / "there.mkv"
    there.write_bytes(b"kept")
    plain = {"refine": "none", "progress": "quiet"}
    for call, message in (
        (partial(convert, str(tmp_path / "no.mp4"), **plain), "does not exist"),
        (partial(convert, str(film), there, **plain), "exists: give --restart"),
        (partial(convert, str(film), tmp_path / "x.webm", **plain), "must end in one of"),
        (partial(convert, str(film), tmp_path / "no" / "x.mp4", **plain), "does not exist"),
        (partial(convert, str(film), max_disparity=300.0, **plain), "at most half of the width"),
        (partial(convert, str(film), weights="./nowhere", progress="quiet"), "--weights ./nowhere does not"),
        (partial(convert, str(film), start="9s", **plain), "no frame"),
        (partial(depth, film, there, progress="quiet"), "exists: give --restart"),
        (partial(depth, film, tmp_path / "x.mp4", progress="quiet"), "must end in one of"),
        (partial(warp, film, max_disparity=300.0, progress="quiet"), "at most half of the width"),
        (partial(preview, film, at="0s", output=film, refine="none"), "never written over"),
        (partial(preview, film, at="0s", refine="none", max_disparity=300.0), "at most half of the width"),
    ):
        with pytest.raises(UserError, match=message):
            call()
