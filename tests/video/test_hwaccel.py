"""Decoding on a device: what is refused, and that a film is the same as without one.

No machine of the tests has a device: `Device` decodes on the CPU, and gives what a device would.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from m2svid.convert.stereo_options import Options
from m2svid.convert.verbs import convert
from m2svid.errors import UserError
from m2svid.files import url
from m2svid.video import decode, hwaccel
from m2svid.video.decode import DeviceError, decoded
from m2svid.video.excerpt import Excerpt
from m2svid.video.hdr import Mastering
from m2svid.video.info import Color, Orientation
from m2svid.video.planes import to_planes
from m2svid.video.read import Video
from m2svid.video.shots import Survey, survey
from tests.convert.films import make_depth, make_film
from tests.video.test_deinterlace import make_interlaced
from tests.video.test_hdr import make_hdr
from tests.video.test_streams import make_stream


def on_device(frame: av.VideoFrame) -> av.VideoFrame:
    """A frame as it comes back from a device: chroma interleaved, 10 bits in the upper ones of 16."""
    wide = frame.format.components[0].bits > 8
    return frame.reformat(format="p010le" if wide else "nv12")


class Packet:
    def __init__(self, packet: av.Packet, device: Device) -> None:
        self._packet, self._device = packet, device

    def __getattr__(self, name: str):
        return getattr(self._packet, name)

    def decode(self) -> list[av.VideoFrame]:
        frames = self._packet.decode()
        self._device.given += len(frames)
        if self._device.given > self._device.last:
            raise av.error.ExternalError(-1, "the device is gone")
        return [self._device.change(on_device(frame)) for frame in frames]


class Device:
    """Attributes:
    given: frames so far.
    last: frames after which it fails.
    change: what it makes of a frame.
    """

    def __init__(self) -> None:
        self.given, self.last, self.change = 0, 1 << 30, lambda frame: frame

    def open(self, path: Path, kind: str) -> Opened:
        return Opened(av.open(url(path)), self)


class Opened:
    """A container whose film the device decodes."""

    def __init__(self, container: av.container.InputContainer, device: Device) -> None:
        self._container, self._device = container, device

    def __getattr__(self, name: str):
        return getattr(self._container, name)

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def demux(self, *streams: av.VideoStream):
        for packet in self._container.demux(*streams):
            yield Packet(packet, self._device)


@pytest.fixture
def device(monkeypatch) -> Device:
    found = Device()
    monkeypatch.setattr(hwaccel, "hwdevices_available", lambda: ["cuda"])
    monkeypatch.setattr(decode, "_on_device", found.open)
    return found


@pytest.mark.parametrize(
    ("bits", "stored", "planar"), [(8, "nv12", "yuv420p"), (10, "p010le", "yuv420p10le")]
)
@pytest.mark.parametrize(("height", "width"), [(96, 128), (47, 35)])
@pytest.mark.parametrize("full", [False, True])
def test_samples_are_taken_apart_without_loss(bits, stored, planar, height, width, full):
    noise, kind = np.random.default_rng(0), np.uint8 if bits == 8 else np.dtype("<u2")
    shapes = [(height, width)] + [((height + 1) // 2, (width + 1) // 2)] * 2
    y, u, v = (np.resize(noise.permutation(1 << bits), shape).astype(kind) for shape in shapes)
    frame = av.VideoFrame(width, height, stored)
    frame.color_range = 2 if full else 1
    chroma = np.stack([u, v], -1).reshape(len(u), -1)
    for plane, values in zip(frame.planes, (y, chroma), strict=True):
        rows = np.frombuffer(plane, kind).reshape(plane.height, -1)
        rows[:, : values.shape[1]] = values << (0 if bits == 8 else 6)
    taken = decode._planar(frame)
    assert taken.format.name == planar
    for plane, values in zip(to_planes(taken), (y, u, v), strict=True):
        np.testing.assert_array_equal(plane, values)


def test_what_a_frame_says_of_itself_stays(tmp_path, device):
    film = make_hdr(tmp_path / "film.mkv", pix_fmt="yuv420p10le", screen=True)
    wanted, given = (list(decoded(film, device=kind)) for kind in (None, "cuda"))
    for one, other in zip(wanted, given, strict=True):
        assert Mastering.of(one) == Mastering.of(other) is not None
        assert Color.of(one) == Color.of(other)
        for fact in ("pts", "time_base", "duration", "key_frame", "is_corrupt", "interlaced_frame"):
            assert getattr(one, fact) == getattr(other, fact)


def test_a_rotation_stays(tmp_path, device):
    film = tmp_path / "film.mp4"
    with av.open(str(film), "w") as container:
        stream = container.add_stream("libx264", rate=24, width=64, height=48)
        stream.set_display_rotation(90)
        container.mux([*stream.encode(av.VideoFrame(64, 48, "yuv420p")), *stream.encode(None)])
    one, other = (next(decoded(film, device=kind)) for kind in (None, "cuda"))
    assert Orientation.of(one) == Orientation.of(other) != Orientation()


def film_of(folder: Path, kind: str) -> tuple[Path, int, dict[str, object]]:
    """A film, its frames, and options that belong to it."""
    if kind == "interlaced":
        return make_interlaced(folder / "film.mp4"), 30, {"deinterlace": True}
    if kind == "hdr":
        return make_hdr(folder / "film.mkv", pix_fmt="yuv420p10le", screen=True), 2, {"codec": "h265"}
    film = make_film(folder / "film.mp4", 60, size=(160, 120), cuts=(20, 37), sound=1)
    return film, 60, {"start": "25f", "end": "+20f"} if kind == "part" else {}


@pytest.mark.parametrize("kind", ["shots", "part", "interlaced", "hdr"])
def test_a_film_is_the_same_to_the_byte(tmp_path, device, kind):
    film, frames, options = film_of(tmp_path, kind)
    options |= {
        "depth": str(make_depth(tmp_path / "depth.npz", frames)),
        "refine": "none",
        "progress": "quiet",
    }
    convert(str(film), tmp_path / "cpu.mp4", **options)
    assert not device.given
    convert(str(film), tmp_path / "device.mp4", hwaccel="cuda", **options)
    assert device.given >= (20 if kind == "part" else frames) + min(frames, 8)
    assert (tmp_path / "device.mp4").read_bytes() == (tmp_path / "cpu.mp4").read_bytes()


@pytest.mark.parametrize("part", [{}, {"start": "10f", "end": "+40f"}])
def test_a_damaged_film_is_decoded_by_the_cpu(tmp_path, device, caplog, part):
    film = make_stream(tmp_path / "film.mkv", 60)
    with av.open(str(film)) as container:
        content = bytes([packet for packet in container.demux(video=0) if packet.size][33])
    film.write_bytes(film.read_bytes().replace(content, bytes(len(content))))
    opened = partial(Excerpt, film, None, part["start"], part["end"]) if part else partial(Video, film)
    video = opened(hwaccel="cuda")
    compared = device.given
    found = survey(video)
    assert "1 packet can't be decoded, at 0:00:0" in caplog.text
    for one, other in zip(found.frames(video, 0), found.frames(opened(), 0), strict=True):
        np.testing.assert_array_equal(one.raw.to_ndarray(), other.raw.to_ndarray())
    assert device.given == compared == 8
    assert found == survey(opened())


def test_a_part_is_not_told_of_damage_elsewhere(tmp_path, caplog):
    film = make_stream(tmp_path / "film.mkv", 60)
    with av.open(str(film)) as container:
        content = bytes([packet for packet in container.demux(video=0) if packet.size][3])
    film.write_bytes(film.read_bytes().replace(content, bytes(len(content))))
    assert survey(Excerpt(film, None, "30f", None)).sound
    survey(Excerpt(film, None, "10f", "20f"))  # of the same group of pictures
    assert "packet" not in caplog.text


@pytest.mark.parametrize("change", ["fails", "other samples", "other times"])
def test_what_a_device_can_not_decode_is_no_damage(tmp_path, device, caplog, change):
    """Such as a profile that it doesn't have."""
    film = make_film(tmp_path / "film.mp4", 12)
    if change == "fails":
        device.last = 0
    device.change = {"other samples": darkened, "other times": late}.get(change, device.change)
    reason = (
        "it can't decode the picture at 0.0" if change == "fails" else "it gives other frames than the CPU"
    )
    with pytest.raises(UserError, match=f"--hwaccel cuda can't decode .*film.mp4: {reason}.*--hwaccel off"):
        Video(film, hwaccel="cuda")
    with caplog.at_level("INFO"):
        video = Video(film, hwaccel="auto")
    assert f"film.mp4: the CPU decodes it (cuda: {reason}" in caplog.text
    caplog.clear()
    before, found = device.given, survey(video)
    assert len(list(found.frames(video, 0))) == 12
    assert found.sound and device.given == before and not caplog.text


def darkened(frame: av.VideoFrame) -> av.VideoFrame:
    np.frombuffer(frame.planes[0], np.uint8)[0] ^= 1
    return frame


def late(frame: av.VideoFrame) -> av.VideoFrame:
    frame.pts += 1
    return frame


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".mpg"])
@pytest.mark.parametrize("last", [0, 1, 13, 40])
def test_where_a_device_fails_the_cpu_goes_on(tmp_path, device, caplog, suffix, last):
    film = make_stream(tmp_path / f"film{suffix}", 60)
    plain, video = Video(film), Video(film, hwaccel="auto")
    found = survey(plain)
    for start in (0, 17):
        device.last = device.given + last
        read = list(found.frames(video, start))
        assert [frame.index for frame in read] == list(range(start, 60))
        for one, other in zip(read, found.frames(plain, start), strict=True):
            np.testing.assert_array_equal(one.raw.to_ndarray(), other.raw.to_ndarray())
    assert caplog.text.count("the CPU takes over") == 1


def test_unfinished_work_is_continued_on_another_device(tmp_path):
    settings = [Options(refine="none", hwaccel=given).settings() for given in ("off", "auto", "cuda")]
    assert settings[0] == settings[1] == settings[2]
    kept = asdict(survey(Video(make_film(tmp_path / "film.mp4", 3))))
    assert Survey.from_json(kept).sound
    del kept["sound"]  # as older versions have written it
    assert not Survey.from_json(kept).sound


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_only_the_device_is_missing(tmp_path, caplog):
    film = make_film(tmp_path / "film.mp4", 3)
    with pytest.raises(UserError, match=r"--hwaccel cuda can't decode .*film.mp4: .*give --hwaccel off"):
        Video(film, hwaccel="cuda")
    with caplog.at_level("INFO"):
        assert len(list(survey(Video(film, hwaccel="auto")).frames(Video(film), 0))) == 3
    assert caplog.text.count("film.mp4: the CPU decodes it (") == 1


def test_what_no_device_decodes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(hwaccel, "hwdevices_available", lambda: ["vaapi"])
    film = make_film(tmp_path / "film.mkv", 3, codec="ffv1")
    with pytest.raises(UserError, match=r"vaapi can't decode .*film.mkv: this PyAV has no decoder"):
        Video(film, hwaccel="vaapi")
    with pytest.raises(UserError, match=r"cuda can't decode .*film.mkv: this PyAV was built without it"):
        Video(film, hwaccel="cuda")
    with pytest.raises(DeviceError, match="no decoder for its codec"):
        next(decoded(film, device="cuda"))


def test_names_and_pictures_that_can_not_be_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"--hwaccel must be one of off, auto, cuda, vaapi.*not 'qsv'"):
        Options(refine="none", hwaccel="qsv")
    with av.open(str(tmp_path / "still.png"), "w", format="image2") as target:
        stream = target.add_stream("png", rate=1, width=64, height=48)
        stream.pix_fmt = "rgb24"
        target.mux([*stream.encode(av.VideoFrame(64, 48, "rgb24")), *stream.encode(None)])
    Video(tmp_path / "still.png", hwaccel="auto")
    with pytest.raises(UserError, match=r"--hwaccel cuda is for video files; .*still.png holds pictures"):
        Video(tmp_path / "still.png", hwaccel="cuda")
