"""Whole conversions of small films, compared with what PyAV reads from source and result."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from m2svid.convert.verbs import convert
from m2svid.errors import UserError
from tests.convert.films import make_depth, make_film, picture, read_luma, read_rgb, read_times

PLAIN = {"refine": "none", "progress": "quiet", "max_disparity": 4.0, "convergence": 0.0}


def run(film: Path, output: Path, frames: int, size: tuple[int, int] = (32, 24), **options) -> Path:
    depth = make_depth(film.parent / "depth.npz", frames, size)
    convert(str(film), output, depth=str(depth), **(PLAIN | options))
    return output


@pytest.mark.parametrize("frames", [1, 2, 7, 24, 25, 26, 51, 1000])
def test_frames_and_times_in_are_frames_and_times_out(tmp_path, frames):
    film = make_film(tmp_path / "film.mp4", frames, rate=Fraction(24000, 1001))
    output = run(film, tmp_path / "out.mp4", frames)
    assert read_times(output) == read_times(film)
    with av.open(str(output)) as container:
        assert container.streams.video[0].average_rate == Fraction(24000, 1001)


def test_variable_frame_times_are_kept(tmp_path):
    times = [0, 40, 55, 140, 141, 300, 333]
    film = make_film(tmp_path / "film.mkv", 7, times=times)
    output = run(film, tmp_path / "out.mkv", 7)
    assert read_times(output) == [Fraction(time, 1000) for time in times]


@pytest.mark.parametrize(
    ("layout", "rows", "columns"),
    [("sbs", 48, 128), ("tb", 96, 64), ("sbs-half", 48, 64), ("tb-half", 48, 64)],
)
def test_layouts(tmp_path, layout, rows, columns):
    film = make_film(tmp_path / "film.mp4", 3)
    output = run(film, tmp_path / "out.mkv", 3, layout=layout, codec="ffv1")
    luma = read_luma(output)
    assert luma.shape == (3, rows, columns)
    with av.open(str(output)) as container:
        mode = container.streams.video[0].metadata["stereo_mode"]
    assert mode == ("left_right" if "sbs" in layout else "top_bottom")


@pytest.mark.parametrize(
    ("pix_fmt", "codec"), [("yuv420p", "libx264"), ("yuv422p10le", "libx264"), ("yuv444p", "libx264")]
)
def test_left_eye_is_the_decoded_source(tmp_path, pix_fmt, codec):
    film = make_film(tmp_path / "film.mkv", 4, codec=codec, pix_fmt=pix_fmt)
    output = run(film, tmp_path / "out.mkv", 4, codec="ffv1")
    np.testing.assert_array_equal(read_luma(output)[:, :, :64], read_luma(film))
    with av.open(str(output)) as container:
        assert container.streams.video[0].pix_fmt == pix_fmt


def test_without_depth_both_eyes_agree(tmp_path):
    film = make_film(tmp_path / "film.mp4", 3)
    np.savez(tmp_path / "flat.npz", depth=np.full((3, 24, 32), 7.5, np.float32))
    convert(str(film), tmp_path / "out.mkv", depth=str(tmp_path / "flat.npz"), codec="ffv1", **PLAIN)
    luma = read_luma(tmp_path / "out.mkv").astype(int)
    assert np.abs(luma[:, :, :64] - luma[:, :, 64:]).max() <= 2  # RGB and back


def test_near_things_move_left_in_the_right_eye_by_the_disparity(tmp_path):
    film = make_film(tmp_path / "film.mp4", 2)
    np.savez(tmp_path / "near.npz", depth=np.full((2, 48, 64), 255, np.uint8))
    convert(str(film), tmp_path / "out.mkv", depth=str(tmp_path / "near.npz"), codec="ffv1", **PLAIN)
    luma = read_luma(tmp_path / "out.mkv").astype(int)
    left, right = luma[:, :, :64], luma[:, :, 64:]
    assert np.abs(right[:, :, :58] - left[:, :, 4:62]).max() <= 3


def test_convergence_puts_a_depth_on_the_screen(tmp_path):
    film = make_film(tmp_path / "film.mp4", 2)
    np.savez(tmp_path / "near.npz", depth=np.full((2, 48, 64), 255, np.uint8))
    options = PLAIN | {"depth": str(tmp_path / "near.npz"), "codec": "ffv1", "convergence": 1.0}
    convert(str(film), tmp_path / "out.mkv", **options)
    luma = read_luma(tmp_path / "out.mkv").astype(int)
    assert np.abs(luma[:, :, 64 + 4 : 124] - luma[:, :, 4:60]).max() <= 3
    assert (luma[:, :, 64:68] <= 16).all()  # black, not smeared


def test_both_eyes_share_the_disparity(tmp_path):
    film = make_film(tmp_path / "film.mp4", 2)
    np.savez(tmp_path / "near.npz", depth=np.full((2, 48, 64), 255, np.uint8))
    options = PLAIN | {"depth": str(tmp_path / "near.npz"), "codec": "ffv1", "eyes": "both"}
    convert(str(film), tmp_path / "out.mkv", **options)
    source, luma = read_luma(film).astype(int), read_luma(tmp_path / "out.mkv").astype(int)
    assert np.abs(luma[:, :, 4:62] - source[:, :, 2:60]).max() <= 3
    assert np.abs(luma[:, :, 66:122] - source[:, :, 4:60]).max() <= 3


def test_anaglyph_right_and_pair(tmp_path):
    film = make_film(tmp_path / "film.mp4", 2)
    assert read_rgb(run(film, tmp_path / "a.mp4", 2, layout="anaglyph")).shape == (2, 48, 64, 3)
    right = read_luma(run(film, tmp_path / "r.mkv", 2, layout="right", codec="ffv1"))
    run(film, tmp_path / "p.mkv", 2, layout="pair", codec="ffv1")
    np.testing.assert_array_equal(read_luma(tmp_path / "p_right.mkv"), right)
    np.testing.assert_array_equal(read_luma(tmp_path / "p_left.mkv"), read_luma(film))


def test_sound_subtitles_chapters_and_attachments_are_copied(tmp_path):
    film = make_film(
        tmp_path / "film.mkv",
        24,
        sound=2,
        subtitle=True,
        attachment=True,
        chapters=True,
        color={"colorspace": 1},
    )
    output = run(film, tmp_path / "out.mkv", 24)
    for kind in ("audio", "subtitles"):
        assert packets(film, kind) == packets(output, kind) != []
    with av.open(str(film)) as source, av.open(str(output)) as result:
        assert [s.type for s in result.streams] == [s.type for s in source.streams]
        assert [s.language for s in result.streams.audio] == ["eng", "deu"]
        assert result.streams.attachments[0].data == b"a note"
        assert [c["metadata"] for c in result.chapters()] == [c["metadata"] for c in source.chapters()] != []


def packets(path: Path, kind: str) -> list[tuple[int, Fraction, bytes]]:
    """Stream number, time and content of all packets of a kind."""
    with av.open(str(path)) as container:
        found = []
        for packet in container.demux(getattr(container.streams, kind)):
            if packet.dts is not None:
                found.append((packet.stream_index, packet.pts * packet.time_base, bytes(packet)))
        return sorted(found)


@pytest.mark.parametrize(
    ("codec", "suffix"), [("h264", ".mp4"), ("h265", ".mp4"), ("av1", ".mp4"), ("prores", ".mov")]
)
def test_codecs_10_bit_and_colour_tags(tmp_path, codec, suffix):
    tags = {"color_range": 1, "color_primaries": 9, "color_trc": 14, "colorspace": 9}
    film = make_film(tmp_path / "film.mp4", 5, codec="libx265", pix_fmt="yuv420p10le", color=tags)
    output = run(film, tmp_path / f"out{suffix}", 5, codec=codec)
    with av.open(str(output)) as container:
        context = container.streams.video[0].codec_context
        assert context.format.components[0].bits == 10
        assert {name: int(getattr(context, name)) for name in tags} == tags
        if codec == "h265":
            assert context.codec_tag == "hvc1"
    left = read_luma(output)[:, :, :64].astype(int)
    assert np.abs(left - read_luma(film)).mean() < 12  # of 1023


def test_odd_size_in_a_folder_with_spaces_and_umlauts(tmp_path):
    folder = tmp_path / "Größe und Träume 映画"
    folder.mkdir()
    film = make_film(folder / "der film.mkv", 3, size=(853, 481), codec="ffv1", pix_fmt="yuv420p")
    output = run(film, folder / "aus gabe.mp4", 3, (427, 241), max_disparity=0.05)
    luma = read_luma(output).astype(int)
    assert luma.shape == (3, 482, 2 * 854)
    assert np.abs(luma[:, :481, :853] - read_luma(film)).mean() < 2


def test_rotation_is_honoured(tmp_path):
    upright = make_film(tmp_path / "upright.mkv", 2, size=(64, 48), codec="ffv1")
    film = tmp_path / "film.mp4"
    with av.open(str(upright)) as source, av.open(str(film), "w") as target:
        stream = target.add_stream("libx264", rate=24, width=64, height=48, options={"qp": "0"})
        stream.set_display_rotation(90)
        for frame in source.decode(video=0):
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    depth = str(make_depth(tmp_path / "depth.npz", 2, (24, 32)))
    convert(str(film), tmp_path / "out.mkv", depth=depth, codec="ffv1", **PLAIN)
    luma = read_luma(tmp_path / "out.mkv")
    assert luma.shape == (2, 64, 96)
    with av.open(str(film)) as container:
        turns = round(next(container.decode(video=0)).rotation / 90)
    assert turns in (1, -1)
    turned = np.rot90(read_luma(film), turns, axes=(1, 2))
    np.testing.assert_array_equal(luma[:, :, :48], turned)
    convert(str(film), tmp_path / "out.mov", depth=depth, codec="prores", **PLAIN)
    assert np.abs(read_luma(tmp_path / "out.mov")[:, :, :48] / 4 - turned).mean() < 2


def test_sound_stays_where_it_was_in_mp4(tmp_path):
    film = make_film(tmp_path / "film.mp4", 30, sound=2, rate=Fraction(30000, 1001))
    output = run(film, tmp_path / "out.mp4", 30)
    assert packets(film, "audio") == packets(output, "audio") != []
    assert read_times(film) == read_times(output)


def test_a_picture_becomes_a_picture(tmp_path):
    av.VideoFrame.from_ndarray(picture(0, 63, 47), "rgb24").save(tmp_path / "one.png")
    depth = make_depth(tmp_path / "depth.npz", 1)
    convert(str(tmp_path / "one.png"), tmp_path / "two.png", depth=str(depth), **PLAIN)
    np.testing.assert_array_equal(read_rgb(tmp_path / "two.png")[0, :, :63], picture(0, 63, 47))


def test_a_folder_of_pictures_is_a_film(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(3):
        av.VideoFrame.from_ndarray(picture(index, 64, 48), "rgb24").save(folder / f"{index:03d}.png")
    depth = make_depth(tmp_path / "depth.npz", 3)
    options = PLAIN | {"depth": str(depth)}
    with pytest.raises(UserError, match="--fps"):
        convert(str(folder), tmp_path / "out.mp4", **options)
    convert(str(folder), tmp_path / "out.mp4", fps="24000/1001", **options)
    assert read_times(tmp_path / "out.mp4") == [Fraction(1001 * index, 24000) for index in range(3)]


def test_a_folder_of_films_goes_on_after_a_bad_one(tmp_path):
    films, results = tmp_path / "films", tmp_path / "results"
    films.mkdir()
    results.mkdir()
    make_film(films / "a.mp4", 3)
    (films / "b.mp4").write_bytes(b"not a film")
    make_film(films / "c.mp4", 3)
    options = PLAIN | {"depth": str(make_depth(tmp_path / "depth.npz", 3))}
    with pytest.raises(UserError, match=r"1 of 3 films failed: .*b\.mp4"):
        convert(str(films), results, **options)
    assert sorted(file.name for file in results.iterdir()) == ["a_LRF_Full_SBS.mp4", "c_LRF_Full_SBS.mp4"]


def test_devices_share_the_shots_without_changing_the_result(tmp_path):
    film = make_film(tmp_path / "film.mp4", 45, cuts=(11, 20, 33))
    one = run(film, tmp_path / "one.mp4", 45, devices="cpu")
    three = run(film, tmp_path / "three.mp4", 45, devices="cpu,cpu,cpu", depth_range="auto")
    assert one.read_bytes() == three.read_bytes()


def test_mistakes_are_named(tmp_path):
    film = make_film(tmp_path / "film.mp4", 3)
    depth = str(make_depth(tmp_path / "depth.npz", 3))
    longer = str(make_depth(tmp_path / "longer.npz", 4))
    narrow = str(make_depth(tmp_path / "narrow.npz", 3, (20, 40)))
    pq = make_film(tmp_path / "pq.mp4", 2, codec="libx265", pix_fmt="yuv420p10le", color={"color_trc": 16})
    output = tmp_path / "out.mp4"
    for given, options, message in [
        (tmp_path / "none.mp4", {"depth": depth}, "does not exist"),
        (film, {"depth": longer}, "4 frames, the film 3"),
        (film, {"depth": narrow}, "not the shape of the film"),
        (film, {"depth": str(tmp_path / "none.npz")}, "does not exist"),
        (film, {"depth": depth, "refine": "model"}, "--weights is missing"),
        (film, {"depth": depth, "codec": "prores"}, "must end in one of .mov, .mkv"),
        (film, {"depth": depth, "max_disparity": 40}, "at most half of the width"),
        (pq, {"depth": depth, "bits": 8}, "is HDR, which needs 10 bits"),
        (film, {"depth": depth, "devices": "gpu7"}, "--devices gpu7 can't be used"),
    ]:
        with pytest.raises(UserError, match=message):
            convert(str(given), output, **(PLAIN | options))
        assert not output.exists()
