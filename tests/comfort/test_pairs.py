"""Views found in stereo films of any origin, and matched parallax against the parallax that was rendered."""

from dataclasses import replace

import numpy as np
import pytest

from m2svid.comfort.pairs import StereoFilm, Views, find_views, matched_parallax
from m2svid.convert.verbs import convert
from m2svid.errors import UserError
from m2svid.synthetic.world import ProceduralWorld
from m2svid.video.excerpt import Excerpt
from m2svid.video.read import Video
from m2svid.video.shots import survey
from tests.convert.films import make_depth, make_film, read_rgb

WIDTH, HEIGHT = 320, 180


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("film_LRF_Full_SBS", (256, 64), ("sbs", "name")),
        ("film_LR", (128, 64), ("sbs-half", "name")),
        ("film_TBF_fulltb", (128, 128), ("tb", "name")),
        ("film_TB", (128, 64), ("tb-half", "name")),
        ("My Film (2010) 3D.H-SBS.1080p", (128, 72), ("sbs-half", "name")),
        ("film.half-ou", (128, 72), ("tb-half", "name")),
        ("street_sbs", (256, 64), ("sbs", "name")),
        ("film_RLF_cross", (256, 64), ("sbs", "name")),
        ("film_RL", (128, 64), ("sbs-half", "name")),
        ("film-SBS", (128, 72), ("sbs-half", "name")),  # else a view would be higher than wide
        ("stable", (256, 64), None),
        ("albums", (256, 64), None),
    ],
)
def test_views_are_found_by_the_name(tmp_path, name, size, expected):
    views = find_views(Video(make_film(tmp_path / f"{name}.mkv", 1, size=size)))
    assert (views and (views.layout, views.reason.split()[0])) == expected
    assert (views and views.swapped) == (expected and "_RL" in name)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("layout", ["sbs", "tb", "sbs-half", "tb-half", "cross"])
def test_views_are_found_by_what_the_container_tells(tmp_path, layout, suffix):
    film = make_film(tmp_path / "film.mkv", 2, size=(128, 72))
    depth = str(make_depth(tmp_path / "depth.npz", 2, (32, 18)))
    output = tmp_path / f"plain.{suffix}"
    convert(str(film), output, depth=depth, layout=layout, refine="none", progress="quiet", codec="h265")
    expected = Views(layout.replace("cross", "sbs"), layout == "cross", "container")
    assert find_views(Video(output)) == expected


def test_layers_are_views(tmp_path):
    film = make_film(tmp_path / "film.mkv", 30, size=(128, 72), cuts=(14,))
    depth = str(make_depth(tmp_path / "depth.npz", 30, (32, 18)))
    options = {"depth": depth, "refine": "none", "progress": "quiet"}
    convert(str(film), tmp_path / "plain.mp4", layout="spatial", **options)
    convert(str(film), tmp_path / "truth.mkv", layout="sbs", codec="ffv1", **options)
    video = Video(tmp_path / "plain.mp4")
    views = find_views(video)
    assert views == Views("layers", False, "MV-HEVC")
    truth = [np.split(picture.astype(int), 2, 1) for picture in read_rgb(tmp_path / "truth.mkv")]
    assert np.mean([abs(left - right).mean() for left, right in truth]) > 6
    second = Video(video.path, second_layer=True)
    for swapped in (False, True):
        stereo = StereoFilm(video, replace(views, swapped=swapped), second)
        pairs = list(stereo.pairs(survey(video, False), range(3, 30)))
        assert [index for index, *_ in pairs] == list(range(3, 30))
        for index, *pair in pairs:
            for view, true in zip(pair, truth[index][:: -1 if swapped else 1], strict=True):
                assert np.abs(view - true).mean() < 4.5  # what H.265 loses
    part = Excerpt(video.path, None, "20f", None, second_layer=True)
    whole = list(second.frames())
    assert [f.raw.pts for f in part.frames()] == [f.raw.pts for f in whole][20:]
    np.testing.assert_array_equal([f.rgb() for f in part.frames()], [f.rgb() for f in whole][20:])


def test_views_that_share_lines_are_refused(tmp_path):
    film = make_film(tmp_path / "film.mkv", 2, size=(128, 96))
    options = {"depth": str(make_depth(tmp_path / "depth.npz", 2)), "refine": "none", "progress": "quiet"}
    convert(str(film), tmp_path / "o.mkv", layout="rows", **options)
    with pytest.raises(UserError, match="mixes its views"):
        find_views(Video(tmp_path / "o.mkv"))


def test_half_spheres_are_refused(tmp_path):
    film = make_film(tmp_path / "film.mkv", 2, size=(128, 96))
    options = {"depth": str(make_depth(tmp_path / "depth.npz", 2)), "refine": "none", "progress": "quiet"}
    convert(str(film), tmp_path / "o.mp4", layout="vr180", fov=60.0, **options)
    with pytest.raises(UserError, match="is spherical: its parallax depends on the direction"):
        find_views(Video(tmp_path / "o.mp4"))


@pytest.mark.parametrize(("layout", "axis"), [("sbs", 1), ("tb", 0)])
@pytest.mark.parametrize("swapped", [False, True])
def test_views_are_cut_out(tmp_path, layout, axis, swapped):
    film = make_film(tmp_path / "film.mkv", 3, size=(66, 50), codec="ffv1", pix_fmt="bgr0")
    first, second = np.split(read_rgb(film)[2], 2, axis)
    video = Video(film)
    ((index, left, right),) = StereoFilm(video, Views(layout, swapped, "")).pairs(survey(video, False), {2})
    assert index == 2
    np.testing.assert_array_equal(left, second if swapped else first)
    np.testing.assert_array_equal(right, first if swapped else second)


def test_films_that_do_not_belong_together_are_refused(tmp_path):
    left = Video(make_film(tmp_path / "left.mkv", 3))
    with pytest.raises(UserError, match=r"--right .* has another size"):
        StereoFilm(left, None, Video(make_film(tmp_path / "small.mkv", 3, size=(32, 48))))
    shorter = StereoFilm(left, None, Video(make_film(tmp_path / "short.mkv", 2)))
    with pytest.raises(UserError, match=r"short\.mkv ends after 2 frames, the other view is longer"):
        list(shorter.pairs(survey(left, False), {0}))


@pytest.mark.parametrize("seed", [0, 1])
def test_matched_parallax_is_the_rendered_one(seed):
    left, right, disparity, _ = ProceduralWorld(seed, HEIGHT, WIDTH, 1, 12, 0.05 * WIDTH).frame(0.0)
    found = matched_parallax(*(view.permute(1, 2, 0).numpy() for view in (left, right)))
    truth = -100 * disparity[0].numpy() / WIDTH
    known = np.isfinite(found)
    assert known.mean() > 0.8
    errors = np.abs(found - truth)[known]
    assert np.median(errors) < 0.06 and (errors < 0.2).mean() > 0.85
    ends = [np.percentile(values, (1, 99)) for values in (found[known], truth)]
    np.testing.assert_allclose(*ends, atol=0.1)


def test_a_sky_is_not_known():
    noise = np.random.default_rng(0).integers(0, 255, (120, 240, 3)).astype(np.uint8)
    noise[:50] = 200
    found = matched_parallax(noise[:, 6:], noise[:, :-6])  # the right view shows it 6 px farther to the right
    assert not np.isfinite(found[:40]).any()
    assert np.nanmedian(found[60:]) == pytest.approx(100 * 6 / 234, abs=0.05)


def test_a_wide_film_is_measured_in_its_own_percent():
    """Made smaller for matching, parallax stays the same share of the width."""
    rough = np.random.default_rng(0).integers(0, 255, (30, 160, 3)).astype(np.uint8)
    wide = np.kron(rough, np.ones((8, 8, 1), np.uint8))
    found = matched_parallax(wide[:, :-32], wide[:, 32:])
    assert np.nanmedian(found) == pytest.approx(-100 * 32 / (1280 - 32), abs=0.1)
