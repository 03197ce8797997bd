"""How films are stored: codecs that players have, what encoders refuse, shapes of pixels, ranges, layouts."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from m2svid.convert.verbs import convert
from m2svid.errors import UserError
from m2svid.video.codecs import pick_codec
from m2svid.video.info import UNTAGGED
from m2svid.video.layouts import LAYOUTS, arrange
from m2svid.video.planes import PixelFormat
from m2svid.video.write import Encoding, check_encoder
from tests.convert.films import make_depth, make_film, read_luma


def run(film: Path, output: Path, frames: int = 3, **options) -> Path:
    depth = str(make_depth(film.parent / "depth.npz", frames))
    convert(str(film), output, **({"depth": depth, "refine": "none", "progress": "quiet"} | options))
    return output


@pytest.mark.parametrize(
    ("bits", "size", "codec"),
    [
        (8, (3840, 1080), "h264"),
        (8, (7680, 1080), "h264"),  # 480×68 macroblocks of level 5.2's 36864
        (8, (7680, 2160), "h265"),
        (8, (9472, 16), "h265"),  # 592 macroblocks wide; the root of 8·36864 is 543
        (10, (1920, 1080), "h265"),
    ],
)
def test_the_codec_is_one_that_players_have(bits, size, codec):
    assert pick_codec("auto", PixelFormat("420", bits), None, size) == codec
    assert pick_codec("h264", PixelFormat("420", bits), None, size) == "h264"


def stored(codec: str, size: tuple[int, int], bits: int = 8, **options) -> Encoding:
    form = PixelFormat("420", bits)
    given = {"crf": 20, "speed": "medium"} | options
    return Encoding(codec, form, *size, Fraction(24), UNTAGGED, Fraction(1), **given)


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        (stored("h264", (7680, 2160)), "more than any level of h264 .*; --codec h265 goes further"),
        (stored("h264", (1920, 1080), 10), "few players have H.264 of 10 bits"),
        (stored("h265", (9472, 4736)), "9472×4736 is more than any level of h265"),
        (stored("h265", (7680, 2160), 10), None),
    ],
)
def test_what_players_do_not_like_is_said(encoding, message):
    if message is None:
        assert encoding.warning() is None
    else:
        with pytest.raises(AssertionError, match=message):
            raise AssertionError(encoding.warning())


def test_ten_bits_become_h265(tmp_path):
    film = make_film(tmp_path / "film.mp4", 3, codec="libx265", pix_fmt="yuv420p10le")
    with av.open(str(run(film, tmp_path / "out.mp4"))) as container:
        assert container.streams.video[0].codec_context.name == "hevc"


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        (
            stored("h264", (64, 48), speed="fats"),
            "--codec h264 can't store .*--speed fats, .*its speeds are ultrafast,",
        ),
        (
            stored("h265", (64, 48), speed="fats"),
            "--codec h265 can't store .*--speed fats, .*its speeds are ultrafast,",
        ),
        (stored("av1", (64, 64), speed="slow"), "--codec av1 can't store .*--speed slow, .*are numbers, 0 "),
    ],
)
def test_what_the_encoder_refuses_is_said_at_once(encoding, message):
    with pytest.raises(UserError, match=message):
        check_encoder(encoding)


@pytest.mark.parametrize("codec", ["prores", "ffv1"])
@pytest.mark.parametrize("options", [{"crf": 20}, {"speed": "slow"}], ids=str)
def test_quality_and_speed_are_refused_where_there_are_none(tmp_path, codec, options):
    film = make_film(tmp_path / "film.mkv", 2)
    (option,) = options
    with pytest.raises(
        UserError, match=f"^--{option} is for h264, h265, av1: {codec} has none; leave it out"
    ):
        run(film, tmp_path / "out.mkv", codec=codec, **options)


def test_svt_av1_is_silent_and_leaves_the_priority_alone(tmp_path):
    """It raises the priority of the thread that opens it to that of real time where it may: as root."""
    film, output = make_film(tmp_path / "film.mkv", 2), tmp_path / "out.mp4"
    code = (
        "import os, tests.video.test_written as t; from pathlib import Path; "
        "before = getattr(os, 'sched_getscheduler', int)(0); "
        f"t.run(Path({str(film)!r}), Path({str(output)!r}), frames=2, codec='av1', speed='12'); "
        "assert getattr(os, 'sched_getscheduler', int)(0) == before"
    )
    environment = {name: value for name, value in os.environ.items() if name != "SVT_LOG"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert output.exists()


# a film of 64×48 px whose pixels are 4:3; of half pictures, a pixel is twice as wide or high
@pytest.mark.parametrize(
    ("layout", "aspect"),
    [("sbs", 1), ("sbs-half", 2), ("tb-half", Fraction(1, 2)), ("right", 1), ("rows", 1), ("cross-half", 2)],
)
@pytest.mark.parametrize("pixel", [Fraction(1), Fraction(4, 3)])
def test_matroska_keeps_the_shape_of_pixels(tmp_path, layout, aspect, pixel):
    film = tmp_path / "film.mp4"
    with av.open(str(film), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.codec_context.sample_aspect_ratio = 64, 48, pixel
        for index in range(2):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 50 * index, np.uint8), "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 24)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(run(film, tmp_path / "out.mkv", 2, layout=layout))) as container:
        read = container.streams.video[0].sample_aspect_ratio
    assert float(read) == pytest.approx(float(aspect * pixel), rel=0.02)  # Matroska has whole pixels


def test_full_range_keeps_its_contrast_in_prores(tmp_path):
    film = make_film(tmp_path / "film.mp4", 3, pix_fmt="yuvj420p", color={"color_range": 2})
    output = run(film, tmp_path / "out.mov", codec="prores")
    luma = read_luma(output)[:, :, :64] / 4  # of 10 bits, which players take for 16 to 235
    assert np.abs((luma - 16) * 255 / 219 - read_luma(film)).mean() < 1


def view(value: int) -> list[np.ndarray]:
    """Planes of a 4×4 picture whose rows are value, value + 4, ..."""
    luma = np.repeat(value + 4 * np.arange(4, dtype=np.uint8)[:, None], 4, 1)
    return [luma, luma[:2, :2].copy(), luma[2:, 2:].copy()]


def test_rows_alternate():
    mixed = arrange([view(0), view(100)], LAYOUTS["rows"], PixelFormat("420", 8))
    # with weights 1, 2, 1 a slope stays, but for the last row: (8 + 2·12 + 12 + 2) // 4 = 11
    assert mixed[0][:, 0].tolist() == [1, 104, 8, 111]
    assert mixed[1][:, 0].tolist() == [1, 103]
    assert [plane.shape for plane in mixed] == [(4, 4), (2, 2), (2, 2)]


def test_crossed_eyes_see_the_right_view_on_the_left():
    crossed, plain = (
        arrange([view(0), view(100)], LAYOUTS[name], PixelFormat("420", 8)) for name in ("cross", "sbs")
    )
    for mixed, other in zip(crossed, plain, strict=True):
        np.testing.assert_array_equal(np.roll(mixed, mixed.shape[1] // 2, 1), other)


@pytest.mark.parametrize(("layout", "width"), [("rgbd", 64), ("rgbd-half", 32)])
def test_depth_lies_beside_the_film_without_a_model(tmp_path, layout, width):
    film = make_film(tmp_path / "film.mkv", 3)
    output = run(film, tmp_path / "out.mkv", layout=layout, codec="ffv1", refine="model")
    luma = read_luma(output)
    assert luma.shape == (3, 48, 2 * width)
    if layout == "rgbd":
        np.testing.assert_array_equal(luma[:, :, :64], read_luma(film))
    depth = np.load(tmp_path / "depth.npz")["depth"][0]
    near, far = luma[0, 30, width + width // 2], luma[0, 2, width + width // 2]
    assert abs(int(near) - 235) <= 1  # the square has depth 1: white
    assert abs(int(far) - (16 + 219 * float(depth[1, 16]))) <= 3
