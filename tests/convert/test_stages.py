"""The stages with files between them give what `convert` gives in one pass."""

from __future__ import annotations

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from m2svid.convert.verbs import convert, refine, warp
from m2svid.convert.verbs import depth as estimate
from m2svid.errors import UserError
from m2svid.inference.inpainter import BackgroundFill, Inpainter
from tests.convert.films import make_depth, make_film, picture, read_luma, read_rgb, read_times

QUIET = {"progress": "quiet"}


def test_warp_then_refine_is_convert(tmp_path, monkeypatch):
    monkeypatch.setattr(BackgroundFill, "warp", Inpainter.warp)  # as for a model
    film = make_film(tmp_path / "film.mp4", 20, cuts=(9,), sound=1)
    depth = str(make_depth(tmp_path / "depth.npz", 20, (64, 48)))
    options = {"refine": "none", "codec": "ffv1", "max_disparity": 4.0}
    edges = {"clean_edges": 20 / 3}
    convert(str(film), tmp_path / "direct.mkv", depth=depth, **edges, **options, **QUIET)
    warp(film, tmp_path / "stage", depth=depth, max_disparity=4.0, **edges, **QUIET)
    warped, hole = tmp_path / "stage" / "warped.mkv", tmp_path / "stage" / "hole.mkv"
    assert set(np.unique(read_luma(hole))) == {0, 255}
    assert read_rgb(warped)[read_luma(hole) > 0].max() <= 1
    refine(film, warped, hole, tmp_path / "staged.mkv", **options, **QUIET)
    direct, staged = read_luma(tmp_path / "direct.mkv").astype(int), read_luma(tmp_path / "staged.mkv")
    assert np.abs(direct - staged).max() <= 1
    with av.open(str(tmp_path / "staged.mkv")) as container:
        assert len(container.streams.audio) == 1


def test_depth_is_a_16_bit_video_that_converts_alike(tmp_path):
    film = make_film(tmp_path / "film.mp4", 9)
    given = str(make_depth(tmp_path / "depth.npz", 9))
    estimate(film, tmp_path / "depth.mkv", depth=given, **QUIET)
    assert read_luma(tmp_path / "depth.mkv").shape == (9, 24, 32)
    assert read_luma(tmp_path / "depth.mkv").max() == 65535
    options = {"refine": "none", "codec": "ffv1", "max_disparity": 4.0, **QUIET}
    convert(str(film), tmp_path / "a.mkv", depth=given, depth_range="shot", **options)
    convert(str(film), tmp_path / "b.mkv", depth=str(tmp_path / "depth.mkv"), **options)
    assert np.abs(read_luma(tmp_path / "a.mkv").astype(int) - read_luma(tmp_path / "b.mkv")).max() <= 1


def test_depth_can_be_looked_at(tmp_path):
    film = make_film(tmp_path / "film.mp4", 3)
    given = str(make_depth(tmp_path / "depth.npz", 3, (33, 25)))
    estimate(film, tmp_path / "out.mkv", depth=given, preview=True, **QUIET)
    assert read_luma(tmp_path / "out.mkv").shape == (3, 25, 33)
    seen = read_rgb(tmp_path / "out_preview.mp4").astype(int)
    assert seen.shape == (3, 26, 34, 3)
    near, far = seen[1, 14, 16], seen[1, 1, 2]  # turbo: dark red and dark blue
    assert near[0] > near[2] + 50 and far[2] > far[0]


def test_views_of_another_size_are_refused(tmp_path):
    film = make_film(tmp_path / "film.mp4", 2)
    small = make_film(tmp_path / "small.mp4", 2, size=(32, 32))
    with pytest.raises(UserError, match=r"--warped .* is 32×32, the film 64×48"):
        refine(film, small, small, tmp_path / "out.mkv", refine="none", **QUIET)


def test_a_folder_of_pictures_goes_through_all_stages(tmp_path):
    (tmp_path / "film").mkdir()
    for index in range(3):
        cv2.imwrite(str(tmp_path / "film" / f"{index}.png"), picture(index, 64, 48)[..., ::-1])
    options = {"fps": "24000/1001", **QUIET}
    estimate(tmp_path / "film", tmp_path / "d.mkv", depth=str(make_depth(tmp_path / "d.npz", 3)), **options)
    warp(tmp_path / "film", tmp_path / "warp", depth=str(tmp_path / "d.mkv"), **options)
    views = (tmp_path / "warp" / name for name in ("warped.mkv", "hole.mkv"))
    refine(tmp_path / "film", *views, tmp_path / "out.mp4", refine="none", **options)
    assert read_rgb(tmp_path / "out.mp4").shape == (3, 48, 128, 3)
    assert read_times(tmp_path / "out.mp4")[1] == Fraction(1001, 24000)
