"""Faults of a film that can be read all the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av

from m2svid.video.decode import Notes, opened
from m2svid.video.read import Video
from m2svid.video.times import clock, gaps

_PLACES = 5  # named in one sentence
_ANNOUNCING = {"matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "avi", "asf", "flv"}  # how long the film is
_SYNC = 0x47  # first byte of a packet of a transport stream (ISO/IEC 13818-1)


def damage(video: Video, times: Sequence[int], patched: Sequence[int], notes: Notes) -> list[str]:
    """One sentence for each thing that is wrong.

    Args:
        video: the film.
        times: of its frames, in units of its time base.
        patched: numbers of the frames that the decoder could only make in part.
        notes: of the reading.
    """
    second, start = float(video.info.time_base), float(video.info.start)
    found = []
    whole = notes.end > 0  # of a part, what is read before it is none of its damage
    lost = [time - start for time in notes.lost if whole or time >= start]
    if lost:
        places = _places(lost)
        found.append(f"{_count(len(lost), 'packet')} can't be decoded, {places}")
    if patched:
        places = _places([times[index] * second for index in patched])
        found.append(f"the decoder patched up {_count(len(patched), 'damaged frame')}, {places}")
    missing = gaps(times)
    if missing:
        places = _places([times[index] * second for index in missing])
        found.append(
            f"{_count(sum(missing.values()), 'frame')} missing, {places}: the frame before stands still"
        )
    return [f"{video.path}: {text}" for text in [*found, *_ends_early(video, notes)]]


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def _places(seconds: Sequence[float]) -> str:
    named = list(dict.fromkeys(clock(max(0.0, second)) for second in seconds))
    return f"at {', '.join(named[:_PLACES])}{' and further on' if len(named) > _PLACES else ''}"


def _ends_early(video: Video, notes: Notes) -> list[str]:
    if not video.is_container or not notes.end:  # pictures, or a part of a film
        return []
    with opened(video.path) as (container, stream):
        kind, length = container.format.name, (container.duration or 0) / av.time_base
        if kind == "avi":  # FFmpeg shortens it to what the file holds
            length = stream.frames / float(video.info.rate)
    if kind in _ANNOUNCING and notes.end + 1.5 / float(video.info.rate) < length:
        return [f"it ends at {clock(notes.end)}, but announces {clock(length)}: is it complete?"]
    if kind == "mpegts" and _rest(video.path):
        return ["it ends in the middle of a packet: is it complete?"]
    return []


def _rest(path: Path) -> int:
    """Bytes after the last whole packet of a transport stream; 0 where its packets are not found."""
    with path.open("rb") as file:
        begin = file.read(1024)
    for length, before in ((188, 0), (192, 4), (204, 0)):  # m2ts has a time before each packet
        if all(begin[before + place * length] == _SYNC for place in range(4)):
            return path.stat().st_size % length
    return 0
