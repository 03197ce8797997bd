"""Stereo and VR180 boxes for MP4 and MOV, whose muxer in FFmpeg writes none.

`st3d` says how the views share the picture, squeezed or not; `sv3d` which part of a sphere each covers.

Source: Google, Spherical Video V2 RFC; box structure: ISO/IEC 14496-12.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from m2svid.video.layouts import Layout

_MODES = {"top_bottom": 1, "left_right": 2}
_STSD, _ENTRY = 8, 78  # bytes before the children of a sample description and of a visual sample entry
_LAST = (b"clap", b"pasp", b"btrt")  # optional boxes, before which the new ones belong
_CHUNK = 1 << 20
_QUARTER = (1 << 32) // 4  # of a whole turn, as 0.32 fixed point: outside a half sphere, on either side
# version, flags; then what is cropped from the picture of a whole sphere: top, bottom, left, right
HALF_SPHERE = b"".join(number.to_bytes(4, "big") for number in (0, 0, 0, _QUARTER, _QUARTER))


@dataclass(frozen=True)
class Box:
    """Part of a file: its kind, and where it begins, its content begins and it ends."""

    kind: bytes
    start: int
    content: int
    end: int


def only(boxes: Iterable[Box], kind: bytes) -> Box:
    """The one box of a kind.

    Raises:
        RuntimeError: there is none or another.
    """
    found = [box for box in boxes if box.kind == kind]
    if len(found) != 1:
        raise RuntimeError(f"{len(found)} boxes {kind!r} where the film needs one")
    return found[0]


def add_stereo_boxes(path: Path, layout: Layout) -> None:
    """Describe the views in a finished MP4 or MOV, in place; one without two views in a picture stays.

    Args:
        path: the film; FFmpeg has written its index after the pictures, so that these stay where they are.
        layout: of its only video track.

    Raises:
        RuntimeError: the file is built in another way.
    """
    mode = _MODES.get(layout.stereo_mode or "")
    if mode is None:
        return
    boxes = _box(b"st3d", bytes(4), bytes([mode])) + (_spherical() if layout.spherical else b"")
    with path.open("r+b") as file:
        parents = _sample_entry(file)
        for parent in parents:
            _write_at(file, parent.start, (parent.end - parent.start + len(boxes)).to_bytes(4, "big"))
        entry = parents[-1]
        last = (box.start for box in _children(file, entry, skip=_ENTRY) if box.kind in _LAST)
        _insert(file, next(last, entry.end), boxes)


def _spherical() -> bytes:
    header = _box(b"svhd", bytes(4), b"m2svid\0")
    ahead = _box(b"prhd", bytes(4), bytes(12))  # no rotation
    return _box(b"sv3d", header, _box(b"proj", ahead, _box(b"equi", HALF_SPHERE)))


def _box(kind: bytes, *content: bytes) -> bytes:
    return (8 + sum(map(len, content))).to_bytes(4, "big") + kind + b"".join(content)


def _sample_entry(file: BinaryIO) -> list[Box]:
    """The description of the video track's pictures, after all the boxes that it lies in."""
    parts = list(_children(file, Box(b"", 0, 0, file.seek(0, os.SEEK_END))))
    if [box.kind for box in parts[-2:]] != [b"mdat", b"moov"]:
        raise RuntimeError("the index of the film does not follow its pictures")
    tracks = [box for box in _children(file, parts[-1]) if box.kind == b"trak"]
    films = [track for track in tracks if _handler(file, track) == b"vide"]
    parents = [parts[-1], only(films, b"trak")]
    for kind in (b"mdia", b"minf", b"stbl", b"stsd"):
        parents.append(only(_children(file, parents[-1]), kind))
    (entry,) = _children(file, parents[-1], skip=_STSD)
    return [*parents, entry]


def _handler(file: BinaryIO, track: Box) -> bytes:
    media = only(_children(file, track), b"mdia")
    file.seek(only(_children(file, media), b"hdlr").content + 8)
    return file.read(4)


def _children(file: BinaryIO, parent: Box, skip: int = 0) -> Iterator[Box]:
    """The boxes in a box, `skip` bytes after its header."""
    start = parent.content + skip
    while start < parent.end:
        file.seek(start)
        size, kind, content = int.from_bytes(file.read(4), "big"), file.read(4), start + 8
        if size == 1:
            size, content = int.from_bytes(file.read(8), "big"), start + 16
        if not content - start <= size <= parent.end - start:
            raise RuntimeError(f"box {kind!r} at byte {start} does not fit into its parent")
        yield Box(kind, start, content, start + size)
        start += size


def _insert(file: BinaryIO, place: int, data: bytes) -> None:
    """Move what follows, from its end on, so that memory does not grow with the film."""
    end = file.seek(0, os.SEEK_END)
    while end > place:
        start = max(place, end - _CHUNK)
        file.seek(start)
        _write_at(file, start + len(data), file.read(end - start))
        end = start
    _write_at(file, place, data)


def _write_at(file: BinaryIO, place: int, data: bytes) -> None:
    file.seek(place)
    file.write(data)
