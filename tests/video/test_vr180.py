"""Flat views on a half sphere, against the geometry of a pinhole camera."""

from __future__ import annotations

import math

import av
import numpy as np
import pytest

from m2svid.convert.verbs import convert
from m2svid.errors import UserError
from m2svid.video.vr180 import HalfSphere
from tests.convert.films import make_depth, make_film, read_luma


@pytest.mark.parametrize(("u", "v"), [(100, 75), (40, 30), (170, 120), (100, 10)])
def test_a_point_appears_in_its_direction(u, v):
    width, height, fov = 200, 150, 70
    sphere = HalfSphere(width, height, fov)
    picture = np.zeros((height, width, 3), np.uint8)
    picture[v - 1 : v + 2, u - 1 : u + 2] = 255
    seen = sphere(picture)[..., 0].astype(float)
    row, column = (float((seen * grid).sum() / seen.sum()) for grid in np.mgrid[: sphere.side, : sphere.side])
    focal = width / 2 / math.tan(math.radians(fov / 2))
    x, y = u - (width - 1) / 2, v - (height - 1) / 2
    longitude = math.atan2(x, focal)
    latitude = math.atan2(y, math.hypot(x, focal))
    assert column == pytest.approx((longitude / math.pi + 0.5) * sphere.side - 0.5, abs=0.3)
    assert row == pytest.approx((latitude / math.pi + 0.5) * sphere.side - 0.5, abs=0.3)


def test_it_is_black_outside_and_keeps_the_detail_in_the_middle():
    sphere = HalfSphere(200, 150, 90)
    white = sphere(np.full((150, 200, 3), 65535, np.uint16))
    side = sphere.side
    assert side == round(math.pi * 100 / 8) * 8
    edges = np.flatnonzero(white[side // 2, :, 0] > 32767)[[0, -1]]
    np.testing.assert_allclose(edges, [side / 4, side * 3 / 4], atol=1)  # 90 of 180 degrees
    assert white[:5].max() == white[-5:].max() == white[:, :5].max() == white[:, -5:].max() == 0
    assert white[side // 2, side // 2].tolist() == [65535] * 3


def test_converts_a_film_with_the_name_that_players_know(tmp_path, capsys):
    film = make_film(tmp_path / "film.mkv", 3)
    depth = str(make_depth(tmp_path / "depth.npz", 3))
    options = {"depth": depth, "refine": "none", "layout": "vr180", "fov": 90.0, "codec": "ffv1"}
    convert(str(film), progress="json", **options)
    luma = read_luma(tmp_path / "film_180_LR.mkv")
    side = HalfSphere(64, 48, 90).side
    assert luma.shape == (3, side, 2 * side)
    assert "both eyes are resampled" in capsys.readouterr().err
    with av.open(str(tmp_path / "film_180_LR.mkv")) as container:
        assert container.streams.video[0].metadata["stereo_mode"] == "left_right"
    middle = luma[:, side // 2 - 1 : side // 2 + 1, side // 2 - 1 : side // 2 + 1].mean((1, 2))
    assert np.abs(middle - read_luma(film)[:, 23:25, 31:33].mean((1, 2))).max() <= 2


def test_the_angle_is_asked_for(tmp_path):
    for options, message in (({"layout": "vr180"}, "needs --fov"), ({"fov": 60.0}, "--fov is for")):
        with pytest.raises(UserError, match=message):
            convert("film.mp4", depth="depth.npz", refine="none", **options)
    with pytest.raises(UserError, match="--fov must be above 0 and below 180"):
        HalfSphere(64, 48, 180)
