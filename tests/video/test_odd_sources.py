"""Films that are stored in unusual ways look as they should."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from m2svid.convert.verbs import convert
from m2svid.errors import UserError
from m2svid.video.read import Video
from m2svid.video.shots import survey
from tests.convert.films import make_depth, make_film, picture, read_luma, read_rgb

PLAIN = {"refine": "none", "progress": "quiet", "max_disparity": 4.0}


def palette_picture(path: Path) -> np.ndarray:
    """Write a PNG with a palette; give its RGB values (48, 64, 3)."""
    colors = np.stack([np.arange(256), 255 - np.arange(256), np.full(256, 128)], -1).astype(np.uint8)
    entries = np.arange(48 * 64).reshape(48, 64) // 64 * 5 % 256
    with av.open(str(path), "w") as target:
        stream = target.add_stream("png", rate=24, width=64, height=48, pix_fmt="pal8")
        frame = av.VideoFrame(64, 48, "pal8")
        np.frombuffer(frame.planes[0], np.uint8).reshape(48, -1)[:, :64] = entries
        bgra = np.concatenate([colors[:, ::-1], np.full((256, 1), 255)], -1)
        np.frombuffer(frame.planes[1], np.uint8).reshape(256, 4)[:] = bgra
        target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return colors[entries]


def test_a_palette_is_no_yuv_with_the_matrix_of_rgb(tmp_path):
    (tmp_path / "film").mkdir()
    rgb = [palette_picture(tmp_path / "film" / f"{index}.png") for index in range(2)]
    np.testing.assert_array_equal(next(Video(tmp_path / "film", Fraction(24)).frames()).rgb(), rgb[0])
    depth = str(make_depth(tmp_path / "depth.npz", 2))
    convert(str(tmp_path / "film"), tmp_path / "out.mp4", fps="24", depth=depth, crf=1, **PLAIN)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].codec_context.colorspace != 0  # RGB
    assert np.abs(read_rgb(tmp_path / "out.mp4")[0, :, :64].astype(int) - rgb[0]).mean() < 3


@pytest.mark.parametrize(("a", "b", "turned"), list(product((1, -1), (1, -1), (False, True))))
def test_a_display_matrix_is_applied_to_every_pixel(tmp_path, a, b, turned):
    """All eight ways of turning and mirroring, by multiplying each pixel's place with the matrix."""
    matrix = np.array([[0, a], [b, 0]] if turned else [[a, 0], [0, b]])
    upright, film = make_film(tmp_path / "upright.mkv", 1, codec="ffv1"), tmp_path / "film.mp4"
    with av.open(str(upright)) as source, av.open(str(film), "w") as target:
        stream = target.add_stream("libx264", rate=24, width=64, height=48, options={"qp": "0"})
        (ma, mb), (mc, md) = (matrix * (1 << 16)).tolist()
        stream.set_display_matrix([ma, mb, 0, mc, md, 0, 0, 0, 1 << 30])
        target.mux(stream.encode(next(source.decode(video=0))))
        target.mux(stream.encode(None))
    luma = read_luma(film)[0]
    y, x = np.mgrid[:48, :64]
    places = np.stack([x, y], -1) @ matrix
    places -= places.min((0, 1))
    seen = np.zeros((64, 48) if turned else (48, 64), np.uint8)
    seen[places[..., 1], places[..., 0]] = luma
    video = Video(film)
    assert (video.info.height, video.info.width) == seen.shape
    frame = next(video.frames())
    np.testing.assert_array_equal(frame.planes(video.info.pixel_format)[0], seen)
    assert frame.rgb().shape == (*seen.shape, 3)


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_a_photo_is_turned_as_its_exif_says(tmp_path, orientation, turns):
    """Tag 0x0112 of Exif: 3 is upside down, 6 and 8 are to be turned right and left."""
    photo = tmp_path / "photo.jpg"
    cv2.imwrite(str(photo), picture(0, 64, 48))
    plain = next(Video(photo).frames()).rgb()
    data = photo.read_bytes()
    entry = b"\x12\x01\x03\0\x01\0\0\0" + orientation.to_bytes(4, "little")
    content = b"Exif\0\0" + b"II*\0\x08\0\0\0" + b"\x01\0" + entry + bytes(4)
    photo.write_bytes(data[:2] + b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content + data[2:])
    np.testing.assert_array_equal(next(Video(photo).frames()).rgb(), np.rot90(plain, turns))


def test_full_range_keeps_its_contrast_in_prores(tmp_path):
    film = make_film(tmp_path / "film.mkv", 2, codec="libx264", pix_fmt="yuvj420p")
    assert Video(film).info.full_range
    np.savez(tmp_path / "flat.npz", depth=np.full((2, 24, 32), 7.5, np.float32))
    options = PLAIN | {"depth": str(tmp_path / "flat.npz"), "convergence": 0.0}
    convert(str(film), tmp_path / "out.mov", codec="prores", **options)
    full, stored = read_luma(film).astype(float), read_luma(tmp_path / "out.mov") / 4
    assert not Video(tmp_path / "out.mov").info.full_range
    for view in (stored[:, :, :64], stored[:, :, 64:]):
        assert abs(view - (16 + full * 219 / 255)).mean() < 1


def test_a_size_that_changes_is_named_before_the_work(tmp_path):
    film = tmp_path / "film.ts"
    parts = [make_film(tmp_path / "a.ts", 12), make_film(tmp_path / "b.ts", 12, size=(128, 96))]
    film.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(UserError, match=r"film\.ts is 64×48, but from frame 12 on 128×96: convert its parts"):
        survey(Video(film))


@pytest.mark.parametrize(("unit", "display"), [(0, (128, 48)), (3, (2, 1))])
def test_the_display_size_of_matroska_gives_the_shape_of_pixels(tmp_path, unit, display):
    """Elements of RFC 9559: DisplayWidth, DisplayHeight and DisplayUnit, put where a name made room."""
    film = make_film(tmp_path / "film.mkv", 2, codec="ffv1")
    copy = tmp_path / "copy.mkv"
    with av.open(str(film)) as source, av.open(str(copy), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.metadata["title"] = "-" * 12
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    data = copy.read_bytes()
    name = b"\x53\x6e" + bytes([0x80 + 12]) + b"-" * 12
    assert data.count(name) == 1
    begin = data.index(name)
    video = data.index(b"\xe0", begin + len(name))
    after = data.index(b"\xb0\x81\x40", video)  # PixelWidth 64
    size = data[video + 1] & 0x7F if after - video <= 3 else None
    header = video + 2
    if size is None or size == 1:  # a size of eight bytes
        size, header = int.from_bytes(data[video + 2 : video + 9], "big"), video + 9
    sizes = [(0x54B0, display[0]), (0x54BA, display[1]), (0x54B2, unit)]
    shown = b"".join(kind.to_bytes(2, "big") + b"\x81" + bytes([value]) for kind, value in sizes)
    content = data[header : header + size] + shown
    described = b"\xe0" + (0x4000 | len(content)).to_bytes(2, "big") + content
    between = data[begin + len(name) : video]
    end = header + size
    room = (end - begin) - len(between) - len(described)
    void = b"\xec" + bytes([0x80 | (room - 2)]) + bytes(room - 2)
    copy.write_bytes(data[:begin] + between + described + void + data[end:])
    assert Video(copy).info.aspect == Fraction(display[0], display[1]) / Fraction(64, 48)
    np.testing.assert_array_equal(read_luma(copy), read_luma(film))


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (20, 4), (4, 400), (400, 4)])
def test_the_smallest_films_are_converted(tmp_path, size):
    film = make_film(tmp_path / "film.mkv", 2, size=size, codec="ffv1")
    depth = str(make_depth(tmp_path / "depth.npz", 2, size))
    options = PLAIN | {"max_disparity": 0.03, "depth": depth}
    convert(str(film), tmp_path / "out.mkv", codec="ffv1", **options)
    left = read_luma(tmp_path / "out.mkv")[:, : size[1], : size[0]]
    np.testing.assert_array_equal(left, read_luma(film))
    for layout in ("tb-half", "anaglyph", "pair"):
        convert(str(film), tmp_path / f"{layout}.mp4", layout=layout, **options)
        made = tmp_path / ("pair_left.mp4" if layout == "pair" else f"{layout}.mp4")
        assert len(read_luma(made)) == 2


def test_a_size_that_no_encoder_takes_ends_in_a_sentence(tmp_path):
    film = make_film(tmp_path / "film.mkv", 2, size=(1, 1), codec="ffv1", pix_fmt="yuv444p")
    depth = str(make_depth(tmp_path / "depth.npz", 2, (1, 1)))
    with pytest.raises(UserError, match="--codec ffv1 can't store pictures of 1×2, yuv444p"):
        convert(str(film), tmp_path / "out.mkv", codec="ffv1", depth=depth, layout="tb-half", refine="none")
