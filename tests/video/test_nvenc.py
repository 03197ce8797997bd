"""Encoding on a card: what is refused, what the encoder is given, and that pieces still make a film."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from m2svid.convert.setup import encoding_of
from m2svid.convert.stereo_options import Options
from m2svid.convert.verbs import convert
from m2svid.errors import UserError
from m2svid.video import nvenc
from m2svid.video.hdr import Mastering
from m2svid.video.info import UNTAGGED
from m2svid.video.layouts import LAYOUTS
from m2svid.video.mux import assemble
from m2svid.video.planes import PixelFormat
from m2svid.video.read import Video
from m2svid.video.shots import Survey
from m2svid.video.write import Encoding, check_encoder, encode, read_piece
from tests.convert.films import make_depth, make_film


def on_card(codec: str, bits: int = 8, **options) -> Encoding:
    given = {"crf": 20, "speed": "p5", "encoder": "nvenc"} | options
    return Encoding(codec, PixelFormat("420", bits), 256, 144, Fraction(24), UNTAGGED, Fraction(1), **given)


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        (on_card("prores"), "for h264, h265, av1: --codec prores needs --encoder software"),
        (on_card("h265", layers=True), "--layout spatial needs --encoder software"),
        (on_card("h264", 10), "no H.264 of 10 bits: give --codec h265 or --bits 8"),
        (on_card("h265", speed="slow"), "--speed must be one of p1, .*p7 with --encoder nvenc, not slow"),
        (on_card("h264", crf=0), "--crf must be at least 1 with --encoder nvenc, not 0"),
    ],
)
def test_what_a_card_can_not_encode_is_refused(encoding, message):
    with pytest.raises(UserError, match=message):
        check_encoder(encoding)


@pytest.mark.parametrize(
    ("layout", "size", "codec"),
    [
        ("sbs", (2048, 16), "h264"),  # 4096 px, the most that NVENC's H.264 takes
        ("sbs", (2050, 16), "h265"),
        ("tb", (64, 2050), "h265"),
        ("sbs-half", (4096, 16), "h264"),
    ],
)
def test_the_codec_is_one_that_cards_have_for_such_pictures(tmp_path, layout, size, codec):
    video = Video(make_film(tmp_path / "film.mkv", 1, size=size, codec="ffv1"))
    options = Options(refine="none", codec="auto", encoder="nvenc")
    assert encoding_of(video, LAYOUTS[layout], options).codec == codec
    assert encoding_of(video, LAYOUTS[layout], replace(options, encoder="software")).codec == "h264"
    assert encoding_of(video, LAYOUTS[layout], replace(options, codec="h264")).codec == "h264"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
@pytest.mark.parametrize(("codec", "bits"), [("h264", 8), ("h265", 8), ("h265", 10), ("av1", 10)])
def test_only_the_card_is_missing(codec, bits):
    with pytest.raises(UserError, match=r"256×144.*--speed p5.*give --encoder software") as refused:
        check_encoder(on_card(codec, bits))
    assert isinstance(refused.value.__cause__, av.error.PermissionError)  # of bad options: ArgumentError


def test_the_encoder_is_given_quality_and_speed_alone():
    told = Mastering(light=(1000, 400))
    encoding = on_card("h265", 10, mastering=told, crf=23, speed="p7")
    assert encoding.options() == {"preset": "p7", "rc": "vbr", "cq": "23", "b": "0"}
    assert encoding.told_mastering() == []
    assert replace(encoding, encoder="software").told_mastering() == ["max-cll=1000,400"]


def test_ten_bits_become_p010(tmp_path, monkeypatch):
    monkeypatch.setitem(nvenc.NAMES, "h265", "rawvideo")
    monkeypatch.setattr(nvenc, "options", lambda *_: {})
    noise = np.random.default_rng(0)
    y, u, v = (noise.integers(0, 1024, shape).astype("<u2") for shape in [(144, 256), (72, 128), (72, 128)])
    encode([[y, u, v]], on_card("h265", 10), tmp_path / "piece.npz")
    (packet,) = read_piece(tmp_path / "piece.npz")
    stored = np.frombuffer(packet.data, "<u2")  # samples in the upper bits, chroma interleaved
    assert np.array_equal(stored[: y.size], y.ravel() << 6)
    assert np.array_equal(stored[y.size :], np.stack([u, v], -1).ravel() << 6)


@pytest.fixture
def film(tmp_path, monkeypatch):
    """A film, and x264 in place of the card."""
    monkeypatch.setitem(nvenc.NAMES, "h264", "libx264")
    monkeypatch.setattr(nvenc, "options", lambda quality, speed: {"crf": str(quality), "preset": "medium"})
    make_depth(tmp_path / "depth.npz", 3)
    return make_film(tmp_path / "film.mp4", 3)


def test_a_film_is_joined_from_what_the_card_encoded(film):
    depth = str(film.parent / "depth.npz")
    output = film.parent / "out.mp4"
    convert(str(film), output, depth=depth, refine="none", progress="quiet", encoder="nvenc", codec="h264")
    with av.open(str(output)) as container:
        assert len(list(container.decode(video=0))) == 3


def test_pieces_of_two_cards_are_not_joined(film):
    gray = [np.zeros((144, 256), np.uint8), *[np.zeros((72, 128), np.uint8)] * 2]
    pieces = [film.with_name("0.npz"), film.with_name("1.npz")]
    for piece, crf in zip(pieces, (20, 40), strict=True):  # x264's headers hold the crf
        encode([gray], on_card("h264", crf=crf), piece)
    times = Survey((0, 1), 2, ())
    with pytest.raises(UserError, match=r"continued on another card or driver.*give --restart"):
        assemble(
            pieces, on_card("h264"), LAYOUTS["sbs"], Fraction(1, 24), times, None, film.with_name("o.mp4")
        )
    assert not film.with_name("o.mp4").exists()


def test_the_layout_that_h264_does_not_tell_is_said():
    encoding = on_card("h264", packing=3)
    assert "NVENC does not announce the layout" in encoding.warning()
    assert replace(encoding, encoder="software").warning() is None
    assert replace(encoding, packing=None).warning() is None


def test_the_encoder_belongs_to_the_settings():
    assert Options(refine="none", encoder="nvenc").settings()["encoder"] == "nvenc"
    with pytest.raises(UserError, match="--encoder must be one of software, nvenc, not 'gpu'"):
        Options(refine="none", encoder="gpu")
