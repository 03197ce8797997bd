"""Depth from files: npz, video, folder of pictures.

Shapes: T frames, h w of the depth maps.
"""

from __future__ import annotations

import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

from m2svid.depth.base import DepthEstimator, DepthRequest, Kind, Span
from m2svid.errors import UserError
from m2svid.files import natural
from m2svid.video.planes import to_planes
from m2svid.video.read import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Frame, Video
from m2svid.video.sliding import Sliding

_PICTURES = {".png", ".tif", ".tiff", ".exr"}
_FILES = {".npz"} | VIDEO_SUFFIXES | IMAGE_SUFFIXES | _PICTURES
_MODELS = ("config.json", "model_index.json")  # in a folder that holds a model
_SAMPLES = 8  # frames looked at to tell near from far
_TINT = 8  # of 255; gray videos have less colour than this
_CLEAR = 0.05  # of the range, by which the bottom of the picture must differ from its top


class DepthFile(DepthEstimator):
    """Depth from an npz, a video or pictures.

    Args:
        path: npz with an array `depth` (T, h, w), a video, a PNG, TIFF or EXR, or a folder of those.
        kind: "inverse" (near is large, as in disparity), "flipped" (1 - inverse: near is small), "metric"
            (distance; any unit), or "auto": inverse or flipped, whichever has the bottom of the picture
            nearer than its top.
        span: "auto" takes integers, and floats that fill 0 to 1, as they are; "shot" normalises each shot.

    Raises:
        UserError: the file is missing or of a kind that can't be read.
    """

    @classmethod
    def accepts(cls, name: str) -> bool:
        path = Path(name)
        if path.exists():
            return not any((path / file).exists() for file in _MODELS)
        return path.suffix.lower() in _FILES or name.startswith((".", "/", "~"))

    @classmethod
    def open(cls, request: DepthRequest) -> DepthFile:
        return cls(Path(request.name), request.kind, request.span)

    def __init__(self, path: Path, kind: Kind = "auto", span: Span = "auto") -> None:
        if kind not in get_args(Kind):
            raise UserError(f"--depth-kind must be one of {', '.join(get_args(Kind))}, not {kind!r}")
        self._path, self.name = path, str(path)
        self._reader = open_reader(path)
        self._maps: Sliding[NDArray[np.float32]] = Sliding(self._reader.maps)
        self.num_frames, self.size = self._reader.num_frames, next(self._reader.maps(0)).shape
        self._kind, reason = (kind, "as declared") if kind != "auto" else self._detect()
        self.relative = span == "shot" or self._kind == "metric" or self._reader.scale is None
        near = "near is large" if self._kind == "inverse" else "near is small"
        values = "normalised per shot" if self.relative else f"0 to {self._reader.scale:g} taken as 0 to 1"
        self.description = f"{path}: {self._reader.name}, {near} ({reason}), {values}"

    def __call__(self, frames: Sequence[NDArray[Any]], first: int) -> NDArray[np.float32]:
        found = self._maps.get(first, first + len(frames))
        if len(found) < len(frames):
            raise UserError(f"{self._path} ends after {first + len(found)} frames, the film is longer")
        odd = [place for place, depth in enumerate(found) if depth.shape != self.size]
        if odd:
            raise UserError(f"{self._path} changes its size in frame {first + odd[0]}")
        maps = np.stack(found)
        if not np.isfinite(maps).all():
            raise UserError(
                f"{self._path} has values that are no numbers between frames {first} and {first + len(maps)}"
            )
        return self._inverse(maps)

    def _inverse(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._kind == "metric":
            if maps.min() <= 0:
                raise UserError(f"{self._path} has distances that are not above 0, so it is not metric depth")
            return 1 / maps
        scaled = maps if self.relative else maps / self._reader.scale
        if self._kind == "inverse":
            return scaled
        return -scaled if self.relative else 1 - scaled

    def _detect(self) -> tuple[Literal["inverse", "flipped"], str]:
        count = min(self.num_frames, _SAMPLES)
        wanted = set(np.linspace(0, min(self.num_frames, 250) - 1, count).round().astype(int).tolist())
        rise, span = [], []
        for index, depth in enumerate(self._reader.maps(0)):
            if index in wanted:
                third = max(1, depth.shape[0] // 3)
                rise.append(float(np.median(depth[-third:]) - np.median(depth[:third])))
                span.append(float(np.ptp(depth)))
            if index >= max(wanted):
                break
        slope = sum(rise) / max(sum(span), 1e-12)
        if abs(slope) < _CLEAR:
            return "inverse", "assumed: the picture doesn't tell; --depth-kind says otherwise"
        kind = "inverse" if slope > 0 else "flipped"
        return kind, f"detected: the bottom of the picture is {slope:+.2f} of the range above its top"


class Reader(ABC):
    """Depth maps of one file, in order.

    Attributes:
        name: kind of file, for the user.
        num_frames: T.
        scale: value that means 1.0, or None where the values have no fixed range.
    """

    name: str
    num_frames: int
    scale: float | None

    @abstractmethod
    def maps(self, start: int) -> Iterator[NDArray[np.float32]]:
        """Maps (h, w) from number `start` on."""


def open_reader(path: Path) -> Reader:
    """Open a depth file by its kind. Raises UserError where it is missing or can't be read."""
    if not path.exists():
        raise UserError(f"--depth {path} does not exist")
    if path.is_dir() or path.suffix.lower() in _PICTURES:
        return PictureReader(path)
    return NpzReader(path) if path.suffix.lower() == ".npz" else VideoReader(path)


class NpzReader(Reader):
    """An npz with `depth` (T, h, w), read frame by frame however large and compressed it is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._open() as (shape, dtype, _):
            self.num_frames, *self._size = shape
            self._dtype = dtype
        self.name = f"npz of {dtype}"
        self.scale = float(np.iinfo(dtype).max) if dtype.kind == "u" else self._float_scale()

    def maps(self, start: int) -> Iterator[NDArray[np.float32]]:
        h, w = self._size
        bytes_each = h * w * self._dtype.itemsize
        with self._open() as (_, _, stream):
            for index in range(self.num_frames):
                data = stream.read(bytes_each)
                if len(data) < bytes_each:
                    raise UserError(f"{self._path} is cut off in frame {index}")
                if index >= start:
                    yield np.frombuffer(data, self._dtype).reshape(h, w).astype(np.float32)

    def _float_scale(self) -> float | None:
        """1 where all values lie in [0, 1] and use most of it, so that they are meant as they are."""
        low, high = np.inf, -np.inf
        for depth in self.maps(0):
            low, high = min(low, float(depth.min())), max(high, float(depth.max()))
        return 1.0 if low >= 0 and 0.5 < high <= 1 else None

    def _open(self) -> _NpyStream:
        return _NpyStream(self._path)


class _NpyStream:
    """The array `depth` of an npz as (shape, dtype, stream at its first value)."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> tuple[tuple[int, ...], np.dtype, zipfile.ZipExtFile]:
        try:
            self._archive = zipfile.ZipFile(self._path)
            self._stream = self._archive.open("depth.npy")
            version = np.lib.format.read_magic(self._stream)
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, fortran, dtype = read(self._stream)
        except (zipfile.BadZipFile, KeyError, ValueError) as error:
            raise UserError(f"{self._path} is not an npz with an array named depth: {error}") from error
        if len(shape) != 3 or fortran or dtype.kind not in "fu" or min(shape) < 1:
            raise UserError(
                f"depth in {self._path} must be T×H×W, float or unsigned, in C order; "
                f"it is {shape} of {dtype}{' in Fortran order' if fortran else ''}"
            )
        return shape, dtype, self._stream

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._archive.close()


class VideoReader(Reader):
    """A gray video of 8 to 16 bits."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._video = Video(path)
        first = next(self._video.frames())
        self._levels = 2 ** first.raw.format.components[0].bits - 1
        self._single = len(first.raw.format.components) == 1
        if not self._single and np.ptp(first.rgb().astype(np.int16), axis=-1).mean() > _TINT:
            raise UserError(f"{path} is coloured: depth must be gray, not drawn in a colour map")
        self.num_frames = self._video.info.frames or sum(1 for _ in self._video.frames())
        self.name = f"{first.raw.format.components[0].bits}-bit video"
        self.scale = 1.0

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
    """A folder of single-channel pictures, in the order of their names, f2 before f10; or one picture."""

    def __init__(self, path: Path) -> None:
        inside = sorted(path.iterdir(), key=natural) if path.is_dir() else [path]
        self._files = [file for file in inside if file.suffix.lower() in _PICTURES]
        if not self._files:
            raise UserError(f"--depth {path} holds no {', '.join(sorted(_PICTURES))}")
        self.num_frames = len(self._files)
        first = self._read(self._files[0])
        self.name = f"{len(self._files)} pictures of {first.dtype}"
        self.scale = float(np.iinfo(first.dtype).max) if first.dtype.kind == "u" else None

    def maps(self, start: int) -> Iterator[NDArray[np.float32]]:
        for file in self._files[start:]:
            yield self._read(file).astype(np.float32)

    def _read(self, file: Path) -> np.ndarray:
        if file.suffix.lower() == ".exr":
            picture = _read_exr(file)
        else:
            picture = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_UNCHANGED)
        if picture is None:
            raise UserError(
                f"{file} is not a picture that OpenCV can read; save the depth as npz, PNG or video"
            )
        if picture.ndim == 3:
            if not (picture[..., :1] == picture[..., :3]).all():
                raise UserError(f"{file} is coloured: depth must be gray, not drawn in a colour map")
            picture = picture[..., 0]
        return picture


def _read_exr(file: Path) -> np.ndarray:
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
