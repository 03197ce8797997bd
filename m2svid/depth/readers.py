"""Depth maps of files, in order: arrays, videos, pictures.

Shapes: T frames, h w of the depth maps.
"""

from __future__ import annotations

import math
import os
import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

from m2svid.errors import UserError
from m2svid.files import natural, url
from m2svid.video.planes import to_planes
from m2svid.video.read import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Frame, Video
from m2svid.video.write import DEPTH_TAG

_ARRAYS = {".npz", ".npy"}
_PICTURES = IMAGE_SUFFIXES | {".exr"}
SUFFIXES = _ARRAYS | _PICTURES | VIDEO_SUFFIXES
"""Of depth files."""

_BROKEN = (KeyError, ValueError, OSError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error)
_BLOCK = 1 << 18  # values
_TINT = 8 / 255  # of the range; gray pictures have less colour than this


class Reader(ABC):
    """Depth maps of one file, in order.

    Attributes:
        name: kind of file, for the user.
        num_frames: T.
        scale: value that means 1.0, or None where the values have no fixed range.
        bits: of its integers of a fixed range; None = it has others.
        kind: what the file says of its values, a `Kind`; None = nothing.
    """

    name: str
    num_frames: int
    scale: float | None
    bits: int | None = None
    kind: str | None = None

    @abstractmethod
    def maps(self, start: int) -> Iterator[NDArray[np.float32]]:
        """Maps (h, w) from number `start` on."""

    def some(self, numbers: Collection[int]) -> Iterator[NDArray[np.float32]]:
        """The maps of these numbers, increasing."""
        for index, depth in enumerate(islice(self.maps(0), max(numbers) + 1)):
            if index in numbers:
                yield depth


def open_reader(path: Path) -> Reader:
    """Open a depth file by its kind. Raises UserError where it is missing or can't be read."""
    if not path.exists():
        raise UserError(f"--depth {path} does not exist")
    if path.is_dir() or path.suffix.lower() in _PICTURES:
        return PictureReader(path)
    return ArrayReader(path) if path.suffix.lower() in _ARRAYS else VideoReader(path)


class ArrayReader(Reader):
    """An npy, or the array `depth` of an npz: (T, h, w), (h, w) for one map, or these with an axis of 1.

    It is read map by map, however large and compressed it is; in Fortran order as a whole.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._is_npy, self._checked = path, path.suffix.lower() == ".npy", False
        with self._sound(), self._opened() as (shape, _, dtype, _):
            pass
        if dtype.kind not in "fui":
            raise UserError(f"depth in {path} must be of floats or integers, not of {dtype}")
        self.num_frames, *self._size = self._layout(shape)
        self.name = f"{path.suffix[1:]} of {dtype}"
        if dtype.kind == "u" and dtype.itemsize <= 2:
            self.bits = 8 * dtype.itemsize
        full = 1.0 if dtype.kind == "f" and self._is_full() else None
        self.scale = 2.0**self.bits - 1 if self.bits else full

    def maps(self, start: int) -> Iterator[NDArray[np.float32]]:
        return self.some(range(start, self.num_frames))

    def some(self, numbers: Collection[int]) -> Iterator[NDArray[np.float32]]:
        with self._sound(), self._opened() as (shape, fortran, dtype, stream):
            if fortran:
                array = np.load(self._path, mmap_mode="r")
                axes = tuple(axis for axis, length in enumerate(shape) if length == 1)
                whole = array if self._is_npy else array["depth"]
                kept = whole.squeeze(axes).reshape(self.num_frames, *self._size)
                yield from (kept[index].astype(np.float32) for index in sorted(numbers))
                return
            place = 0
            for index in sorted(numbers):
                values = np.empty(self._size, dtype)
                stream.seek((index - place) * values.nbytes, os.SEEK_CUR)
                place = index + 1
                if stream.readinto(values.reshape(-1).view(np.uint8)) < values.nbytes:
                    raise EOFError(f"it is cut off in frame {index}")
                yield values.astype(np.float32, copy=False)

    def _layout(self, shape: Sequence[int]) -> tuple[int, ...]:
        """(T, h, w) of an array's shape: of four axes, that of channels is dropped, or that of clips."""
        kept = list(shape)
        if len(kept) == 4 and 1 in kept:
            del kept[next(axis for axis in (1, 3, 0, 2) if kept[axis] == 1)]
        if len(kept) == 2:
            kept.insert(0, 1)
        if len(kept) != 3 or min(kept) < 1:
            raise UserError(f"depth in {self._path} must be T×H×W, or H×W for one map; it is {tuple(shape)}")
        return tuple(kept)

    def _is_full(self) -> bool:
        """True where all values lie in [0, 1] and use most of it, so that they are meant as they are.

        All are read, which finds what is damaged.
        """
        low, high = np.inf, -np.inf
        for values in self._blocks():
            low, high = min(low, float(values.min())), max(high, float(values.max()))
        self._checked = True
        return low >= 0 and 0.5 < high <= 1

    def _blocks(self) -> Iterator[NDArray[Any]]:
        """All values in parts that stay in a processor's cache, each given in the same memory."""
        with self._sound(), self._opened() as (shape, fortran, dtype, stream):
            if fortran:
                yield from self.maps(0)
                return
            block, count = np.empty(min(math.prod(shape), _BLOCK), dtype), math.prod(shape)
            for begin in range(0, count, _BLOCK):
                part = block[: count - begin]
                if stream.readinto(part.view(np.uint8)) < part.nbytes:
                    raise EOFError(f"it is cut off in frame {begin // math.prod(self._size)}")
                yield part

    @contextmanager
    def _opened(self) -> Iterator[tuple[tuple[int, ...], bool, np.dtype, BinaryIO]]:
        """Shape, whether it is in Fortran order, dtype, and a stream at the first value."""
        with ExitStack() as stack:
            stream: BinaryIO = stack.enter_context(self._path.open("rb"))
            if not self._is_npy:
                archive = stack.enter_context(zipfile.ZipFile(stream))
                member = archive.getinfo("depth.npy")
                if self._checked and member.compress_type == zipfile.ZIP_STORED:
                    stream.seek(member.header_offset + 26)  # the lengths of name and extra field, then those
                    stream.seek(sum(struct.unpack("<HH", stream.read(4))), os.SEEK_CUR)
                else:
                    stream = stack.enter_context(archive.open(member))
            first = np.lib.format.read_magic(stream) == (1, 0)
            header = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
            yield (*header(stream), stream)

    @contextmanager
    def _sound(self) -> Iterator[None]:
        """Name the file in what is raised while it is read."""
        try:
            yield
        except GeneratorExit:  # at the interpreter's end, when `_BROKEN` may be gone
            raise
        except _BROKEN as error:
            reason = str(error).strip("'\"") or type(error).__name__
            wanted = "npy" if self._is_npy else "npz with an array named depth"
            raise UserError(f"{self._path} is no {wanted} that can be read: {reason}") from error


class VideoReader(Reader):
    """A gray video of 8 to 16 bits, whose tag may say what its values are."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._video = Video(path)
        first = next(self._video.frames())
        self.bits = first.raw.format.components[0].bits
        self._levels = 2**self.bits - 1
        self._single = len(first.raw.format.components) == 1
        if not self._single and is_coloured(first.rgb()):
            raise UserError(f"{path} is coloured: depth must be gray, not drawn in a colour map")
        self.num_frames = self._video.info.frames or sum(1 for _ in self._video.frames())
        self.name = f"{self.bits}-bit video"
        self.scale = 1.0
        with av.open(url(path)) as container:
            self.kind = container.streams.video[0].metadata.get(DEPTH_TAG)

    def maps(self, start: int) -> Iterator[NDArray[np.float32]]:
        for frame in self._video.frames(start):
            yield self._gray(frame)

    def _gray(self, frame: Frame) -> NDArray[np.float32]:
        if not self._single:  # gray stored as YUV
            rgb = frame.rgb(8 if self._levels == 255 else 16)
            return rgb[..., 1].astype(np.float32) / np.iinfo(rgb.dtype).max
        values = to_planes(frame.raw)[0].astype(np.float32) / self._levels
        limited = frame.raw.color_range == ColorRange.MPEG
        return ((values * 255 - 16) / 219).clip(0, 1) if limited else values


class PictureReader(Reader):
    """A folder of gray pictures, in the order of their names, f2 before f10; or one picture."""

    def __init__(self, path: Path) -> None:
        try:
            inside = sorted(path.iterdir(), key=natural) if path.is_dir() else [path]
        except OSError as error:
            raise UserError(f"--depth {path} can't be read: {error.strerror}") from error
        self._files = [file for file in inside if file.suffix.lower() in _PICTURES]
        if not self._files:
            raise UserError(f"--depth {path} holds no {', '.join(sorted(_PICTURES))}")
        self.num_frames = len(self._files)
        self._dtype = _read_picture(self._files[0]).dtype
        self.name = f"{len(self._files)} pictures of {self._dtype}"
        self.bits = 8 * self._dtype.itemsize if self._dtype.kind == "u" else None
        self.scale = 2.0**self.bits - 1 if self.bits else None

    def maps(self, start: int) -> Iterator[NDArray[np.float32]]:
        for file in self._files[start:]:
            picture = _read_picture(file)
            if picture.dtype != self._dtype:
                raise UserError(
                    f"{file} is of {picture.dtype}, {self._files[0].name} of {self._dtype}: all pictures of "
                    "depth must be of one kind"
                )
            yield picture.astype(np.float32)


def is_coloured(picture: NDArray[Any]) -> bool:
    """Return True where the channels of (h, w, 3 or more) differ by more than rounding and compression."""
    channels = picture[..., :3].astype(np.float32)
    return bool(np.ptp(channels, axis=-1).mean() > _TINT * np.ptp(channels))


def _read_picture(file: Path) -> NDArray[Any]:
    """(h, w)."""
    try:
        data = np.fromfile(file, np.uint8)
        exr = file.suffix.lower() == ".exr"
        picture = _read_exr(file) if exr else cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except (OSError, cv2.error) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is empty or broken"
        raise UserError(f"{file} can't be read: {reason}") from error
    if picture is None:
        raise UserError(f"{file} is not a picture that OpenCV can read; save the depth as npz, PNG or video")
    if picture.ndim == 3:
        if is_coloured(picture):
            raise UserError(f"{file} is coloured: depth must be gray, not drawn in a colour map")
        picture = picture[..., 1]
    return picture


def _read_exr(file: Path) -> NDArray[Any]:
    """(h, w), or (h, w, 3) where depth is stored as colours: the only layer, or the one of depth."""
    try:
        import OpenEXR
    except ModuleNotFoundError as error:
        raise UserError(f"{file} needs another package: pip install 'm2svid[convert]'") from error
    try:
        with OpenEXR.File(str(file)) as image:
            layers = {name: channel.pixels for name, channel in image.channels().items()}
    except RuntimeError as error:
        raise UserError(f"{file} is not an EXR that can be read: {error}") from error
    depth = [name for name in layers if name.rpartition(".")[2].lower() in ("z", "depth")]
    chosen = depth if len(layers) > 1 else list(layers)
    if len(chosen) != 1:
        raise UserError(
            f"{file} has the layers {', '.join(layers)}: depth must be the only one, or named Z or depth"
        )
    return layers[chosen[0]]
