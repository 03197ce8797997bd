"""HDR stays HDR, bit by bit where nothing is made, or becomes the SDR that the standards' formulas give."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from m2svid.convert.verbs import convert
from m2svid.errors import UserError
from m2svid.inference.inpainter import BackgroundFill, Inpainter
from m2svid.video import hdr
from m2svid.video.read import Video
from tests.convert.films import make_depth, read_luma

PQ, HLG, BT2020 = 16, 18, 9
PLAIN = {"refine": "none", "progress": "quiet"}
SCREEN = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"


def make_hdr(
    path: Path,
    transfer: int = PQ,
    pix_fmt: str = "yuv444p10le",
    screen: bool = False,
    noise: int = 20,
    low: int = 160,
    high: int = 820,
) -> Path:
    """Two pictures of noise over a ramp, which has all values of 10 bits; lossless but for what x265 does."""
    codec = "libx265" if screen else "ffv1"
    options = {"x265-params": "log-level=error:lossless=1"} if codec == "libx265" else {}
    if screen:
        options["x265-params"] += f":master-display={SCREEN}:max-cll=1000,400"
    with av.open(str(path), "w") as target:
        stream = target.add_stream(codec, rate=24, options=options)
        stream.width, stream.height, stream.pix_fmt = 128, 96, pix_fmt
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace = BT2020, transfer, BT2020
        context.color_range = 1
        for index in range(2):
            frame = av.VideoFrame(128, 96, pix_fmt)
            random = np.random.default_rng(index)
            for number, plane in enumerate(frame.planes):
                rows = np.frombuffer(plane, np.uint16).reshape(plane.height, -1)
                across = np.linspace(low, high, plane.width) if number == 0 else np.full(plane.width, 512)
                values = across + random.integers(-noise, noise + 1, (plane.height, plane.width))
                rows[:, : plane.width] = values.clip(64, 940)
            frame.pts, frame.time_base = index, Fraction(1, 24)
            frame.color_primaries, frame.color_trc, frame.colorspace = BT2020, transfer, BT2020
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return path


def flat_depth(folder: Path) -> str:
    np.savez(folder / "flat.npz", depth=np.full((2, 24, 32), 7.5, np.float32))
    return str(folder / "flat.npz")


def planes(path: Path) -> np.ndarray:
    """Y, U and V of all frames of 4:4:4 (T, 3, H, W)."""
    with av.open(str(path)) as container:
        return np.stack([[samples(plane) for plane in frame.planes] for frame in container.decode(video=0)])


def samples(plane: av.video.plane.VideoPlane) -> np.ndarray:
    return np.frombuffer(plane, np.uint16).reshape(plane.height, -1)[:, : plane.width].copy()


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_what_the_model_does_not_make_keeps_its_ten_bits(tmp_path, transfer):
    """The left eye is the source; the right one, warped by nothing and filled nowhere, equals it."""
    film = make_hdr(tmp_path / "film.mkv", transfer)
    options = PLAIN | {"depth": flat_depth(tmp_path), "blend": "holes", "convergence": 0.0}
    convert(str(film), tmp_path / "out.mkv", codec="ffv1", **options)
    source, made = planes(film), planes(tmp_path / "out.mkv")
    np.testing.assert_array_equal(made[..., :128], source)
    through_rgb = np.abs(made[..., 128:].astype(int) - source)
    assert through_rgb[:, 0].max() <= 1  # of 1023; the one of swscale's rounding to RGB and back
    assert (through_rgb[:, 0] == 0).mean() > 0.95
    with av.open(str(tmp_path / "out.mkv")) as container:
        context = container.streams.video[0].codec_context
        tags = context.color_trc, context.color_primaries, context.colorspace, context.pix_fmt
    assert tags == (transfer, BT2020, BT2020, "yuv444p10le")


def test_every_value_comes_back_from_what_networks_see():
    codes = np.arange(1024)
    rgb = np.round(codes * 65280 / 1023).astype(np.uint16)[None, :, None].repeat(3, -1)
    view = hdr.to_view(rgb, PQ)
    assert (np.diff(view[0, :, 0].astype(int)) > 0).all()
    back = hdr.from_view(view, PQ).astype(int)
    np.testing.assert_array_equal((back * 1023 + 32640) // 65280, codes[None, :, None].repeat(3, -1))


@pytest.mark.parametrize(("codec", "suffix"), [("h265", ".mp4"), ("h264", ".mkv"), ("av1", ".mp4")])
def test_the_container_tells_of_hdr(tmp_path, codec, suffix):
    film = make_hdr(tmp_path / "film.mkv", screen=True)
    preset = {"h264": "ultrafast", "h265": "ultrafast", "av1": "12"}[codec]
    options = PLAIN | {"depth": flat_depth(tmp_path), "speed": preset}
    convert(str(film), tmp_path / f"out{suffix}", codec=codec, **options)
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.color_trc, context.color_primaries, context.colorspace) == (PQ, BT2020, BT2020)
        assert "10" in context.pix_fmt
        found = hdr.Mastering.of(next(container.decode(stream)))
    assert found.light == (1000, 400)
    expected = (0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329)
    np.testing.assert_allclose([float(value) for value in found.primaries], expected, atol=2e-5)
    assert [float(value) for value in found.luminance] == pytest.approx([0.0001, 1000], abs=1e-4)


def test_what_prores_can_not_tell_is_said(tmp_path, capsys):
    film = make_hdr(tmp_path / "film.mkv", screen=True)
    options = PLAIN | {"depth": flat_depth(tmp_path), "progress": "json"}
    convert(str(film), tmp_path / "out.mov", codec="prores", **options)
    told = capsys.readouterr().err
    assert "prores has no place for the mastering display" in told
    assert "PQ is tone-mapped for depth and model, and mapped back" in told


def test_to_sdr_is_what_the_formulas_give():
    """PQ's EOTF of BT.2100 by its other form, the tone curve by its definition, BT.2087, BT.1886."""

    def light(code: float) -> float:
        power = code ** (32 / 2523)
        return 10000 * (max(power - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * power)) ** (8192 / 1305)

    def curve(x: float, knee: float = 0.3, peak: float = 10000 / 203) -> float:
        if x <= knee:
            return x
        # Möbius function through (knee, knee) with slope 1 there, and through (peak, 1)
        c = (1 - knee) / (peak - knee)
        s = (1 - c) / (1 - knee)
        return knee + (x - knee) / (1 + s * (x - knee))

    matrix = [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
    random = np.random.default_rng(0)
    codes = random.integers(0, 65281, (1, 60, 3)).astype(np.uint16)
    codes[0, 0], codes[0, 1] = 0, 65280
    for given, made in zip(codes[0], hdr.to_sdr(codes, PQ)[0], strict=True):
        linear = [curve(light(value / 65280) / 203) for value in given.tolist()]
        rgb = [sum(a * b for a, b in zip(row, linear, strict=True)) for row in matrix]
        expected = [round(65280 * min(max(value, 0), 1) ** (1 / 2.4)) for value in rgb]
        np.testing.assert_allclose(made, expected, atol=30)
    assert hdr.pq_to_light(np.array([0.58]))[0] == pytest.approx(203, rel=0.01)  # BT.2408: 58 % is white


def test_hlg_to_sdr_is_what_the_formulas_give():
    """Scene light of HLG's 75 % is 26.5 % (BT.2408), which shows as 203 cd/m2 on a screen of 1000."""
    gray = np.full((1, 1, 3), round(0.75 * 65280), np.uint16)
    scene = (math.exp((0.75 - 0.55991073) / 0.17883277) + 0.28466892) / 12
    assert 1000 * scene**1.2 == pytest.approx(203, rel=0.01)
    expected = hdr.compress(np.array([1000 * scene**1.2]))[0] ** (1 / 2.4)
    np.testing.assert_allclose(hdr.to_sdr(gray, HLG) / 65280, expected, atol=1e-3)


def test_a_film_to_sdr_is_tagged_and_shown_so(tmp_path):
    film = make_hdr(tmp_path / "film.mkv", pix_fmt="yuv420p10le", screen=True, noise=0, low=64, high=940)
    options = PLAIN | {"depth": flat_depth(tmp_path), "convergence": 0.0}
    convert(str(film), tmp_path / "out.mp4", to_sdr=True, **options)
    with av.open(str(tmp_path / "out.mp4")) as container:
        context = container.streams.video[0].codec_context
        tags = context.color_trc, context.color_primaries, context.colorspace, context.pix_fmt
        assert hdr.Mastering.of(next(container.decode(video=0))) is None
    assert tags == (1, 1, 1, "yuv420p")
    luma = read_luma(tmp_path / "out.mp4")[0].astype(float).mean(0)
    source = read_luma(film)[0].astype(float).mean(0)
    for column in (20, 60, 100):  # the ramp's average brightness, gray: by the formula above
        code = (source[column] - 64) / 876
        expected = 16 + 219 * hdr.compress(hdr.pq_to_light(np.array([code])))[0] ** (1 / 2.4)
        assert abs(luma[column] - expected) < 6
        assert abs(luma[128 + column] - luma[column]) < 6


def test_eight_bits_are_refused(tmp_path):
    film = make_hdr(tmp_path / "film.mkv")
    with pytest.raises(UserError, match="is HDR, which needs 10 bits and a layout of two"):
        convert(str(film), tmp_path / "out.mp4", bits=8, depth=flat_depth(tmp_path), **PLAIN)


def test_to_sdr_of_sdr_says_so(tmp_path, caplog):
    with av.open(str(tmp_path / "film.mkv"), "w") as target:
        stream = target.add_stream("ffv1", rate=24, width=64, height=48, pix_fmt="yuv420p")
        target.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        target.mux(stream.encode(None))
    Video(tmp_path / "film.mkv", to_sdr=True)
    assert "is no HDR: --to-sdr changes nothing" in caplog.text


def test_stages_give_the_same_hdr_film(tmp_path, monkeypatch):
    from m2svid.convert.verbs import refine, warp

    monkeypatch.setattr(BackgroundFill, "warp", Inpainter.warp)  # as for a model
    film = make_hdr(tmp_path / "film.mkv")
    depth = {"depth": str(make_depth(tmp_path / "depth.npz", 2)), "progress": "quiet", "clean_edges": 0}
    convert(str(film), tmp_path / "one.mkv", refine="none", codec="ffv1", **depth)
    warp(film, tmp_path / "warp", **depth)
    views = tmp_path / "warp" / "warped.mkv", tmp_path / "warp" / "hole.mkv"
    refine(film, *views, tmp_path / "two.mkv", refine="none", codec="ffv1", progress="quiet")
    one, two = (read_luma(tmp_path / name).astype(int) for name in ("one.mkv", "two.mkv"))
    assert np.abs(one - two).max() <= 8  # of 1023: the warped view is stored with 10 bits
