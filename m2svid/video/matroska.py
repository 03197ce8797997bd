"""Stereo, VR180 and the shape of pixels for Matroska.

FFmpeg has a tag for stereo. It could write the rest, too, but PyAV has no way to ask it for that.

Source: Google, Spherical Video V2 RFC; RFC 9559 (Matroska), RFC 8794 (EBML).
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from m2svid.video.layouts import Layout
from m2svid.video.mp4_boxes import HALF_SPHERE, Box, only

_SEGMENT, _TRACKS, _TRACK = b"\x18\x53\x80\x67", b"\x16\x54\xae\x6b", b"\xae"
_NAME, _VIDEO, _CRC, _VOID = b"\x53\x6e", b"\xe0", b"\xbf", b"\xec"
_PROJECTION, _TYPE, _PRIVATE = b"\x76\x70", b"\x76\x71", b"\x76\x72"
_SHOWN_WIDTH, _SHOWN_HEIGHT, _SHOWN_UNIT = b"\x54\xb0", b"\x54\xba", b"\x54\xb2"
_EQUIRECTANGULAR = b"\x01"
_ROOM = 60  # bytes, more than all of this takes


def tags(layout: Layout) -> dict[str, str]:
    """Tags of the video track for FFmpeg; the track's name makes room, which `describe` takes."""
    return {"title": "-" * _ROOM} | ({"stereo_mode": layout.stereo_mode} if layout.stereo_mode else {})


def describe(path: Path, layout: Layout, shown: tuple[int, int]) -> None:
    """Describe the views in a finished Matroska file, in place.

    Args:
        path: the film, written with `tags`.
        layout: of its only video track.
        shown: width and height of a view for the viewer, in square pixels.

    Raises:
        RuntimeError: the file is built in another way.
    """
    with path.open("r+b") as file:
        whole = Box(b"", 0, 0, file.seek(0, os.SEEK_END))
        tracks = only(_children(file, only(_children(file, whole), _SEGMENT)), _TRACKS)
        content = b"".join(
            _changed(file, box, layout, shown) for box in _children(file, tracks) if box.kind != _CRC
        )
        checksum = _element(_CRC, zlib.crc32(content).to_bytes(4, "little"))
        if tracks.content + len(checksum + content) != tracks.end:
            raise RuntimeError("the tracks of the film changed their size")
        file.seek(tracks.content)
        file.write(checksum + content)


def _changed(file: BinaryIO, track: Box, layout: Layout, shown: tuple[int, int]) -> bytes:
    """The bytes of a child of the tracks; in that of the film, what is to be told instead of the name."""
    children = list(_children(file, track)) if track.kind == _TRACK else []
    if _VIDEO not in [child.kind for child in children]:
        return _read(file, track.start, track.end)
    name, video = only(children, _NAME), only(children, _VIDEO)
    said = (_SHOWN_WIDTH, _SHOWN_HEIGHT, _SHOWN_UNIT)
    facts = [_read(file, box.start, box.end) for box in _children(file, video) if box.kind not in said]
    sizes = zip((_SHOWN_WIDTH, _SHOWN_HEIGHT), shown, strict=True)
    facts += [_element(kind, size.to_bytes(4, "big")) for kind, size in sizes]
    if layout.spherical:
        sphere = _element(_TYPE, _EQUIRECTANGULAR) + _element(_PRIVATE, HALF_SPHERE)
        facts.append(_element(_PROJECTION, sphere))
    described = _element(_VIDEO, b"".join(facts))
    kept = b"".join(_read(file, box.start, box.end) for box in children if box not in (name, video))
    room = track.end - track.content - len(kept + described)
    return _read(file, track.start, track.content) + kept + described + _element(_VOID, bytes(room - 2))


def _element(kind: bytes, content: bytes) -> bytes:
    long = len(content) > 126  # a size of seven ones is reserved
    size = (len(content) | 0x4000).to_bytes(2, "big") if long else bytes([len(content) | 0x80])
    return kind + size + content


def _children(file: BinaryIO, parent: Box) -> Iterator[Box]:
    start = parent.content
    while start < parent.end:
        file.seek(start)
        kind = _number(file)
        size = _number(file)
        content = file.tell()
        length = int.from_bytes(size, "big") & ((1 << 7 * len(size)) - 1)
        if content + length > parent.end:
            raise RuntimeError(f"element {kind.hex()} at byte {start} does not fit into its parent")
        yield Box(kind, start, content, content + length)
        start = content + length


def _number(file: BinaryIO) -> bytes:
    """An id or a size; the zeros it begins with tell how many bytes follow the first."""
    first = file.read(1)
    return first + file.read(8 - first[0].bit_length())


def _read(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)
