"""Clips read back from a shard, frame by frame.

Shapes: T frames, H W pixels, h w of a region.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import av
import cv2
import numpy as np
import torch
from torch import Tensor

from m2svid.data.codec import PlaneDecoder, VideoDecoder
from m2svid.data.shards import ClipInfo
from m2svid.errors import UserError

# Everything that undecodable bytes have been seen to raise in FFmpeg, OpenCV, zipfile and json.
_DECODING_ERRORS = (
    av.FFmpegError,
    cv2.error,
    zipfile.BadZipFile,
    zlib.error,
    ValueError,
    KeyError,
    IndexError,
    OSError,
)


class BrokenClipError(UserError):
    """A clip or a shard that cannot be read: names the shard, the clip and the cause."""


@dataclass(frozen=True)
class RawClip:
    """A clip as it stands in its shard, nothing decoded.

    Attributes:
        url: the shard.
        key: the clip's name in the shard.
        members: bytes by extension, such as "left.mp4".
    """

    url: str
    key: str
    members: dict[str, bytes]

    @contextmanager
    def naming_errors(self) -> Iterator[None]:
        """Turn errors inside the block into a BrokenClipError with this clip's name."""
        try:
            yield
        except _DECODING_ERRORS as error:
            raise BrokenClipError(f"{self.url}: clip {self.key}: {_sentence(error)}") from error


def _sentence(error: Exception) -> str:
    """The first line, since some libraries add where in their source it was."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@dataclass(frozen=True)
class Region:
    """A rectangle of a frame, in pixels.

    Attributes:
        top: first row.
        left: first column.
        height: rows.
        width: columns.
    """

    top: int
    left: int
    height: int
    width: int

    def of(self, frames: Tensor) -> Tensor:
        """(..., H, W) -> (..., height, width), a view."""
        return frames[..., self.top : self.top + self.height, self.left : self.left + self.width]

    def grown(self, margin: int, right: int, frame: tuple[int, int]) -> Region:
        """Larger by `margin` on every side and by `right` more on the right, within a frame of (H, W)."""
        top, left = max(self.top - margin, 0), max(self.left - margin, 0)
        bottom = min(self.top + self.height + margin, frame[0])
        end = min(self.left + self.width + margin + right, frame[1])
        return Region(top, left, bottom - top, end - left)

    def within(self, outer: Region) -> Region:
        """The same rectangle, counted from the corner of a larger one."""
        return Region(self.top - outer.top, self.left - outer.left, self.height, self.width)


class ClipReader:
    """Decode chosen frames of a clip.

    Args:
        raw: the clip.

    Raises:
        ValueError: a member is missing or does not fit the JSON.
    """

    def __init__(self, raw: RawClip) -> None:
        self._members = raw.members
        self.info = ClipInfo.from_json(self._member("json"))
        self.has_disparity = "disparity.zip" in raw.members
        if self.has_disparity and (self.info.disparity_scale is None or self.info.disparity_max is None):
            raise ValueError("the JSON has no field disparity_scale or disparity_max")

    def video(self, name: str, indices: Sequence[int]) -> Tensor:
        """(T, 3, H, W) uint8 frames of "left", "right" or "warped", with the channels last in memory."""
        decoder = VideoDecoder(self._member(f"{name}.mp4"))
        self._check_length(f"{name}.mp4", len(decoder))
        frames = decoder[indices]
        self._check_size(f"{name}.mp4", tuple(frames.shape[2:]))
        return frames

    def disparity(self, indices: Sequence[int], region: Region) -> Tensor:
        """(T, 1, h, w) float32 pixels."""
        units = self._planes("disparity.zip", indices, region, np.dtype(np.uint16))
        return units.to(torch.float32).div_(self.info.disparity_scale)

    def hole(self, indices: Sequence[int], region: Region) -> Tensor:
        """(T, 1, h, w) bool."""
        return self._planes("hole.zip", indices, region, np.dtype(np.uint8)) > 127

    def _planes(self, member: str, indices: Sequence[int], region: Region, dtype: np.dtype) -> Tensor:
        decoder = PlaneDecoder(self._member(member))
        self._check_length(member, len(decoder))
        planes = decoder[indices]
        for plane in planes:
            self._check_size(member, plane.shape)
            if plane.dtype != dtype:
                raise ValueError(f"{member} holds {plane.dtype} pictures, {dtype} expected")
        return torch.stack([region.of(torch.from_numpy(plane)) for plane in planes])[:, None]

    def _member(self, name: str) -> bytes:
        if name not in self._members:
            raise ValueError(f"it has no member {name}, only {', '.join(sorted(self._members))}")
        return self._members[name]

    def _check_length(self, member: str, num_frames: int) -> None:
        if num_frames != self.info.num_frames:
            raise ValueError(f"{member} has {num_frames} frames, its JSON says {self.info.num_frames}")

    def _check_size(self, member: str, size: tuple[int, ...]) -> None:
        height, width = self.info.height, self.info.width
        if size != (height, width):
            raise ValueError(f"{member} is {size[1]}×{size[0]} px, its JSON says {width}×{height}")
