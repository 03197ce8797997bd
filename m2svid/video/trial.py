"""Streams tried against a container, in a file that nobody keeps.

What a container refuses shows only when it is written into: in its header, or with a packet.
"""

from __future__ import annotations

import io
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import av
from av.container import InputContainer

from m2svid.video.carry import carry

_LOOK = 2000  # packets of the source
_TRIED = 8  # packets of a stream


def first_packets(
    source: InputContainer, streams: Sequence[av.stream.Stream]
) -> Mapping[int, list[av.Packet]]:
    """Number of a stream -> its first packets; of subtitles that begin late, none."""
    found: dict[int, list[av.Packet]] = defaultdict(list)
    for packet in islice(source.demux(streams), _LOOK) if streams else ():
        if packet.dts is not None and len(found[packet.stream_index]) < _TRIED:
            found[packet.stream_index].append(packet)
        if len(found) == len(streams) and all(len(each) == _TRIED for each in found.values()):
            break
    return found


def fits(
    stream: av.stream.Stream, packets: Iterable[av.Packet], container: str, encoder: str | None = None
) -> bool:
    """Tell whether a container takes a stream with these packets.

    Args:
        stream: of a source.
        packets: of the stream.
        container: FFmpeg's name.
        encoder: that converts it; None = as it is.
    """
    try:
        with av.open(io.BytesIO(), "w", format=container) as target:
            write = carry(target, stream, encoder)
            target.start_encoding()
            for packet in packets:
                target.mux(list(write(packet)))
    except (av.FFmpegError, ValueError):
        return False
    return True


def refused(
    stream: av.stream.Stream, packets: Iterable[av.Packet], container: str, encoder: str | None = None
) -> frozenset[int] | None:
    """Places in `packets` of those that can't be written; None if that is all. Arguments as of `fits`."""
    places, count = set(), 0
    try:
        with av.open(os.devnull, "w", format=container) as target:
            write = carry(target, stream, encoder)
            target.start_encoding()
            for packet in packets:
                try:
                    target.mux(list(write(packet)))
                except (av.error.ArgumentError, av.error.InvalidDataError):
                    places.add(count)
                count += 1
    except (av.FFmpegError, ValueError):
        return None
    return frozenset(places) if len(places) < max(count, 1) else None
