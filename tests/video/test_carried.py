"""Sound and subtitles of all kinds into all containers: copied, converted or named before the work begins."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from m2svid.convert.verbs import convert
from m2svid.errors import UserError
from m2svid.video import mux, streams
from m2svid.video.read import Video
from m2svid.video.streams import Choice, Kept, Others, best_container, plan_others
from tests.convert.films import make_depth, make_film, picture, read_times

RATE = 48000
H264 = (".mp4", ".m4v", ".mov", ".mkv")


def film_with(
    path: Path, codec: str, frames: int = 12, begin: float = 0, sound_at: float | None = 0, **options
) -> Path:
    """A film of 24 frames/s that begins at `begin` s; a pulse sounds every 1/4 s from `sound_at` s on."""
    form, bit_rate = options.pop("format", None), options.pop("bit_rate", 128_000)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=24, options={"preset": "ultrafast", "bf": "0"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        track = container.add_stream(codec, rate=options.pop("rate", RATE))
        track.codec_context.bit_rate = bit_rate
        if form is not None:
            track.codec_context.format = form
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(index, 64, 48), "rgb24")
            frame.pts, frame.time_base = index + round(24 * begin), Fraction(1, 24)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound_at is not None:
            _clicks(container, track, frames / 24 - sound_at, begin + sound_at)
    return path


def _clicks(
    container: av.container.OutputContainer, track: av.AudioStream, length: float, begin: float
) -> None:
    rate, context = track.codec_context.sample_rate, track.codec_context
    context.open(strict=False)
    wave = np.zeros((1, 2 * round(rate * length)), np.int16)
    for start in range(0, wave.shape[1], rate // 4 * 2):
        wave[0, start : start + rate // 100 * 2] = 20000
    frame = av.AudioFrame.from_ndarray(wave, "s16", "stereo")
    frame.sample_rate, frame.pts, frame.time_base = rate, round(begin * rate), Fraction(1, rate)
    resampler = av.AudioResampler(context.format, context.layout, rate, context.frame_size or 1024)
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        container.mux(track.encode(part))
    container.mux(track.encode(None))


def sound(path: Path) -> tuple[str, float, np.ndarray]:
    """Codec, when it begins (s), and the left channel's samples in [-1, 1]."""
    with av.open(str(path)) as container:
        track = container.streams.audio[0]
        frames = list(container.decode(track))
        plain = av.AudioResampler("fltp", "stereo", frames[0].sample_rate)
        samples = [part.to_ndarray()[0] for frame in frames for part in plain.resample(frame)]
        return track.codec_context.codec.canonical_name, frames[0].time, np.concatenate(samples)


def clicks(path: Path) -> np.ndarray:
    """Times of the pulses' beginnings, s."""
    with av.open(str(path)) as container:
        rate = container.streams.audio[0].codec_context.sample_rate
    _, begin, samples = sound(path)
    loud = np.abs(samples) > 0.2
    gaps = np.convolve(loud, np.ones(rate // 20), "full")[: len(loud)] - loud
    return begin + np.flatnonzero(loud & (gaps == 0)) / rate


@pytest.fixture
def run(tmp_path):
    def call(film: Path, output: str | None = None, **options) -> Path:
        depth = make_depth(tmp_path / "depth.npz", len(read_times(film)))
        target = output and tmp_path / output
        common = {"refine": "none", "progress": "quiet", "cuts": False}
        convert(str(film), target, depth=str(depth), **common, **options)
        return target or next(file for file in tmp_path.glob(f"{film.stem}_LRF*") if file.is_file())

    return call


def plan(film: Path, output: str, drop: str | None = None, convert: bool = False) -> Others:
    return plan_others(Video(film), Path(output), H264, Choice(drop, convert))


def with_stream(path: Path, film: Path, codec: str) -> Path:
    """The film with packets of a stream that this FFmpeg has no encoder for."""
    with av.open(str(film)) as source, av.open(str(path), "w") as target:
        video = target.add_stream_from_template(source.streams.video[0], opaque=True)
        rate = {"rate": RATE} if codec == "truehd" else {}
        other = target.add_mux_stream(codec, time_base=Fraction(1, 1000), **rate)
        packet = av.Packet(b"\x00\x00\x16\x00\x00")
        packet.pts, packet.dts, packet.duration, packet.time_base = 0, 0, 100, Fraction(1, 1000)
        packet.stream = other
        for each in [*source.demux(video=0), packet]:
            if each.dts is not None:
                each.stream = video if each is not packet else other
                target.mux(each)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_that_begins_late_is_found_and_stays_in_time(run, tmp_path, suffix):
    film = film_with(tmp_path / "late.ts", "aac", frames=24 * 7, sound_at=6.0)
    np.testing.assert_allclose(clicks(run(film, f"out{suffix}")), 6 + np.arange(4) / 4, atol=0.03)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_that_is_empty_is_left_out_and_told(run, tmp_path, suffix):
    film = film_with(tmp_path / "empty.ts", "aac", sound_at=None)
    with av.open(str(run(film, f"out{suffix}"))) as container:
        assert [stream.type for stream in container.streams] == ["video"]
    assert plan(film, f"out{suffix}").told == ("stream 1 (audio, aac) is left out: no sound is found in it",)


@pytest.mark.parametrize(
    ("suffix", "codec", "source"),
    [(".mov", "flac", ".mkv"), (".mov", "libopus", ".mkv"), (".mkv", "pcm_mulaw", ".avi")],
)
def test_what_can_be_converted_without_loss_is(run, tmp_path, suffix, codec, source):
    film = film_with(tmp_path / f"film{source}", codec)
    result = run(film, f"out{suffix}")
    (name, begin, made), (_, first, given) = sound(result), sound(film)
    assert name == {".mov": "alac", ".mkv": "flac"}[suffix]
    assert begin == pytest.approx(first, abs=0.002)
    np.testing.assert_allclose(made[: len(given)], given, atol=2e-4)  # 16 bits


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("film.wmv", "wmav2", {}),
        ("film.avi", "adpcm_ms", {}),
        ("film.avi", "pcm_s16le", {}),
        ("film.m2ts", "pcm_bluray", {"format": "s16"}),
        ("film.m2ts", "ac3", {}),
    ],
)
def test_the_default_command_takes_films_of_all_kinds(run, tmp_path, name, codec, options):
    film = film_with(tmp_path / name, codec, **options)
    result = run(film)
    assert result.suffix == (".mp4" if codec == "ac3" else ".mkv")
    heard, wanted = (clicks(each) - float(read_times(each)[0]) for each in (result, film))
    np.testing.assert_allclose(heard, wanted, atol=0.004)


def test_24_bits_stay(tmp_path):
    film = film_with(tmp_path / "film.m2ts", "pcm_bluray", format="s32")
    assert plan(film, "out.mkv").kept == (Kept(1, "flac"),)


def test_truehd_asks_before_the_work_begins(run, tmp_path):
    film = with_stream(tmp_path / "film.mkv", make_film(tmp_path / "plain.mkv", 3), "truehd")
    with pytest.raises(UserError, match=r"stream 1 \(audio, truehd\) of .*: name the output \.mkv,"):
        run(film, "out.mp4", codec="h264")
    assert not (tmp_path / "out.mp4.work").exists()
    assert best_container(film, H264) == ".mkv"
    assert plan(film, "out.mp4", drop="1").kept == plan(film, "out.mp4", drop="audio").kept == ()


def test_subtitles_that_are_pictures_ask_too_and_offer_no_conversion(tmp_path):
    film = with_stream(tmp_path / "film.mkv", make_film(tmp_path / "plain.mkv", 3), "hdmv_pgs_subtitle")
    with pytest.raises(UserError) as caught:
        plan(film, "out.mp4", convert=True)
    assert str(caught.value).endswith(": name the output .mkv, or leave it out with --drop-streams 1")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_text_becomes_the_container_s_own(run, tmp_path, suffix):
    other = {".mp4": ".mkv", ".mkv": ".mp4"}[suffix]
    film = make_film(tmp_path / "plain.mkv", 12, subtitle=True)
    result = run(run(film, f"between{other}", layout="right"), f"out{suffix}", layout="right")
    with av.open(str(result)) as container:
        track = container.streams.subtitles[0]
        assert track.codec_context.name == {".mp4": "mov_text", ".mkv": "srt"}[suffix]
        texts = [
            (packet.pts * packet.time_base, bytes(packet))
            for packet in container.demux(track)
            if packet.size > 2
        ]
    assert [time for time, _ in texts] == [0] and texts[0][1].endswith(b"hello, stereo")


def test_a_wrong_stream_is_named(tmp_path):
    film = make_film(tmp_path / "film.mkv", 3, sound=1)
    with pytest.raises(UserError, match=r"not 'sound'; streams beside the film: stream 1 \(audio, aac\)"):
        plan(film, "out.mkv", drop="sound")


def test_sound_of_a_stream_that_starts_at_100_s_stays_in_time(run, tmp_path):
    film = film_with(tmp_path / "film.ts", "aac", begin=100.0, frames=24)
    offsets = clicks(film)[:4] - float(read_times(film)[0])
    for suffix in (".mp4", ".mkv"):
        result = run(film, f"out{suffix}")
        times = read_times(result)
        assert times[0] < 0.1 and len(times) == 24
        np.testing.assert_allclose(clicks(result)[:4] - float(times[0]), offsets, atol=0.004)


def torn(path: Path, film: Path, place: int) -> Path:
    """The film with a packet of sound that holds something else."""
    with av.open(str(film)) as source, av.open(str(path), "w") as target:
        copies = [target.add_stream_from_template(stream, opaque=True) for stream in source.streams]
        count = 0
        for packet in source.demux():
            if packet.dts is None:
                continue
            count += packet.stream.type == "audio"
            if packet.stream.type == "audio" and count == place:
                broken = av.Packet(b"no sound at all")
                broken.pts, broken.dts, broken.time_base = packet.pts, packet.dts, packet.time_base
                broken.stream = copies[packet.stream_index]
                target.mux(broken)
            else:
                packet.stream = copies[packet.stream_index]
                target.mux(packet)
    return path


def test_a_damaged_packet_costs_only_itself(run, tmp_path, caplog):
    whole = film_with(tmp_path / "whole.mkv", "eac3", frames=48)
    film = torn(tmp_path / "torn.mkv", whole, 30)
    result = run(film, "out.mp4")
    assert "stream 1 (audio, eac3): 1 damaged packets are left out" in caplog.text
    assert sound_packets(result) == [each for each in sound_packets(film) if each != b"no sound at all"]
    assert len(read_times(result)) == 48


def sound_packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def test_a_stream_that_the_join_refuses_costs_only_itself(run, tmp_path, monkeypatch, caplog):
    film = film_with(tmp_path / "film.mkv", "flac")
    monkeypatch.setattr(streams, "fits", lambda *_: True)  # as if its first packets had been taken
    result = run(film, "out.mov")
    assert "stream 1 (audio, flac) is left out: it can't be written into .mov" in caplog.text
    assert read_times(result) == read_times(film)


def test_the_same_command_is_advised_only_where_it_helps(run, tmp_path, monkeypatch):
    film = make_film(tmp_path / "film.mp4", 3, sound=1)

    def refuse(*_):
        raise av.error.ArgumentError(22, "Invalid argument")

    monkeypatch.setattr(mux, "_timed", refuse)
    with pytest.raises(UserError, match=r"out\.mp4 can't be written: Invalid argument$"):
        run(film, "out.mp4")
