"""Decoding a file from its beginning or from a key frame on; what is damaged is passed over and noted."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import av
from av.container import InputContainer

from m2svid.errors import UserError
from m2svid.files import url

_BROKEN = 100  # errors in a row after which a file is given up
_BACK = (0, 1, 4, 16, 64)  # s before a key frame at which it is searched for


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
def opened(path: Path) -> Iterator[tuple[InputContainer, av.VideoStream]]:
    """Give a file and its film while the context lasts.

    Raises:
        UserError: it is missing, is none that can be read, or holds no video.
    """
    try:
        with av.open(url(path)) as container:
            yield container, _film(container, path)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{path} is not a video that can be read: {error.strerror}") from error


def decoded(path: Path, key: KeyFrame | None = None, notes: Notes | None = None) -> Iterator[av.VideoFrame]:
    """Frames in the order in which they are shown.

    Args:
        path: the file.
        key: the first frame; None = that of the file. Transport and program streams have no index, and a
            search often ends behind the key frame: it is begun again further ahead.
        notes: filled while the file is read.

    Raises:
        UserError: the file can't be read.
    """
    for back in _BACK if key is not None and key.index else ():
        found = False
        for frame in _from(path, key.pts, back):
            found = found or (frame.key_frame and frame.pts == key.pts)
            if found:
                yield frame
            elif frame.pts is not None and frame.pts > key.pts:
                break
        if found:
            return
    yield from islice(_from(path, notes=notes), key.index if key is not None else 0, None)


def decoded_since(path: Path, pts: int) -> Iterator[av.VideoFrame]:
    """Frames from the first one on that is shown at `pts` or later, read from the key frame before it.

    Raises:
        UserError: the file can't be read.
    """
    for back in (*_BACK, None):
        found, begun = back is None, False  # read from its beginning, a file needs no key frame
        for frame in _from(path, None if back is None else pts, back or 0):
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
    path: Path, pts: int | None = None, back: int = 0, notes: Notes | None = None
) -> Iterator[av.VideoFrame]:
    with opened(path) as (container, stream):
        stream.thread_type = "AUTO"
        if pts is not None:
            place = pts - round(back / stream.time_base)
            if place < (stream.start_time or 0):
                return
            container.seek(place, stream=stream)
        for packet in _packets(container, stream if notes is None else None):
            if notes is not None and packet.pts is not None:
                notes.end = max(notes.end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream is None or packet.stream.index != stream.index:
                continue
            try:
                yield from packet.decode()
            except av.FFmpegError:
                if notes is not None:
                    notes.lost.append(float((packet.pts or packet.dts or 0) * packet.time_base))


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
