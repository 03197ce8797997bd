"""Spatial video: both layers decode as two plain encodings do, and the boxes say what they shall."""

from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from m2svid.convert.verbs import convert
from m2svid.errors import UserError
from m2svid.video.bits import BitReader, escape, ue, unescape
from m2svid.video.info import UNTAGGED
from m2svid.video.mv_hevc import split
from m2svid.video.planes import PixelFormat
from m2svid.video.write import Encoding, PieceWriter, encode, piece_headers, read_piece
from tests.convert.films import make_depth, make_film, picture, read_luma

CONTAINERS = {
    b"moov",
    b"trak",
    b"mdia",
    b"minf",
    b"stbl",
    b"vexu",
    b"eyes",
    b"cams",
    b"cmfy",
    b"pack",
    b"proj",
}
Boxes = dict[bytes, list[bytes]]


def boxes(data: bytes, found: Boxes | None = None) -> Boxes:
    """Kind -> contents of all boxes, of those of the pictures' description too."""
    found = {} if found is None else found
    start = 0
    while start + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, start)
        content = data[start + 8 : start + size]
        found.setdefault(kind, []).append(content)
        inner = {b"stsd": 8, b"hvc1": 78, b"avc1": 78}.get(kind, 0 if kind in CONTAINERS else None)
        if inner is not None:
            boxes(content[inner:], found)
        start += size
    return found


def views(path: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    with av.open(str(path), format="hevc" if path.suffix == ".hevc" else None) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"view_ids": "-1"}
        frames = [frame.to_ndarray() for frame in container.decode(stream)]
    return frames[::2], frames[1::2]


def planes(rgb: np.ndarray) -> list[np.ndarray]:
    frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format="yuv420p")
    return [
        np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width] for plane in frame.planes
    ]


@pytest.fixture
def run(tmp_path):
    film = make_film(tmp_path / "film.mkv", 30, size=(98, 74), cuts=(14,), sound=1)
    options = {"depth": str(make_depth(tmp_path / "depth.npz", 30, (49, 37))), "refine": "none"}

    def call(name: str, layout: str = "spatial", **more) -> Path:
        convert(str(film), tmp_path / name, layout=layout, progress="quiet", **(options | more))
        return tmp_path / name

    return call


def test_layers_are_bit_for_bit_what_two_plain_streams_decode_to(tmp_path):
    size = {"width": 96, "height": 72, "rate": Fraction(24), "color": UNTAGGED, "aspect": Fraction(1)}
    encoding = Encoding("h265", PixelFormat("420", 8), crf=20, speed="medium", layers=True, **size)
    left, right = ([planes(picture(index + 5 * eye, 96, 72)) for index in range(26)] for eye in (0, 1))
    both = [
        [np.concatenate(pair) for pair in zip(*each, strict=True)] for each in zip(left, right, strict=True)
    ]
    encode(both, encoding, tmp_path / "both.npz")
    raw = piece_headers(tmp_path / "both.npz") + b"".join(
        each.data for each in read_piece(tmp_path / "both.npz")
    )
    (tmp_path / "both.hevc").write_bytes(raw)
    for eye, (own, made) in enumerate(zip((left, right), views(tmp_path / "both.hevc"), strict=True)):
        alone = replace(encoding, layers=False)
        object.__setattr__(alone, "options", lambda: encoding.options())
        encode(own, alone, tmp_path / "one.npz")
        decoder = av.CodecContext.create("hevc", "r")
        decoder.extradata = piece_headers(tmp_path / "one.npz")
        given = [av.Packet(each.data) for each in read_piece(tmp_path / "one.npz")]
        decoded = [frame.to_ndarray() for packet in [*given, None] for frame in decoder.decode(packet)]
        assert len(made) == len(decoded) == 26, eye
        np.testing.assert_array_equal(made, decoded)


def test_a_film_has_both_views_sound_and_the_boxes(run):
    film = run("out.mp4", fov=70.0)
    side = run("side.mkv", "sbs", codec="ffv1")
    wanted = read_luma(side).astype(int)
    left, right = (np.stack(eye)[:, :74, :98].astype(int) for eye in views(film))
    assert len(left) == len(right) == 30
    assert np.abs(left - wanted[:, :, :98]).mean() < 2 and np.abs(right - wanted[:, :, 98:]).mean() < 2
    assert np.abs(left - right).mean() > 4
    found = boxes(film.read_bytes())
    assert (found[b"stri"], found[b"hero"]) == ([b"\0\0\0\0\x03"], [b"\0\0\0\0\x01"])
    assert found[b"blin"] == [b"\0\0\0\0" + (63000).to_bytes(4, "big")]
    assert found[b"dadj"] == [bytes(8)] and found[b"hfov"] == [(70000).to_bytes(4, "big")]
    assert b"pack" not in found and b"st3d" not in found
    (configuration,), (layer,) = found[b"hvcC"], found[b"lhvC"]
    arrays = [kind & 63 for kind, _, _ in nal_arrays(configuration[22], configuration[23:])]
    assert arrays == [32, 33, 34, 39]  # VPS, SPS, PPS, and the SEI that Apple's encoder has there
    assert [(kind & 63, unit[1] >> 3) for kind, _, unit in nal_arrays(layer[5], layer[6:])] == [
        (33, 1),
        (34, 1),
    ]
    with av.open(str(film)) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]


def nal_arrays(count: int, data: bytes) -> list[tuple[int, int, bytes]]:
    arrays, place = [], 0
    for _ in range(count):
        kind, number, size = struct.unpack_from(">BHH", data, place)
        arrays.append((kind, number, data[place + 5 : place + 5 + size]))
        place += 5 + size
    return arrays


def test_an_interrupted_film_is_the_same_film(run, tmp_path, monkeypatch):
    straight = run("straight.mp4")
    made, finish = [], PieceWriter.finish

    def stop(piece):
        made.append(piece)
        if len(made) == 2:
            raise KeyboardInterrupt
        finish(piece)

    monkeypatch.setattr(PieceWriter, "finish", stop)
    with pytest.raises(KeyboardInterrupt):
        run("out.mp4")
    monkeypatch.undo()
    assert run("out.mp4").read_bytes() == straight.read_bytes()


@pytest.mark.parametrize(
    ("layout", "stri", "packing", "projection"),
    [
        ("sbs", 0b0011, b"side", b"rect"),
        ("cross", 0b1011, b"side", b"rect"),
        ("tb", 0b0011, b"over", b"rect"),
        ("vr180", 0b0011, b"side", b"hequ"),
    ],
)
def test_packed_films_tell_it_to_apple_s_players_too(run, layout, stri, packing, projection):
    found = boxes(run("out.mp4", layout, **({"fov": 90.0} if layout == "vr180" else {})).read_bytes())
    assert [found[kind][0][4:] for kind in (b"stri", b"pkin", b"prji")] == [
        bytes([stri]),
        packing,
        projection,
    ]
    assert found.get(b"hfov") == ([(180_000).to_bytes(4, "big")] if layout == "vr180" else None)
    assert (b"st3d" in found) == (layout != "cross")


def test_views_of_half_size_do_not_tell_it(run):
    assert b"vexu" not in boxes(run("out.mp4", "sbs-half").read_bytes())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codec": "av1"}, "--layout spatial is H.265 of 8 bits"),
        ({"bits": 10}, "--layout spatial is H.265 of 8 bits"),
    ],
)
def test_what_spatial_video_is_not(run, options, message):
    with pytest.raises(UserError, match=message):
        run("out.mp4", **options)
    with pytest.raises(UserError, match=r"must end in one of \.mp4, \.m4v, \.mov for codec h265 in layers"):
        run("out.mkv")


def test_bits_and_escapes():
    bits = BitReader(bytes([0b1_010_011_0, 0b0100_0010, 0b1_0000000]))
    assert [bits.ue() for _ in range(3)] == [0, 1, 2]  # 1, 010, 011
    assert bits.ue() == 3 and bits.se() == -2 and bits.content() == ""  # 00100, 00101
    assert [ue(number) for number in range(5)] == ["1", "010", "011", "00100", "00101"]
    plain = bytes([0, 0, 0, 1, 0, 0, 3, 0, 0, 2, 7, 0, 0, 4, 0, 0])
    assert escape(plain) == bytes([0, 0, 3, 0, 1, 0, 0, 3, 3, 0, 0, 3, 2, 7, 0, 0, 4, 0, 0])
    assert unescape(escape(plain)) == plain
    assert [(nal.kind, nal.payload) for nal in split(b"\0\0\0\1\x40\1ab\0\0\1\x42\1c")] == [
        (32, b"ab"),
        (33, b"c"),
    ]
