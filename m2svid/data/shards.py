"""The clip format: what a shard holds, and how it is written.

A shard is a WebDataset tar. A clip in it is `{key}.left.mp4`, `{key}.right.mp4`, `{key}.disparity.zip`
(16-bit PNGs, `codec.encode_planes`) and `{key}.json` (`ClipInfo`). Instead of the disparity a clip may hold
`{key}.warped.mp4` and `{key}.hole.zip` (8-bit PNGs, 255 = hole).

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import MISSING, asdict, dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import torch
from torch import Tensor
from webdataset import TarWriter

from m2svid.data.codec import encode_planes, encode_video
from m2svid.errors import UserError
from m2svid.files import whole

_KEY = re.compile(r"(?!__)[^./\\\s]+")
_FINEST_SCALE = 128.0  # units a pixel: at most 1/256 px off, which is what KITTI resolves


@dataclass
class Clip:
    """A rectified stereo clip to be written: with its disparity, or with the finished warped view and hole.

    Attributes:
        key: name of the clip, unique in its dataset; no dots, slashes or spaces.
        left: (T, 3, H, W) uint8; H and W even.
        right: like left.
        fps: exact frame rate.
        disparity: (T, 1, H, W) float, pixels >= 0, seen from the left view, known everywhere.
        warped: like left; instead of disparity.
        hole: (T, 1, H, W) bool, beside warped.
        dataset: where the clip belongs, such as "stereo4d".
        source: the file or video it was cut from.
        split: "train", "val" or "test".
        notes: how the clip was made; anything that JSON can hold.
    """

    key: str
    left: Tensor
    right: Tensor
    fps: Fraction
    disparity: Tensor | None = None
    warped: Tensor | None = None
    hole: Tensor | None = None
    dataset: str = ""
    source: str = ""
    split: str = "train"
    notes: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Raise UserError, naming the clip and what is wrong, unless the clip can be stored."""
        if not _KEY.fullmatch(self.key):
            self._refuse("its name may hold no dots, slashes or spaces and not begin with two underscores")
        shape = tuple(self.left.shape)
        if self.left.dim() != 4 or shape[0] == 0 or shape[1] != 3 or shape[2] % 2 or shape[3] % 2:
            self._refuse(f"left must be (T, 3, H, W) with T >= 1 and even H and W, got {shape}; crop or pad")
        if self.fps <= 0:
            self._refuse(f"the frame rate must be positive, got {self.fps}")
        if (self.disparity is None) == (self.warped is None or self.hole is None):
            self._refuse("give either disparity, or warped and hole")
        mask_shape = (shape[0], 1, *shape[2:])
        for name, want in (("left", shape), ("right", shape), ("warped", shape), ("hole", mask_shape)):
            self._check_member(name, want, torch.bool if name == "hole" else torch.uint8)
        if self.disparity is not None:
            self._check_disparity(self.disparity, mask_shape)

    def _check_member(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        video = getattr(self, name)
        if video is not None and (tuple(video.shape) != shape or video.dtype != dtype):
            self._refuse(f"{name} must be {shape} {dtype}, got {tuple(video.shape)} {video.dtype}")

    def _check_disparity(self, disparity: Tensor, shape: tuple[int, ...]) -> None:
        if tuple(disparity.shape) != shape or not disparity.is_floating_point():
            self._refuse(f"disparity must be {shape} float, got {tuple(disparity.shape)} {disparity.dtype}")
        if not bool(disparity.isfinite().all()) or disparity.min() < 0 or disparity.max() > 0xFFFF:
            self._refuse("disparity must be finite, >= 0 and below 65536 px everywhere; fill unknown pixels")

    def _refuse(self, why: str) -> None:
        raise UserError(f"clip {self.key!r} cannot be stored: {why}")


@dataclass(frozen=True)
class ClipInfo:
    """The JSON of a clip.

    Attributes:
        fps: exact frame rate; "30000/1001" in the file.
        width: pixels.
        height: pixels.
        num_frames: of every video of the clip.
        dataset: see `Clip`.
        source: see `Clip`.
        split: see `Clip`.
        disparity_scale: stored integer units per pixel; None for a clip with warped view and hole.
        disparity_min: smallest disparity, pixels.
        disparity_max: largest disparity, pixels.
        notes: see `Clip`.
    """

    fps: Fraction
    width: int
    height: int
    num_frames: int
    dataset: str
    source: str
    split: str
    disparity_scale: float | None = None
    disparity_min: float | None = None
    disparity_max: float | None = None
    notes: dict[str, Any] | None = None

    @classmethod
    def of(cls, clip: Clip) -> ClipInfo:
        """The JSON of a clip."""
        num_frames, _, height, width = clip.left.shape
        about = (clip.fps, width, height, num_frames, clip.dataset, clip.source, clip.split)
        if clip.disparity is None:
            return cls(*about, notes=clip.notes or None)
        low, high = (float(value) for value in clip.disparity.aminmax())
        return cls(*about, disparity_scale(high), low, high, clip.notes or None)

    @classmethod
    def from_json(cls, text: bytes) -> ClipInfo:
        """Read what `to_json` wrote; a ValueError names the field that is missing or makes no sense."""
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError(f"the JSON must be an object with fields, got {values!r}")
        required = [item.name for item in fields(cls) if item.default is MISSING]
        missing = [name for name in required if name not in values]
        if missing:
            raise ValueError(f"the JSON has no field {', '.join(missing)}")
        known = {item.name: values.get(item.name) for item in fields(cls)}
        info = cls(**known | {"fps": _exact_fps(values["fps"])})
        for name in ("width", "height", "num_frames"):
            if not isinstance(getattr(info, name), int) or getattr(info, name) < 1:
                raise ValueError(f"the JSON's {name} must be a positive integer, got {getattr(info, name)!r}")
        for name in ("disparity_scale", "disparity_min", "disparity_max"):
            if name in values and not _is_number(values[name]):
                raise ValueError(f"the JSON's {name} must be a number, got {values[name]!r}")
        if info.disparity_scale is not None and info.disparity_scale <= 0:
            raise ValueError(f"the JSON's disparity_scale must be positive, got {info.disparity_scale}")
        return info

    def to_json(self) -> bytes:
        values = {name: value for name, value in asdict(self).items() if value is not None}
        return json.dumps(values | {"fps": str(self.fps)}, indent=1).encode()


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _exact_fps(text: object) -> Fraction:
    try:
        fps = Fraction(str(text))
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"the JSON's fps must be a number or a fraction, got {text!r}") from error
    if fps <= 0:
        raise ValueError(f"the JSON's fps must be positive, got {text!r}")
    return fps


def disparity_scale(largest: float) -> float:
    """Units a pixel that 16 bits are divided into: a power of two, so that whole pixels and halves are exact.

    Args:
        largest: largest disparity of the clip, pixels.
    """
    return min(_FINEST_SCALE, 2.0 ** math.floor(math.log2(0xFFFF / max(largest, 1))))


class ShardWriter:
    """Write clips into `{folder}/{prefix}-{index:06d}.tar`; to be used in a `with` block.

    A shard gets its name when it is complete. An error inside the block removes the shard that was begun and
    keeps those before it; a killed process leaves at most one `.unfinished` file, no shard for any reader.

    Args:
        folder: made if missing.
        prefix: start of the file names.
        max_clips: clips in a shard.
        max_bytes: a shard is closed when it has grown to this size.
        crf: quality of the videos, x264's constant rate factor; 17 is visually lossless.

    Raises:
        UserError: a shard of that name exists already.
    """

    def __init__(
        self,
        folder: str | Path,
        prefix: str = "clips",
        max_clips: int = 100,
        max_bytes: int = 1_000_000_000,
        crf: int = 17,
    ) -> None:
        if not 0 <= crf <= 51:
            raise UserError(f"crf must be from 0 to 51, got {crf}")
        self.paths: list[Path] = []
        self._folder, self._prefix = Path(folder), prefix
        self._max_clips, self._max_bytes, self._crf = max_clips, max_bytes, crf
        self._keys: set[str] = set()
        self._tar: TarWriter | None = None
        self._clips = self._bytes = 0

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tar is not None:
            self._close(kind, error, trace)

    def write(self, clip: Clip) -> None:
        """Add a clip to the current shard, or begin one.

        Raises:
            UserError: the clip cannot be stored, or another had the same key.
        """
        clip.check()
        if clip.key in self._keys:
            raise UserError(f"clip {clip.key!r} was written before; give every clip of a dataset its own key")
        members = encode_clip(clip, self._crf)
        if self._tar is None:
            self._open()
        self._tar.write({"__key__": clip.key, **members})
        self._keys.add(clip.key)
        self._clips += 1
        self._bytes += sum(map(len, members.values()))
        if self._clips >= self._max_clips or self._bytes >= self._max_bytes:
            self._close()

    def _open(self) -> None:
        path = self._folder / f"{self._prefix}-{len(self.paths):06d}.tar"
        if path.exists():
            raise UserError(f"{path} exists already; remove it or write to another folder")
        self._path, self._writing = path, whole(path)
        self._stream = self._writing.__enter__().open("wb")
        self._tar = open_tar(self._stream)

    def _close(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self._tar.close()
        self._stream.close()
        self._tar, self._clips, self._bytes = None, 0, 0
        self._writing.__exit__(kind, error, trace)
        if error is None:
            self.paths.append(self._path)


def open_tar(stream: BinaryIO) -> TarWriter:
    """A writer of clips, `{"__key__": key, **encode_clip(...)}` each; the same clips give the same bytes."""
    return TarWriter(stream, encoder=False, mtime=0, format="PAX_FORMAT")


def encode_clip(clip: Clip, crf: int) -> dict[str, bytes]:
    """The members of a clip in a shard, by extension."""
    info = ClipInfo.of(clip)
    members = {
        "json": info.to_json(),
        "left.mp4": encode_video(clip.left, clip.fps, crf),
        "right.mp4": encode_video(clip.right, clip.fps, crf),
    }
    if clip.disparity is None:
        holes = clip.hole[:, 0].byte() * 255
        return members | {
            "warped.mp4": encode_video(clip.warped, clip.fps, crf),
            "hole.zip": encode_planes(holes.numpy()),
        }
    units = (clip.disparity[:, 0].double() * info.disparity_scale).round().to(torch.uint16)
    return members | {"disparity.zip": encode_planes(units.numpy())}
