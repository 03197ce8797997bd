"""A part of a film, as if it were all of it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av

from m2svid.errors import UserError
from m2svid.video.decode import KeyFrame, Notes, decoded_since, opened
from m2svid.video.read import Video

Place = Fraction | int
"""A time, s, or the number of a frame, from 0."""

_REORDERED = 64  # frames that a packet may come before those shown earlier, at most
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)")  # hours may be missing
_SECONDS = re.compile(r"(\d+(?:\.\d+)?)s")
_FRAME = re.compile(r"(\d+)f")


def parse_place(option: str, text: str) -> Place:
    """Read 00:01:10.5, 1:10.5 and 70.5s as times, 1692f as the number of a frame.

    Raises:
        UserError: the text is none of these; a plain number isn't, because it could be either.
    """
    if found := _CLOCK.fullmatch(text):
        hours, minutes, seconds = found.groups()
        return int(hours or 0) * 3600 + int(minutes) * 60 + Fraction(seconds)
    if found := _SECONDS.fullmatch(text):
        return Fraction(found[1])
    if found := _FRAME.fullmatch(text):
        return int(found[1])
    raise UserError(
        f"{option} must be a time such as 00:01:10.5 or 70.5s, or the number of a frame such as 1692f, not "
        f"{text!r}"
    )


def parse_range(start: str | None, end: str | None) -> tuple[Place, Place | None, Place | None]:
    """Read both ends of a part.

    Returns:
        Where it begins, where it ends, and how long it is; of the latter two, one at most is not None. A
        length is written as an end with a plus.

    Raises:
        UserError: an end is none, or lies before the start.
    """
    first = Fraction(0) if start is None else parse_place("--start", start)
    if end is None:
        return first, None, None
    if end.startswith("+"):
        length = parse_place("--end", end[1:])
        if not length:
            raise UserError("--end +0 leaves nothing: give a length such as +2s or +50f")
        return first, None, length
    last = parse_place("--end", end)
    if isinstance(first, int) == isinstance(last, int) and last <= first:
        raise UserError(f"--end {end} must be behind --start {start or '0s'}")
    return first, last, None


class Excerpt(Video):
    """The frames of a film from one place up to another, which is not included.

    Args:
        path: of the film.
        rate: frames per second of a folder of pictures.
        start: the first frame is the first one shown at this time or later; None = the film's first.
        end: a place, or "+" and how long the part is; None = the film's end.
        **reading: see `Video`.

    Raises:
        UserError: as of `Video`; or the film is one picture, or has no frame there.
    """

    is_picture = False

    def __init__(
        self, path: Path, rate: Fraction | None, start: str | None, end: str | None, **reading: Any
    ) -> None:
        super().__init__(path, rate, **reading)
        if super().is_picture:
            raise UserError(f"--start and --end are for films; {path} is one picture")
        first, last, length = parse_range(start, end)
        self._begin = self._pts(first)
        self._end = None if last is None else self._pts(last)
        self._count = length if isinstance(length, int) else None
        if isinstance(length, Fraction):
            self._end = self._begin + math.ceil(length / self.info.time_base)
        if self.is_container:
            shown = next(self._raw(0, None), None)
        else:
            self._pictures = self._pictures[self._begin : self._end][: self._count]
            shown = next(iter(self._pictures), None)
        if shown is None:
            raise UserError(f"{path} has no frame from --start {start or '0s'} to --end {end or 'its end'}")
        if self.is_container:
            self._begin = shown.pts
            self.info = replace(self.info, start=shown.pts * self.info.time_base)
        self.info = replace(self.info, frames=len(self._pictures))

    def frames_before(self) -> int:
        """Count the frames of the film before this part; a file is read up to there, but not decoded."""
        if not self.is_container:
            return self._begin
        with opened(self.path) as (container, stream):
            return sum(time < self._begin for time in _times(container, stream))

    def _pts(self, place: Place) -> int:
        if isinstance(place, Fraction) or not self.is_container:
            seconds = place if isinstance(place, Fraction) else place / self.info.rate
            return math.ceil((self.info.start + seconds) / self.info.time_base)
        with opened(self.path) as (container, stream):
            times = sorted(islice(_times(container, stream), place + _REORDERED))
        if place >= len(times):
            raise UserError(f"{self.path} has {len(times)} frames: there is no frame {place}")
        return times[place]

    def _raw(
        self, start: int, key: KeyFrame | None, notes: Notes | None = None, device: str | None = None
    ) -> Iterator[av.VideoFrame]:
        if not self.is_container:
            yield from super()._raw(start, key, notes, device)
            return
        begin = self._begin if key is None else key.pts
        found = decoded_since(self.path, begin, notes, device, self._second_layer)
        for index, raw in enumerate(found, start):
            late = self._end is not None and raw.pts is not None and raw.pts >= self._end
            if late or index == self._count:
                return
            yield raw


def _times(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[int]:
    for packet in container.demux(stream):
        time = packet.dts if packet.pts is None else packet.pts
        if time is not None and not packet.is_discard:
            yield time
