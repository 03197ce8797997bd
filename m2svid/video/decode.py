"""Decoding a file from its beginning or from a key frame on; what is damaged is passed over and noted."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer

from m2svid.errors import UserError
from m2svid.files import url
from m2svid.video.planes import QUALITY

_BROKEN = 100  # errors in a row after which a file is given up
_PLANAR = {"nv12": "yuv420p", "p010le": "yuv420p10le"}  # how devices keep samples, and decoders do
_ALL_LAYERS = {"view_ids": "-1"}  # option of FFmpeg's decoder of H.265
_BACK = (0, 1, 4, 16, 64)  # s before a key frame at which it is searched for


class DeviceError(Exception):
    """A device can't decode a film as the CPU does; the text says why."""


@dataclass(frozen=True)
class KeyFrame:
    """A frame that needs no earlier one.

    Attributes:
        index: number of the frame.
        pts: its presentation time in the file, in units of the time base.
    """

    index: int
    pts: int


@dataclass
class Notes:
    """The findings of reading a file.

    Attributes:
        lost: times of packets that could not be decoded, s.
        end: when the last packet of any stream ends, s.
    """

    lost: list[float] = field(default_factory=list)
    end: float = 0.0


@contextmanager
def opened(path: Path, device: str | None = None) -> Iterator[tuple[InputContainer, av.VideoStream]]:
    """Give a file and its film while the context lasts.

    Args:
        path: the file.
        device: FFmpeg's name of the kind of device that decodes; None = the CPU.

    Raises:
        UserError: it is missing, is none that can be read, or holds no video.
        DeviceError: there is no such device, or not for this codec.
    """
    try:
        with av.open(url(path)) if device is None else _on_device(path, device) as container:
            yield container, _film(container, path)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{path} is not a video that can be read: {error.strerror}") from error


def has_layers(path: Path) -> bool:
    """Tell whether a film's stream has a second view in a layer of its own (MV-HEVC)."""
    with opened(path) as (container, stream):
        if stream.codec_context.name != "hevc":
            return False
        stream.codec_context.options = _ALL_LAYERS
        times = [frame.pts for frame in islice(container.decode(stream), 2)]
    return len(times) == 2 and times[0] is not None and times[0] == times[1]


def decoded(
    path: Path,
    key: KeyFrame | None = None,
    notes: Notes | None = None,
    device: str | None = None,
    second_layer: bool = False,
) -> Iterator[av.VideoFrame]:
    """Frames in the order in which they are shown.

    Args:
        path: the file.
        key: the first frame; None = that of the file. Transport and program streams have no index, and a
            search often ends behind the key frame: it is begun again further ahead.
        notes: filled while the file is read.
        device: as of `opened`.
        second_layer: give the frames of the stream's second layer, as of `has_layers`, not of its first.

    Raises:
        UserError: the file can't be read.
        DeviceError: the device fails, maybe because the film is damaged.
    """
    for back in _BACK if key is not None and key.index else ():
        found = False
        for frame in _from(path, key.pts, back, device=device, second_layer=second_layer):
            found = found or (frame.key_frame and frame.pts == key.pts)
            if found:
                yield frame
            elif frame.pts is not None and frame.pts > key.pts:
                break
        if found:
            return
    frames = _from(path, notes=notes, device=device, second_layer=second_layer)
    yield from islice(frames, key.index if key is not None else 0, None)


def decoded_since(
    path: Path,
    pts: int,
    notes: Notes | None = None,
    device: str | None = None,
    second_layer: bool = False,
) -> Iterator[av.VideoFrame]:
    """Frames from the first one on that is shown at `pts` or later, read from the key frame before it.

    `notes` gets no end; all else is as of `decoded`.
    """
    for back in (*_BACK, None):
        found, begun = back is None, False  # read from its beginning, a file needs no key frame
        if notes is not None:
            notes.lost.clear()
        for frame in _from(path, None if back is None else pts, back or 0, notes, device, second_layer):
            found = found or (frame.key_frame and frame.pts is not None and frame.pts <= pts)
            if not found and frame.pts is not None and frame.pts > pts:
                break
            begun = begun or (found and frame.pts is not None and frame.pts >= pts)
            if begun:
                yield frame
        if found:
            return


def deinterlaced(frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """As many frames, each of one field's lines and of what is between them, made from the fields around."""
    graph, own = av.filter.Graph(), deque[tuple[int | None, int]]()

    def ready() -> Iterator[av.VideoFrame]:
        with suppress(av.BlockingIOError, av.EOFError):
            while True:
                frame = graph.vpull()
                frame.pts, frame.duration = own.popleft()  # the filter counts in half units
                yield frame

    for frame in frames:
        if not graph.configured:
            source = graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
            )
            steps = source, graph.add("bwdif", "mode=send_frame:deint=all"), graph.add("buffersink")
            graph.link_nodes(*steps).configure()
        own.append((frame.pts, frame.duration))
        graph.vpush(frame)
        yield from ready()
    if graph.configured:
        graph.vpush(None)
        yield from ready()


def is_cover(stream: av.VideoStream) -> bool:
    """A picture that stands for the film, not the film."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _from(
    path: Path,
    pts: int | None = None,
    back: int = 0,
    notes: Notes | None = None,
    device: str | None = None,
    second_layer: bool = False,
) -> Iterator[av.VideoFrame]:
    with opened(path, device) as (container, stream):
        stream.thread_type = "AUTO"
        if second_layer:
            stream.codec_context.options = _ALL_LAYERS
        if pts is not None:
            place = pts - round(back / stream.time_base)
            if place < (stream.start_time or 0):
                return
            container.seek(place, stream=stream)
        whole, begun, failed = notes is not None and pts is None, False, 0
        shown: int | None = None
        for packet in _packets(container, None if whole else stream):
            if whole and packet.pts is not None:
                notes.end = max(notes.end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream is None or packet.stream.index != stream.index:
                continue
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                time, failed = float((packet.pts or packet.dts or 0) * packet.time_base), failed + 1
                searched = pts is not None and not begun and failed < _BROKEN  # no frame can be had yet
                if device is not None and not searched:
                    raise DeviceError(f"it can't decode the picture at {time:.2f} s") from error
                if notes is not None:
                    notes.lost.append(time)
                continue
            begun = begun or bool(frames)
            if second_layer:  # a frame of the second layer follows that of the first, with the same time
                times = [shown, *(frame.pts for frame in frames)]
                shown = times[-1]
                frames = [frame for frame, before in zip(frames, times, strict=False) if frame.pts == before]
            yield from frames if device is None else map(_planar, frames)


def _on_device(path: Path, device: str) -> InputContainer:
    try:
        container = av.open(url(path), hwaccel=HWAccel(device, allow_software_fallback=False))
    except av.FFmpegError as error:
        raise DeviceError(f"no such device with its driver is found ({error.strerror})") from error
    except RuntimeError as error:  # no stream has a decoder for it
        raise DeviceError("this PyAV has no decoder for its codec on such devices") from error
    context = _film(container, path).codec_context
    if not context.is_hwaccel:
        container.close()
        raise DeviceError("this PyAV has no decoder for its codec on such devices")
    context.thread_count = 1  # the device has its own, and an error then belongs to its packet
    return container


def _planar(frame: av.VideoFrame) -> av.VideoFrame:
    """A device's frame as a decoder on the CPU gives it; its time, flags and side data stay."""
    name = _PLANAR.get(frame.format.name)
    return frame if name is None else frame.reformat(format=name, interpolation=QUALITY, threads=1)


def _packets(container: InputContainer, stream: av.VideoStream | None) -> Iterator[av.Packet]:
    """Packets of one stream or of all; where the file is broken, those behind the place."""
    broken = 0
    while True:
        try:
            for packet in container.demux(stream) if stream is not None else container.demux():
                broken = 0
                yield packet
            return
        except av.FFmpegError:
            broken += 1
            if broken == _BROKEN:
                raise


def _film(container: InputContainer, path: Path) -> av.VideoStream:
    for stream in container.streams.video:
        if not is_cover(stream):
            return stream
    raise UserError(f"{path} has no video stream")
