"""Sound, subtitles and chapters of a part of a film: packets are taken or left as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import av
from av.container import InputContainer

_BACK = 10  # s before the part at which reading begins, for subtitles that are still to be seen in it
_AHEAD = 10  # s behind it at which reading ends; containers interleave their streams closer than that


def part_of(
    source: InputContainer, streams: Sequence[av.stream.Stream], start: Fraction, stop: Fraction
) -> Iterator[av.Packet]:
    """Packets of streams that begin in a part of the source; subtitles that are seen in it, for that long.

    Args:
        source: whose clock `start` and `stop` are on, s.
        streams: whose packets are wanted.
        start: of the part.
        stop: of the part, excluded.
    """
    if start > _BACK:
        source.seek(int((start - _BACK) * av.time_base))
    for packet in source.demux(streams):
        if packet.pts is None or packet.dts is None:
            continue
        begin = packet.pts * packet.time_base
        end = begin + (packet.duration or 0) * packet.time_base
        if begin > stop + _AHEAD:
            return
        if source.streams[packet.stream_index].type == "subtitle" and end > start and begin < stop:
            shown = max(begin, start)
            packet.pts = packet.dts = round(shown / packet.time_base)
            packet.duration = round((min(end, stop) - shown) / packet.time_base)
            yield packet
        elif start <= begin < stop:
            yield packet


def chapters_of(
    chapters: Iterable[dict[str, Any]], start: Fraction, stop: Fraction | None
) -> list[dict[str, Any]]:
    """The chapters that reach into a part, whose beginning is time 0; None as `stop` = the source's end."""
    found = []
    for chapter in chapters:
        unit = chapter["time_base"]
        begin, end = (max(chapter[name] * unit - start, Fraction(0)) for name in ("start", "end"))
        if stop is not None:
            begin, end = min(begin, stop - start), min(end, stop - start)
        if begin < end or stop is None:
            found.append(chapter | {"start": round(begin / unit), "end": round(end / unit)})
    return found
