"""Stereo, VR180 and spatial boxes for MP4 and MOV, whose muxer in FFmpeg writes none.

Google's `st3d` says how the views share the picture, squeezed or not; its `sv3d` which part of a sphere each
covers. Apple's `vexu` says the same of views of full size and of layers, and `hfov` the angle of a camera.

Source: Google, Spherical Video V2 RFC; Apple, HEVC Stereo Video Interoperability Profile, and ISO Base Media
File Formats and Apple HEVC Stereo Video; box structure: ISO/IEC 14496-12.
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
_BASELINE = 63_000  # µm between a viewer's eyes, as a converted film has no cameras
_FOV = 63.0  # degrees, of a film whose camera isn't known
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


def add_stereo_boxes(path: Path, layout: Layout, fov: float | None = None) -> None:
    """Describe the views in a finished MP4 or MOV, in place; one without two views stays.

    Args:
        path: the film; FFmpeg has written its index after the pictures, so that these stay where they are.
        layout: of its only video track.
        fov: horizontal angle of a view's camera, degrees; told of layers.

    Raises:
        RuntimeError: the file is built in another way.
    """
    mode = _MODES.get(layout.stereo_mode or "")
    boxes = b"" if mode is None else _box(b"st3d", bytes(4), bytes([mode]))
    boxes += (_spherical() if layout.spherical else b"") + _extended(layout, fov)
    if not boxes:
        return
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


def _extended(layout: Layout, fov: float | None) -> bytes:
    """Apple's description: of views of full size, which its players do not stretch, and of layers."""
    eyes = _full(b"stri", bytes([0b1011 if layout.right_first else 0b0011])) + _full(b"hero", b"\1")  # left
    if layout.layers:
        eyes += _box(b"cams", _full(b"blin", _BASELINE.to_bytes(4, "big")))
        eyes += _box(b"cmfy", _full(b"dadj", bytes(4)))  # the views already lie as they shall
        angle = round((fov or _FOV) * 1000).to_bytes(4, "big")
        return _box(b"vexu", _box(b"eyes", eyes)) + _box(b"hfov", angle)
    packing = {"left_right": b"side", "right_left": b"side", "top_bottom": b"over"}.get(
        layout.stereo_mode or ""
    )
    if packing is None or layout.squeezed:
        return b""
    packed = _box(b"pack", _full(b"pkin", packing))
    projected = _box(b"proj", _full(b"prji", b"hequ" if layout.spherical else b"rect"))
    sphere = _box(b"hfov", (180_000).to_bytes(4, "big")) if layout.spherical else b""
    return _box(b"vexu", _box(b"eyes", eyes), projected, packed) + sphere


def _full(kind: bytes, content: bytes) -> bytes:
    """A box with version 0 and no flags."""
    return _box(kind, bytes(4), content)


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
