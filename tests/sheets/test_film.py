"""The sheet of a conversion shows the right pictures in the right places."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from m2svid.convert.verbs import convert, warp
from m2svid.errors import UserError
from m2svid.sheets.film import sheet
from tests.convert.films import make_depth, make_film, read_rgb

QUIET = {"progress": "quiet", "max_disparity": 6.0}


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A film of odd size, its depth and its warped view."""
    folder = tmp_path_factory.mktemp("film")
    film = make_film(folder / "film.mkv", 6, size=(65, 47), codec="ffv1", pix_fmt="yuv444p")
    depth = str(make_depth(folder / "depth.npz", 6, (65, 47)))
    warp(film, folder / "warp", depth=depth, **QUIET)
    return film, depth, folder / "warp" / "warped.mkv"


@pytest.mark.parametrize("layout", ["sbs", "tb", "right"])
def test_panels_are_left_warped_right_over_time(tmp_path, film, layout):
    source, depth, warped = film
    options = {"refine": "none", "codec": "ffv1", "depth": depth, **QUIET}
    convert(str(source), tmp_path / "right.mkv", layout="right", **options)
    convert(str(source), tmp_path / "film.mkv", layout=layout, restart=True, **options)
    sheet(source, warped, tmp_path / "film.mkv", tmp_path / "sheet.png", frames=3, panel_width=65)
    picture = cv2.imread(str(tmp_path / "sheet.png"))[..., ::-1]
    body = picture[44:]  # a title and the names, 22 rows each
    assert body.shape == (3 * 47 + 2 * 2, 4 * 65 + 3 * 2, 3)
    videos = [read_rgb(source), read_rgb(warped), read_rgb(tmp_path / "right.mkv")[:, :47, :65]]
    for row, frame in enumerate((0, 2, 5)):
        for column, video in enumerate(videos):
            panel = body[row * 49 : row * 49 + 47, column * 67 : column * 67 + 65].astype(int)
            assert np.abs(panel - video[frame]).mean() < 1.5, (row, column)


def test_films_that_do_not_belong_together_are_refused(tmp_path, film):
    source, _, warped = film
    other = make_film(tmp_path / "other.mkv", 6, size=(80, 47), codec="ffv1", pix_fmt="yuv444p")
    short = make_film(tmp_path / "short.mkv", 3, size=(65, 47), codec="ffv1", pix_fmt="yuv444p")
    with pytest.raises(UserError, match=r"other\.mkv is 80×47: it must have the size of the film, 65×47"):
        sheet(source, warped, other, tmp_path / "sheet.png")
    with pytest.raises(UserError, match=r"other\.mkv is 80×47, the film 65×47"):
        sheet(source, other, source, tmp_path / "sheet.png")
    with pytest.raises(UserError, match=r"short\.mkv ends before frame 5"):
        sheet(source, warped, short, tmp_path / "sheet.png", frames=2)
    assert not (tmp_path / "sheet.png").exists()
