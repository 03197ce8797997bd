"""Small films made on the fly, and what to read them back with."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def picture(index: int, width: int, height: int, scene: int = 0) -> np.ndarray:
    """A smooth moving RGB picture (H, W, 3) uint8, of other colours in every scene."""
    y, x = np.mgrid[:height, :width]
    red = 128 + 90 * np.sin((x + 2 * index) / 9 + scene)
    green = 128 + 90 * np.sin((y + index) / 7 + 2 * scene)
    blue = np.full_like(red, 60 + 120 * (scene % 2)) + x * 60 / width
    return np.stack([red, green, blue], -1).clip(0, 255).astype(np.uint8)


def make_film(
    path: Path,
    frames: int = 7,
    size: tuple[int, int] = (64, 48),
    rate: Fraction = Fraction(24),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    cuts: tuple[int, ...] = (),
    times: list[int] | None = None,
    sound: int = 0,
    subtitle: bool = False,
    attachment: bool = False,
    chapters: bool = False,
    color: dict[str, int] | None = None,
) -> Path:
    """A film of `picture`s; `times` are in units of 1/1000 s."""
    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000) if times else 1 / rate
        stream.options = {"crf": "12", "preset": "ultrafast"} if codec in ("libx264", "libx265") else {}
        if codec == "libx265":
            stream.options |= {"x265-params": "log-level=error"}
        for name, value in (color or {}).items():
            setattr(stream.codec_context, name, value)
        tracks = [container.add_stream("aac", rate=48000) for _ in range(sound)]
        for number, track in enumerate(tracks):
            track.metadata["language"] = ["eng", "deu"][number % 2]
        words = _words(path) if subtitle else None
        copied = container.add_stream_from_template(words.streams.subtitles[0]) if words else None
        if attachment:
            container.add_attachment("note.txt", "text/plain", b"a note")
        if chapters:
            half = {
                "id": 1,
                "start": 0,
                "end": 100,
                "time_base": Fraction(1, 1000),
                "metadata": {"title": "one"},
            }
            container.set_chapters([half])
        for index in range(frames):
            scene = sum(index >= cut for cut in cuts)
            frame = av.VideoFrame.from_ndarray(picture(index, width, height, scene), "rgb24")
            frame = frame.reformat(format=pix_fmt)
            frame.pts = times[index] if times else index
            frame.time_base = stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for number, track in enumerate(tracks):
            _sound(container, track, 440 * (number + 1), float(frames / rate))
        if words is not None:
            for packet in words.demux():
                if packet.dts is not None:
                    packet.stream = copied
                    container.mux(packet)
            words.close()
    return path


def _sound(
    container: av.container.OutputContainer, track: av.AudioStream, pitch: float, seconds: float
) -> None:
    count = int(48000 * seconds)
    wave = (np.sin(np.arange(count) * pitch * 2 * np.pi / 48000) * 8000).astype(np.int16)
    for start in range(0, count - 1023, 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], "s16", "mono")
        frame.sample_rate, frame.pts = 48000, start
        container.mux(track.encode(frame))
    container.mux(track.encode(None))


def _words(path: Path) -> av.container.InputContainer:
    file = path.with_suffix(".srt")
    file.write_text("1\n00:00:00,000 --> 00:00:00,100\nhello, stereo\n\n")
    return av.open(str(file))


def make_depth(path: Path, frames: int, size: tuple[int, int] = (32, 24)) -> Path:
    """An npz of inverse depth in [0, 1]: a near square before a far plane that nears towards the bottom."""
    width, height = size
    depth = np.repeat(np.linspace(0, 0.4, height, dtype=np.float32)[None, :, None], frames, 0)
    depth = np.repeat(depth, width, 2)
    depth[:, height // 3 : -height // 4, width // 3 : -width // 3] = 1.0
    np.savez_compressed(path, depth=depth)
    return path


def read_rgb(path: Path) -> np.ndarray:
    """All frames (T, H, W, 3)."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def read_luma(path: Path) -> np.ndarray:
    """The decoded Y planes (T, H, W), by PyAV's own conversion."""
    with av.open(str(path)) as container:
        planes = []
        for frame in container.decode(video=0):
            plane = frame.planes[0]
            wide = frame.format.components[0].bits > 8
            rows = np.frombuffer(plane, "<u2" if wide else np.uint8).reshape(plane.height, -1)
            planes.append(rows[:, : plane.width].copy())
        return np.stack(planes)


def read_times(path: Path) -> list[Fraction]:
    """When the frames are shown, s."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [frame.pts * stream.time_base for frame in container.decode(stream)]
