"""Frames of a video by the time at which they are shown, read forwards.

Colours, rotation and cover pictures are handled as everywhere, by `m2svid.video.read`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, chain, islice, pairwise
from pathlib import Path

import av

from data_prep.dataset import ClipSpec, Rejected, Source
from data_prep.steps.video import split_evenly
from m2svid.errors import UserError
from m2svid.files import url
from m2svid.video.decode import is_cover
from m2svid.video.read import VIDEO_SUFFIXES, Frame, Video

_SKIP = 5  # s; over a longer gap it is quicker to look for a key frame than to decode
_CUT_OFF = Fraction(1, 50)  # of the length: a container may announce a few frames that no player shows


@dataclass(frozen=True)
class VideoFacts:
    """Metadata of a file, read before its frames.

    Attributes:
        frames: how many it announces, or has by its length.
        rate: frames per second, exact.
        width: of a frame, px.
        height: px.
    """

    frames: int
    rate: Fraction
    width: int
    height: int

    @property
    def seconds(self) -> Fraction:
        return self.frames / self.rate


def video_facts(path: Path) -> VideoFacts:
    """Open a video and its first frame.

    Raises:
        UserError: it is missing, no video, or without a frame rate or length.
    """
    info = Video(path).info
    frames = info.frames
    with av.open(url(path)) as container:
        stream = _stream(container, path)
        if not stream.average_rate:
            raise UserError(f"{path}: the frame rate is unknown; set one, for example with ffmpeg -r")
        if not frames and stream.duration:
            frames = round(stream.duration * stream.time_base * info.rate)
        elif not frames and container.duration:
            frames = round(Fraction(container.duration, av.time_base) * info.rate)
    if not frames:
        raise UserError(f"{path}: the length is unknown; remux the file, for example with ffmpeg -c copy")
    return VideoFacts(frames, info.rate, info.width, info.height)


def find_videos(inputs: Sequence[Path]) -> dict[str, Path]:
    """The files given, and the videos in the folders given (by suffix, not in their subfolders), by name.

    Raises:
        UserError: there is none, or two have the same name.
    """
    named: dict[str, Path] = {}
    for path in inputs:
        if not path.exists():
            raise UserError(f"{path}: there is no such file or folder")
        found = [path]
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.suffix.lower() in VIDEO_SUFFIXES)
        if not found:
            raise UserError(f"{path}: there is no video in this folder ({', '.join(sorted(VIDEO_SUFFIXES))})")
        for video in found:
            name = re.sub(r"[^A-Za-z0-9_-]", "_", video.stem)
            if name in named:
                raise UserError(
                    f"{named[name]} and {video} would both be named {name}; rename one, or use two outputs"
                )
            named[name] = video
    return named


def video_source(name: str, path: Path) -> Source:
    """A video with what its header says; one that can't be opened is left to the survey to reject."""
    try:
        facts = video_facts(path)
    except UserError:
        return Source(name, path)
    known = {"frames": facts.frames, "rate": str(facts.rate)}
    return Source(name, path, known, float(facts.seconds), float(facts.rate), (facts.width, facts.height))


def even_clips(name: str, frames: int, rate: Fraction, clip_seconds: float) -> list[ClipSpec]:
    """Cut a whole video into clips of about one length, half a frame before the first frame of each."""
    edges = [0, *accumulate(split_evenly(frames, float(clip_seconds * rate)))]
    times = [(edge - Fraction(1, 2)) / rate for edge in edges]
    return [ClipSpec(f"{name}-{index:04d}", begin, end) for index, (begin, end) in enumerate(pairwise(times))]


class ForwardReader:
    """Read stretches of a video in the order of their beginning, decoding every frame at most once.

    A stretch that begins before the last one ended, or long after it, is looked for by key frames.

    Args:
        path: the video.

    Raises:
        UserError: it is missing, or no video.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.info = Video(path).info
        self.period = 1 / self.info.rate
        self._frames: Iterator[tuple[Fraction, Frame]] = iter(())
        self._ahead: tuple[Fraction, Frame] | None = None  # read already, for the next stretch
        self._position: Fraction | None = None  # of the last frame read; None before the first

    def between(self, begin: Fraction, end: Fraction) -> Iterator[Frame]:
        """The frames shown from `begin` on and before `end`, s from the first frame.

        Raises:
            Rejected: the file ends clearly before `end`, or can't be decoded.
        """
        last = begin - self.period
        for time, frame in self._from(begin):
            if time >= end:
                self._ahead = time, frame
                return
            last = time
            yield frame
        missing = end - (last + self.period)
        if missing > self.period + _CUT_OFF * end:
            raise Rejected(
                "read",
                f"cut off: {self.path} ends {float(missing):.2f} s before this clip does, at "
                f"{float(last + self.period):.2f} s",
            )

    def at(self, times: Sequence[Fraction]) -> Iterator[Frame]:
        """The frame nearest to each of these moments, s from the first frame, in increasing order.

        Raises:
            Rejected: there is none within half a frame, or the file can't be decoded.
        """
        near: tuple[Fraction, Frame] | None = None
        frames = self._from(times[0] - self.period)
        ahead = next(frames, None)
        for moment in times:
            while ahead is not None and (near is None or abs(ahead[0] - moment) <= abs(near[0] - moment)):
                near, ahead = ahead, next(frames, None)
            if near is None or abs(near[0] - moment) > self.period / 2:
                where = "the file ends before" if ahead is None else "the nearest frame is farther"
                raise Rejected(
                    "read",
                    f"no frame: none within half a frame of {float(moment):.3f} s in {self.path}; {where}",
                )
            yield near[1]
        self._ahead = ahead

    def sample(self, count: int) -> list[Frame]:
        """`count` frames spread evenly over the video, but for those that can't be decoded.

        Raises:
            Rejected: there is none.
        """
        length = video_facts(self.path).seconds
        found = []
        for index in range(count):
            moment = length * (2 * index + 1) / (2 * count)
            with suppress(Rejected):  # what is damaged is rejected when its clip's turn comes
                found += [frame for _, frame in islice(self._from(moment), 1)]
        if not found:
            raise Rejected("read", f"no frames: {self.path} announces some, but none can be read")
        return found

    def _from(self, begin: Fraction) -> Iterator[tuple[Fraction, Frame]]:
        """Frames from `begin` on; continues where the last reading ended, if that is not far away."""
        if self._position is None or not self._coming() <= begin < self._position + _SKIP:
            self._frames, self._ahead = self._decoded(begin), None
        if self._ahead is not None:
            self._frames, self._ahead = chain([self._ahead], self._frames), None
        for time, frame in self._frames:
            self._position = time
            if time >= begin:
                yield time, frame

    def _coming(self) -> Fraction:
        """When the next frame is shown that can be had without going back."""
        return self._ahead[0] if self._ahead is not None else self._position + self.period / 2

    def _decoded(self, begin: Fraction, search: bool = True) -> Iterator[tuple[Fraction, Frame]]:
        """All frames from a key frame on that is not after `begin`, with their times."""
        with self._readable(), av.open(url(self.path)) as container:
            stream = _stream(container, self.path)
            stream.codec_context.options = {"err_detect": "explode"}
            stream.codec_context.thread_count = 1  # workers are as many as cores
            origin, unit = stream.start_time or 0, stream.time_base
            sought = search and begin > _SKIP
            if sought:
                container.seek(origin + int(begin / unit), stream=stream)
            for raw in container.decode(stream):
                if raw.pts is None:
                    raise Rejected("read", f"no times: frames of {self.path} don't say when they are shown")
                time = (raw.pts - origin) * unit
                if sought and time > begin:
                    break  # the file can't be searched
                sought = False
                yield time, Frame(round(time * self.info.rate), raw.pts, raw, self.info)
        if sought:
            yield from self._decoded(begin, search=False)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except av.FFmpegError as error:
            at = "at its beginning" if self._position is None else f"after {float(self._position):.2f} s"
            raise Rejected("read", f"damaged: {self.path} can't be read {at} ({error.strerror})") from error


def _stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    stream = next((stream for stream in container.streams.video if not is_cover(stream)), None)
    if stream is None:
        raise UserError(f"{path} has no video stream")
    return stream
