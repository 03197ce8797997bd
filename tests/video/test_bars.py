"""Black bars are found where they are certain, kept out of depth and model, and put back."""

from __future__ import annotations

import json
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from m2svid.convert.verbs import convert, depth, refine, warp
from m2svid.inference.inpainter import BackgroundFill, Inpainter
from m2svid.video.bars import Box
from m2svid.video.read import Video
from m2svid.video.shots import Survey, survey
from tests.convert.films import picture, read_luma

PLAIN = {"refine": "none", "progress": "quiet", "max_disparity": 6.0, "convergence": 0.0}
WIDTH, HEIGHT = 128, 96


def film_of(path: Path, pictures: list[np.ndarray], codec: str = "ffv1", pix_fmt: str = "yuv420p") -> Path:
    with av.open(str(path), "w") as target:
        options = {"crf": "20"} if codec == "libx264" else {}
        stream = target.add_stream(codec, rate=24, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        for index, rgb in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = index, Fraction(1, 24)
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return path


def barred(index: int, above: int = 0, below: int = 0, left: int = 0, right: int = 0) -> np.ndarray:
    """A picture with bars that are not quite black."""
    rgb = np.random.default_rng(index).integers(0, 4, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    inside = slice(above, HEIGHT - below), slice(left, WIDTH - right)
    rgb[inside] = picture(index, WIDTH, HEIGHT)[inside]
    return rgb


def found(path: Path) -> Box | None:
    return survey(Video(path, autocrop=True), find_cuts=False).picture


@pytest.mark.parametrize("codec", ["ffv1", "libx264"])
@pytest.mark.parametrize(
    ("bars", "box"),
    [
        ({"above": 14, "below": 14}, Box(0, 14, 128, 68)),
        ({"above": 13, "below": 15}, Box(0, 12, 128, 70)),  # on whole chroma samples
        ({"left": 20, "right": 20}, Box(20, 0, 88, 96)),
        ({"above": 8, "below": 8, "left": 16, "right": 16}, Box(16, 8, 96, 80)),
    ],
)
def test_bars_are_found(tmp_path, codec, bars, box):
    film = film_of(tmp_path / "film.mkv", [barred(index, **bars) for index in range(6)], codec)
    near = found(film)
    blur = 0 if codec == "ffv1" else 2  # px that the encoder has drawn out of the picture
    for mine, wanted in ((near.left, box.left), (near.top, box.top)):
        assert 0 <= wanted - mine <= blur
    for mine, wanted in ((near.width, box.width), (near.height, box.height)):
        assert 0 <= mine - wanted <= 2 * blur


def test_a_survey_is_kept_as_json(tmp_path, film):
    made = survey(Video(film, autocrop=True), find_cuts=False)
    assert made.picture is not None
    assert Survey.from_json(json.loads(json.dumps(asdict(made)))) == made


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "bgr0", "yuv444p"])
def test_bars_are_found_in_any_format(tmp_path, pix_fmt):
    film = film_of(tmp_path / "film.mkv", [barred(i, 14, 14) for i in range(3)], pix_fmt=pix_fmt)
    assert found(film) == Box(0, 14, 128, 68)


def dark(index: int) -> np.ndarray:
    """Night: a lamp that moves a little."""
    rgb = np.full((HEIGHT, WIDTH, 3), 3, np.uint8)
    rgb[40:56, 50 + index : 70 + index] = 200
    return rgb


UNCERTAIN = {
    "none": [barred(index) for index in range(6)],
    "a dark film": [dark(index) for index in range(6)],
    "black": [np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * 3,
    "above only": [barred(index, above=14) for index in range(6)],
    "right only": [barred(index, right=20) for index in range(6)],
    "one scene is larger": [barred(i, 14, 14) for i in range(5)] + [barred(5)],
    "a thin line": [barred(i, 2, 2) for i in range(6)],
}


@pytest.mark.parametrize("case", UNCERTAIN)
def test_what_is_not_certain_is_not_cropped(tmp_path, case):
    assert found(film_of(tmp_path / "film.mkv", UNCERTAIN[case])) is None


def test_a_dark_scene_does_not_hide_bars(tmp_path):
    """A night scene within a film of bars neither makes them larger nor doubtful."""
    night = [np.minimum(barred(index, 14, 14), dark(index)) for index in range(4)]
    film = film_of(tmp_path / "film.mkv", night + [barred(index, 14, 14) for index in range(4)])
    assert found(film) == Box(0, 14, 128, 68)


@pytest.fixture
def film(tmp_path):
    return film_of(tmp_path / "film.mkv", [barred(index, 14, 14) for index in range(4)])


def whole_depth(folder: Path) -> Path:
    """Depth of whole frames, made by a program that took the bars for near."""
    depth = np.full((4, 96, 128), 0.9, np.float32)
    depth[:, 14:-14] = np.linspace(0, 1, 128)[None, None]
    np.savez(folder / "depth.npz", depth=depth)
    return folder / "depth.npz"


@pytest.mark.parametrize("options", [{}, {"eyes": "both"}, {"convergence": 0.5}])
def test_bars_stay_and_the_picture_is_that_of_the_cropped_film(tmp_path, film, options, capsys):
    given = PLAIN | options | {"depth": str(whole_depth(tmp_path)), "codec": "ffv1"}
    convert(str(film), tmp_path / "out.mkv", **(given | {"progress": "json"}))
    assert r"the picture is 128\u00d768" in capsys.readouterr().err
    made, source = read_luma(tmp_path / "out.mkv"), read_luma(film)
    if "eyes" not in options:
        np.testing.assert_array_equal(made[:, :, :128], source)
    for rows in (slice(0, 12), slice(-12, None)):
        assert np.abs(made[:, rows, 128:].astype(int) - source[:, rows]).max() <= 1  # by RGB and back

    cropped = tmp_path / "cropped.mkv"
    with av.open(str(film)) as container, av.open(str(cropped), "w") as target:
        stream = target.add_stream("ffv1", rate=24, width=128, height=68, pix_fmt="yuv420p")
        for frame in container.decode(video=0):
            inside = av.VideoFrame(128, 68, "yuv420p")
            for step, mine, its in zip((1, 2, 2), inside.planes, frame.planes, strict=True):
                rows = np.frombuffer(its, np.uint8).reshape(its.height, -1)[14 // step : -(14 // step)]
                np.frombuffer(mine, np.uint8).reshape(mine.height, -1)[:, : mine.width] = rows[:, : its.width]
            inside.pts, inside.time_base = frame.pts, frame.time_base
            target.mux(stream.encode(inside))
        target.mux(stream.encode(None))
    with np.load(given["depth"]) as arrays:
        np.savez(tmp_path / "inside.npz", depth=arrays["depth"][:, 14:-14])
    convert(str(cropped), tmp_path / "alone.mkv", **(given | {"depth": str(tmp_path / "inside.npz")}))
    alone = read_luma(tmp_path / "alone.mkv")
    assert np.abs(made[:, 16:-16].astype(int) - alone[:, 2:-2]).max() <= 1


def test_off_is_off(tmp_path, film, capsys):
    options = PLAIN | {"depth": str(whole_depth(tmp_path)), "progress": "json", "autocrop": False}
    convert(str(film), tmp_path / "out.mkv", **options)
    assert "the picture is" not in capsys.readouterr().err


def test_stages_leave_the_bars_where_they_are(tmp_path, film, monkeypatch):
    monkeypatch.setattr(BackgroundFill, "warp", Inpainter.warp)  # as for a model
    given = {"depth": str(whole_depth(tmp_path)), "progress": "quiet", "max_disparity": 6.0, "clean_edges": 0}
    convert(str(film), tmp_path / "one.mkv", codec="ffv1", **(PLAIN | given))
    warp(film, tmp_path / "warp", **given)
    views = tmp_path / "warp" / "warped.mkv", tmp_path / "warp" / "hole.mkv"
    assert read_luma(views[0]).shape[1:] == read_luma(views[1]).shape[1:] == (96, 128)
    assert read_luma(views[1])[:, :14].max() == read_luma(views[1])[:, -14:].max() == 0
    assert read_luma(views[1]).max() == 255
    refine(film, *views, tmp_path / "two.mkv", codec="ffv1", **PLAIN)
    one, two = (read_luma(tmp_path / name).astype(int) for name in ("one.mkv", "two.mkv"))
    assert np.abs(one - two).max() <= 2

    depth(film, tmp_path / "depth.mkv", **{name: given[name] for name in ("depth", "progress")})
    maps = read_luma(tmp_path / "depth.mkv") / 65535
    assert maps.shape == (4, 96, 128)
    assert maps[:, :14].max() == maps[:, -14:].max() == 0
    np.testing.assert_allclose(
        maps[:, 14:-14], np.linspace(0, 1, 128)[None, None].repeat(68, 1).repeat(4, 0), atol=2e-2
    )


def test_maps_are_cut_and_put_back_at_their_own_resolution():
    box = Box(16, 8, 96, 80)
    y, x = np.mgrid[:24, :32].astype(np.float32)  # a quarter of 128 × 96
    maps = (x + 10 * y)[None]
    cut = box.cut(maps, 128, 96)
    np.testing.assert_allclose(cut[0], maps[0, 2:22, 4:28], atol=1e-3)
    whole = box.put(cut, 32, 24, 128, 96)
    np.testing.assert_allclose(whole[0, 2:22, 4:28], maps[0, 2:22, 4:28], atol=1e-3)
    assert whole[0, :2].max() == whole[0, :, 28:].max() == 0
    odd = Box(10, 0, 100, 96).cut(maps, 128, 96)  # from 2.5 on, 25 columns wide
    np.testing.assert_allclose(odd[0, 0, 1:-1], np.arange(1, 24) + 2.5, atol=1e-2)


@pytest.mark.parametrize("layout", ["anaglyph", "tb-half", "pair", "right", "vr180"])
def test_every_layout_has_bars(tmp_path, film, layout):
    options = PLAIN | {"depth": str(whole_depth(tmp_path)), "fov": 60.0 if layout == "vr180" else None}
    convert(str(film), tmp_path / "out.mp4", layout=layout, **options)
    made = read_luma(tmp_path / ("out_right.mp4" if layout == "pair" else "out.mp4"))
    if layout in ("anaglyph", "pair", "right"):
        assert made.shape[1:] == (96, 128)
        assert made[:, :10].max() < 32 < made[:, 20:-20].mean()
