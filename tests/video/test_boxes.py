"""What containers tell about stereo and VR180, as FFmpeg reads it, and that nothing else in them changes."""

from __future__ import annotations

import errno
import os
import re
import shutil
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.sidedata.sidedata import Type

from m2svid.convert.verbs import convert
from m2svid.errors import UserError
from m2svid.video import mp4_boxes as boxes
from m2svid.video import mux
from m2svid.video.layouts import LAYOUTS
from m2svid.video.mp4_boxes import add_stereo_boxes
from tests.convert.films import make_depth, make_film

SIDE_BY_SIDE, TOP_BOTTOM = 1, 2  # FFmpeg's AVStereo3DType
CROPPED, HALF, FLAT = (
    2,
    3,
    4,
)  # AVSphericalProjection: a part of an equirectangular picture, half of one, none
QUARTER = 0x40000000
HALF_SPHERES = (CROPPED, 0, 0, 0, QUARTER, 0, QUARTER, 0)  # in Google's words
APPLE_S, RECTILINEAR = (HALF, *[0] * 7), (FLAT, *[0] * 7)  # in Apple's, which FFmpeg prefers


def told(path: Path) -> tuple[int | None, tuple[int, ...] | None]:
    """Stereo mode; projection with yaw, pitch, roll and the bounds left, top, right and bottom."""
    with av.open(str(path)) as container:
        data = {item.type: bytes(item) for item in next(container.decode(video=0)).side_data}
    mode, sphere = data.get(Type.STEREO3D), data.get(Type.SPHERICAL)
    return mode and struct.unpack_from("<i", mode)[0], sphere and struct.unpack_from("<4i4I", sphere)


def packets(path: Path) -> list[tuple]:
    with av.open(str(path)) as container:
        read = [packet for packet in container.demux() if packet.size]
        return [(p.stream_index, p.pts, p.dts, p.duration, p.is_keyframe, bytes(p)) for p in read]


def subtitled(film: Path, path: Path) -> Path:
    """The film with a subtitle as MP4 has them."""
    with av.open(str(film)) as source, av.open(str(path), "w") as target:
        copies = [target.add_stream_from_template(stream, opaque=True) for stream in source.streams]
        words = target.add_mux_stream("mov_text", time_base=Fraction(1, 1000))
        text = av.Packet(b"\x00\x05hello")
        text.pts, text.dts, text.duration, text.time_base = 0, 0, 100, Fraction(1, 1000)
        text.stream = words
        for packet in [*source.demux(), text]:
            if packet.dts is not None:
                packet.stream = packet.stream if packet is text else copies[packet.stream_index]
                target.mux(packet)
    return path


@pytest.fixture
def run(tmp_path):
    film = subtitled(make_film(tmp_path / "film.mp4", 6, sound=2), tmp_path / "subtitled.mp4")
    common = {"depth": str(make_depth(tmp_path / "depth.npz", 6)), "refine": "none", "progress": "quiet"}

    def call(name: str, layout: str, **options) -> Path:
        source = tmp_path / "film.mp4" if name.endswith(".mkv") else film
        fov = {"fov": 90.0} if layout == "vr180" else {}
        convert(str(source), tmp_path / name, layout=layout, **common, **fov, **options)
        return tmp_path / name

    return call


@pytest.mark.parametrize(("codec", "suffix"), [("h265", ".mp4"), ("av1", ".mp4"), ("prores", ".mov")])
@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("sbs", (SIDE_BY_SIDE, RECTILINEAR)),
        ("tb-half", (TOP_BOTTOM, None)),
        ("vr180", (SIDE_BY_SIDE, APPLE_S)),
        ("right", (None, None)),
        ("anaglyph", (None, None)),
    ],
)
def test_mp4_and_mov_tell_the_layout(run, codec, suffix, layout, expected):
    assert told(run(f"out{suffix}", layout, codec=codec)) == expected


@pytest.mark.parametrize("codec", ["h264", "h265", "av1", "prores", "ffv1"])
def test_matroska_tells_the_half_spheres(run, codec):
    film = run("out.mkv", "vr180", codec=codec)
    assert told(film) == (SIDE_BY_SIDE, HALF_SPHERES)
    with av.open(str(film)) as container:
        assert "title" not in container.streams.video[0].metadata
    size, content = re.search(
        rb"\x16\x54\xae\x6b([\x40-\x7f].)(\xbf\x84.*)", film.read_bytes(), re.DOTALL
    ).groups()
    content = content[: int.from_bytes(size, "big") & 0x3FFF]
    assert content[2:6] == zlib.crc32(content[6:]).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("codec", "suffix"), [("h264", ".m4v"), ("h265", ".mp4"), ("prores", ".mov"), ("h264", ".mkv")]
)
def test_pictures_sound_and_subtitles_stay(run, monkeypatch, codec, suffix):
    described = run(f"described{suffix}", "vr180", codec=codec)
    assert run(f"again{suffix}", "vr180", codec=codec).read_bytes() == described.read_bytes()
    monkeypatch.setattr(mux, "add_stereo_boxes", lambda *_: None)
    monkeypatch.setattr(mux.ebml, "describe", lambda *_: None)
    plain = run(f"plain{suffix}", "vr180", codec=codec)
    assert packets(described) == packets(plain)
    assert {packet[0] for packet in packets(plain)} == set(range(3 if suffix == ".mkv" else 4))
    google, apple = 13 + 87, 8 + 34 + 24 + 24 + 12  # st3d, sv3d; vexu with eyes, proj, pack; hfov
    grown = 0 if suffix == ".mkv" else google + apple
    assert described.stat().st_size - plain.stat().st_size == grown


def test_boxes_come_before_the_shape_of_the_pixels(run):
    data = run("out.mp4", "vr180").read_bytes()
    places = [data.rindex(kind) for kind in (b"avcC", b"st3d", b"sv3d", b"pasp")]
    assert places == sorted(places)


def test_an_index_of_any_length_moves(tmp_path, monkeypatch):
    film = make_film(tmp_path / "film.mp4", 30, codec="libx265")
    small = Path(shutil.copy(film, tmp_path / "small.mp4"))
    add_stereo_boxes(film, LAYOUTS["sbs"])
    monkeypatch.setattr(boxes, "_CHUNK", 7)
    add_stereo_boxes(small, LAYOUTS["sbs"])
    assert small.read_bytes() == film.read_bytes()
    assert told(small) == (SIDE_BY_SIDE, RECTILINEAR)


def test_pictures_of_more_than_4_gigabytes(tmp_path):
    film = make_film(tmp_path / "film.mp4", 5, codec="libx265")
    before = packets(film)
    data = film.read_bytes()
    place = data.index(b"free") - 4  # the muxer takes this box for a 64-bit size
    size = int.from_bytes(data[place + 8 : place + 12], "big") + 8
    film.write_bytes(data[:place] + b"\0\0\0\1mdat" + size.to_bytes(8, "big") + data[place + 16 :])
    add_stereo_boxes(film, LAYOUTS["tb"])
    assert told(film) == (TOP_BOTTOM, RECTILINEAR)
    assert packets(film) == before


@pytest.mark.parametrize(
    ("tracks", "options", "message"),
    [(1, {"movflags": "faststart"}, "does not follow its pictures"), (2, {}, "2 boxes b'trak'")],
)
def test_other_files_are_refused_untouched(tmp_path, tracks, options, message):
    film, other = make_film(tmp_path / "film.mp4", 3), tmp_path / "other.mp4"
    with av.open(str(other), "w", options=options) as target, av.open(str(film)) as source:
        copies = [target.add_stream_from_template(source.streams[0], opaque=True) for _ in range(tracks)]
        for packet in [packet for packet in source.demux() if packet.size]:
            for packet.stream in copies:
                target.mux(packet)
    data = other.read_bytes()
    with pytest.raises(RuntimeError, match=message):
        add_stereo_boxes(other, LAYOUTS["sbs"])
    assert other.read_bytes() == data


def test_a_film_appears_only_when_described(run, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(boxes, "_insert", fail)
    with pytest.raises(UserError, match=r"out\.mp4 can't be written: No space left on device"):
        run("out.mp4", "sbs")
    assert not {"out.mp4", ".out.mp4.tmp"} & {entry.name for entry in tmp_path.iterdir()}
