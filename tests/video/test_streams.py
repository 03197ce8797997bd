"""Transport and program streams, which have no index and a clock of their own; damaged and cut-off files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from m2svid.convert.verbs import convert
from m2svid.video import decode
from m2svid.video.decode import KeyFrame
from m2svid.video.read import Video
from m2svid.video.shots import Survey, survey
from tests.convert.films import make_depth, read_times

RATE = 24
CODECS = dict.fromkeys((".ts", ".m2ts", ".mkv", ".mp4"), "libx264") | {".mpg": "mpeg2video", ".avi": "mpeg4"}


def make_stream(path: Path, frames: int = 120, group: int = 12, begin: int = 0, sound: bool = False) -> Path:
    """A film of blocks that move, with a key frame every `group` frames; it begins at `begin` s."""
    options = {"x264-params": "log-level=error"} if CODECS[path.suffix] == "libx264" else {}
    random = np.random.default_rng(0)
    with av.open(str(path), "w", format="mpegts" if path.suffix == ".m2ts" else None) as target:
        stream = target.add_stream(CODECS[path.suffix], rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.gop_size, stream.codec_context.max_b_frames = group, 2
        track = target.add_stream("mp2", rate=48000) if sound else None
        blocks = random.integers(0, 255, (12, 16, 3)).astype(np.uint8)
        for index in range(frames):
            blocks = np.roll(blocks, 1, 1)
            picture = blocks.repeat(8, 0).repeat(8, 1)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index + begin * RATE, Fraction(1, RATE)
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
        for place in range(frames * 2000 // 1152 if track is not None else 0):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), "s16", "mono")
            silence.sample_rate, silence.pts = 48000, place * 1152 + begin * 48000
            target.mux(track.encode(silence))
        if track is not None:
            target.mux(track.encode(None))
    return path


def straight(path: Path) -> list[np.ndarray]:
    """All pictures, as PyAV decodes them from the beginning."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"  # decides how damage is patched up
        return [frame.to_ndarray() for frame in container.decode(video=0)]


@pytest.mark.parametrize("suffix", [".ts", ".m2ts", ".mpg", ".mkv", ".avi"])
def test_a_film_can_be_entered_everywhere(tmp_path, suffix):
    film = make_stream(tmp_path / f"film{suffix}")
    pictures, found, video = straight(film), survey(Video(film)), Video(film)
    assert len(found.times) == len(pictures) == 120
    for start in (0, 1, 11, 12, 35, 60, 107, 108, 109, 118, 119):
        read = list(found.frames(video, start))
        assert [frame.index for frame in read] == list(range(start, 120))
        for frame in read:
            np.testing.assert_array_equal(frame.raw.to_ndarray(), pictures[frame.index])


@pytest.mark.parametrize("suffix", [".ts", ".mpg"])
def test_entering_late_does_not_read_all_before(tmp_path, suffix, monkeypatch):
    film = make_stream(tmp_path / f"film{suffix}", 600)
    found, video = survey(Video(film), find_cuts=False), Video(film)
    read = 0
    inside = decode._from

    def counting(*args, **options):
        nonlocal read
        for frame in inside(*args, **options):
            read += 1
            yield frame

    monkeypatch.setattr(decode, "_from", counting)
    for start in (300, 425, 590):
        read = 0
        assert next(found.frames(video, start)).index == start
        assert read < 60  # of up to 590: a second ahead and a group


def test_a_key_frame_that_is_not_there_is_found_by_counting(tmp_path):
    video = Video(make_stream(tmp_path / "film.ts", 40))
    read = [frame.index for frame in video.frames(30, [KeyFrame(24, 123)])]
    assert read == list(range(30, 40))


def test_a_broadcast_that_starts_late_starts_at_once(tmp_path):
    film = make_stream(tmp_path / "film.ts", 30, begin=100, sound=True)
    depth = str(make_depth(tmp_path / "depth.npz", 30))
    convert(str(film), tmp_path / "out.mp4", depth=depth, refine="none", progress="quiet")
    times, source = read_times(tmp_path / "out.mp4"), read_times(film)
    assert source[0] > 99
    assert times[0] < Fraction(1, 10)
    assert [time - times[0] for time in times] == [time - source[0] for time in source]
    moved = (first_sound(tmp_path / "out.mp4") - times[0]) - (first_sound(film) - source[0])
    assert abs(moved) < Fraction(1, 1000)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.duration / av.time_base < 1.5


def first_sound(path: Path) -> Fraction:
    with av.open(str(path)) as container:
        packet = next(container.demux(audio=0))
        return packet.pts * packet.time_base


def lose_packets(path: Path, output: Path, first: int, count: int) -> Path:
    """A transport stream without some of its packets of 188 bytes, as after a bad reception."""
    data = path.read_bytes()
    output.write_bytes(data[: first * 188] + data[(first + count) * 188 :])
    return output


def test_damage_inside_a_broadcast_is_told_and_all_else_converted(tmp_path, caplog):
    whole = make_stream(tmp_path / "whole.ts")
    packets = len(whole.read_bytes()) // 188
    film = lose_packets(whole, tmp_path / "film.ts", packets // 2, packets // 8)
    source = read_times(film)
    assert sorted(source) != source  # old frames come among newer ones after the loss
    times = [time + source[0] for time in seconds(survey(Video(film)), film)]
    assert 90 < len(source) - 3 <= len(times) < 118
    depth = str(make_depth(tmp_path / "depth.npz", len(times)))
    options = {"depth": depth, "refine": "none", "progress": "quiet", "codec": "ffv1"}
    convert(str(film), tmp_path / "out.mkv", **options)
    moved = [time + source[0] for time in read_times(tmp_path / "out.mkv")]
    assert [round(time * RATE) for time in moved] == [round(time * RATE) for time in times]
    pictures = dict(zip(source, straight(film), strict=True))
    for left, time in zip(straight(tmp_path / "out.mkv"), times, strict=True):
        np.testing.assert_array_equal(left[:96, :128], pictures[time][:96])
    assert f"{120 - len(times)} frames missing, at 0:00:0" in caplog.text


def seconds(found: Survey, film: Path) -> list[Fraction]:
    return [time * Video(film).info.time_base for time in found.times]


@pytest.mark.parametrize("flips", [1, 5])
def test_flipped_bytes_do_not_refuse_a_film(tmp_path, caplog, flips):
    film = make_stream(tmp_path / "film.mkv", 120, 24)
    data = bytearray(film.read_bytes())
    random = np.random.default_rng(flips)
    for place in random.integers(len(data) // 5, len(data) * 9 // 10, flips):
        data[place] ^= 1 << random.integers(8)
    film.write_bytes(data)
    found, video = survey(Video(film)), Video(film)
    assert 100 < len(found.times) <= 120
    assert "can't be decoded" in caplog.text or "the decoder patched up" in caplog.text
    assert len(list(found.frames(video, 50))) == len(found.times) - 50


def test_a_packet_that_can_not_be_decoded_is_told(tmp_path, caplog):
    film = make_stream(tmp_path / "film.mkv", 60)
    with av.open(str(film)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][33]
        content = bytes(packet)
    data = film.read_bytes()
    assert data.count(content) == 1
    film.write_bytes(data.replace(content, bytes(len(content))))
    found = survey(Video(film))
    assert len(found.times) == 59
    assert "1 packet can't be decoded, at 0:00:01" in caplog.text
    assert "1 frame missing, at 0:00:01" in caplog.text


@pytest.mark.parametrize("share", [0.31, 0.55, 0.83])
@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".m2ts", ".avi"])
def test_a_film_that_was_cut_off_is_told(tmp_path, caplog, suffix, share):
    film = make_stream(tmp_path / f"film{suffix}")
    data = film.read_bytes()
    film.write_bytes(data[: int(len(data) * share) + 7])
    assert 0 < len(survey(Video(film)).times) < 120
    assert "is it complete?" in caplog.text


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".m2ts", ".avi", ".mpg"])
def test_a_whole_film_is_not_told_of(tmp_path, caplog, suffix):
    survey(Video(make_stream(tmp_path / f"film{suffix}", sound=suffix != ".mkv")))
    assert not caplog.text


def test_a_film_with_an_edit_list_is_whole(tmp_path, caplog):
    """It begins inside of its first group of pictures, as a cut without encoding makes it."""
    whole, film = make_stream(tmp_path / "whole.mp4", 48, 24), tmp_path / "film.mp4"
    with av.open(str(whole)) as source, av.open(str(film), "w") as target:
        copy = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - 5120, packet.dts - 5120, copy
                target.mux(packet)
    with av.open(str(film)) as container:
        announced = container.streams.video[0].frames
    found = survey(Video(film))
    assert len(found.times) == 38 < announced
    assert not caplog.text
    assert Video(film).info.frames == 0  # not known without reading
