"""The verb `preview`."""

import json

import numpy as np
import pytest
import torch

from m2svid import cli
from m2svid.convert.preview import preview
from m2svid.convert.verbs import convert
from m2svid.errors import UserError
from m2svid.sheets import draw
from m2svid.video.anaglyph import anaglyph
from tests.convert.films import make_depth, make_film, read_rgb


@pytest.fixture
def film(tmp_path):
    return make_film(tmp_path / "film.mp4", 40, cuts=(20,))


@pytest.fixture
def options(tmp_path):
    return {"depth": str(make_depth(tmp_path / "depth.npz", 40)), "refine": "none"}


@pytest.fixture
def columns(monkeypatch):
    """What is drawn, before it is made smaller and labelled."""
    drawn = {}

    def note(videos, title, panel_width):
        drawn.update(videos)
        return draw.contact_sheet(videos, title, panel_width)

    monkeypatch.setattr("m2svid.convert.preview.contact_sheet", note)
    return drawn


def pixels(view):
    return np.rint(view[0].permute(1, 2, 0).numpy() * 255)


def test_the_picture_shows_what_convert_makes(options, columns, tmp_path):
    """The views equal the frame of a whole conversion, which is stored without loss but for YUV."""
    film = make_film(tmp_path / "film.mp4", 40, cuts=(20,), pix_fmt="yuv444p")
    told = preview(film, at="25f", eyes="both", max_disparity=0.2, **options)
    assert told["file"] == str(tmp_path / "film_preview.png") and told["seconds"] >= 0
    same = options | {"eyes": "both", "max_disparity": 0.2, "progress": "quiet", "codec": "ffv1"}
    convert(str(film), tmp_path / "whole.mkv", **same)
    left, right = np.split(read_rgb(tmp_path / "whole.mkv")[25].astype(float), 2, axis=1)
    assert abs(pixels(columns["left"]) - left).mean() < 1
    assert abs(pixels(columns["right"]) - right).mean() < 1
    assert abs(pixels(columns["left"]) - right).mean() > 5
    assert torch.equal(columns["anaglyph"], anaglyph(columns["left"], columns["right"]))
    near, far = (columns["depth, red is near"][0, :, row, col] for row, col in ((24, 32), (2, 2)))
    assert near[0] > near[2] and far[2] > far[0]  # red and blue
    hole = (pixels(columns["warped, with holes"]) == (255, 0, 255)).all(-1)
    assert 0 < hole[12:36].mean() < 0.2


def test_seconds_become_a_film_and_replace_an_earlier_preview(film, options, tmp_path):
    for seconds, frames in ((0.5, 12), (0.25, 6)):
        told = preview(film, at="0:00.5", seconds=seconds, layout="tb", progress="quiet", **options)
        assert told["file"] == str(tmp_path / "film_preview_TBF_fulltb.mp4")
        assert read_rgb(tmp_path / "film_preview_TBF_fulltb.mp4").shape == (frames, 96, 64, 3)
    convert(str(tmp_path / "*.mp4"), tmp_path / "out", progress="quiet", **options)
    assert len(list((tmp_path / "out").iterdir())) == 1  # a preview is no film to convert


def test_on_the_command_line(film, options, tmp_path, capsys):
    words = ["--at", "1s", "-o", str(tmp_path / "look.png"), "--refine", "none", "--depth", options["depth"]]
    cli.main(["preview", str(film), *words])
    assert json.loads(capsys.readouterr().out)["file"] == str(tmp_path / "look.png")
    assert (tmp_path / "look.png").stat().st_size > 10_000


def test_mistakes(film, options, tmp_path):
    content = film.read_bytes()
    for given, message in (
        ({"at": "70"}, "--start must be a time"),
        ({"at": "9s"}, "no frame"),
        ({"at": "0s", "seconds": -1.0}, "--seconds must be above 0"),
        ({"at": "0s", "output": film}, "never written over"),
        ({"at": "0s", "output": film, "seconds": 0.5}, "never written over"),
        ({"at": "0s", "max_disparity": 300.0}, "at most half of the width"),
    ):
        with pytest.raises(UserError, match=message):
            preview(film, **given, **options)
    assert film.read_bytes() == content


@pytest.mark.parametrize(
    "layout", [{"layout": "rgbd"}, {"layout": "vr180", "fov": 65.0}, {"layout": "anaglyph"}]
)
def test_views_are_flat_whatever_the_layout(layout, film, options, columns):
    preview(film, at="3f", **options)
    plain = dict(columns)
    preview(film, at="3f", **options, **layout)
    assert all(torch.equal(columns[name], plain[name]) for name in plain)
