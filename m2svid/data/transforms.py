"""What a sample shows of a clip: which frames, at which rate, and which part of the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import NoReturn

import numpy as np

from m2svid.data.buckets import Bucket
from m2svid.data.clips import ClipReader, Region
from m2svid.data.samples import Sample, make_sample
from m2svid.data.shards import ClipInfo
from m2svid.errors import UserError


@dataclass(frozen=True)
class Augmentation:
    """The random choices of a training sample (REFERENCE §6).

    The largest part of the frame with the bucket's aspect ratio is cropped at a random place, and of that a
    random part, which is resized to the bucket's size; all views get the same crop.

    Attributes:
        fps: lowest and highest frame rate, drawn in whole frames per second; no higher than the clip's own,
            and only rates at which the clip is long enough.
        scale: smallest and largest area of the random part, as a share of the first crop.
        ratio: smallest and largest aspect ratio of the random part, relative to the bucket's.
    """

    fps: tuple[int, int] = (5, 30)
    scale: tuple[float, float] = (0.3, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        if not 1 <= self.fps[0] <= self.fps[1]:
            raise UserError(f"augmentation option fps must be 1 <= low <= high, got {self.fps}")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise UserError(f"augmentation option scale must be 0 < low <= high <= 1, got {self.scale}")
        if not 0 < self.ratio[0] <= 1 <= self.ratio[1]:
            raise UserError(f"augmentation option ratio must be low <= 1 <= high, got {self.ratio}")

    def __call__(
        self, reader: ClipReader, bucket: Bucket, random: np.random.Generator, warp: bool = True
    ) -> Sample:
        """A random sample of the bucket's size; a ValueError where the clip is too short.

        Args:
            reader: the clip.
            bucket: the size.
            random: of all choices.
            warp: see `make_sample`.
        """
        info = reader.info
        indices, fps = self.draw_frames(info, bucket.frames, random)
        size = (bucket.height, bucket.width)
        region = self._draw_part(_draw_crop((info.height, info.width), size, random), random)
        return make_sample(reader, indices, fps, region, size, warp=warp)

    def draw_frames(
        self, info: ClipInfo, frames: int, random: np.random.Generator
    ) -> tuple[list[int], Fraction]:
        """Random frames of a clip, and their frame rate; a ValueError where the clip is too short."""
        fps = self._draw_fps(info, frames, random)
        last_start = info.num_frames - frame_span(info.fps, fps, frames)
        return frame_indices(info.fps, fps, frames, int(random.integers(last_start + 1))), fps

    def _draw_fps(self, info: ClipInfo, frames: int, random: np.random.Generator) -> Fraction:
        low, high = self.fps
        rates = sorted({min(Fraction(rate), info.fps) for rate in range(low, high + 1)})
        fitting = [rate for rate in rates if frame_span(info.fps, rate, frames) <= info.num_frames]
        if not fitting:
            _refuse_short(info, rates[-1], frames)
        return fitting[random.integers(len(fitting))]

    def _draw_part(self, crop: Region, random: np.random.Generator) -> Region:
        scale = random.uniform(*self.scale)
        # Ratios beyond scale and 1/scale would stick out of the crop.
        low, high = max(self.ratio[0], scale), min(self.ratio[1], 1 / scale)
        ratio = math.exp(random.uniform(math.log(low), math.log(high)))
        height = _whole(crop.height * math.sqrt(scale / ratio), crop.height)
        width = _whole(crop.width * math.sqrt(scale * ratio), crop.width)
        return _place((height, width), crop, random)


def _draw_crop(frame: tuple[int, int], size: tuple[int, int], random: np.random.Generator) -> Region:
    return _place(_largest(frame, size), Region(0, 0, *frame), random)


def _place(size: tuple[int, int], outer: Region, random: np.random.Generator) -> Region:
    top = outer.top + int(random.integers(outer.height - size[0] + 1))
    left = outer.left + int(random.integers(outer.width - size[1] + 1))
    return Region(top, left, *size)


def _largest(frame: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the largest part of a frame with the aspect ratio of `size`."""
    scale = min(frame[0] / size[0], frame[1] / size[1])
    return _whole(size[0] * scale, frame[0]), _whole(size[1] * scale, frame[1])


def _whole(length: float, limit: int) -> int:
    return min(max(round(length), 1), limit)


@dataclass(frozen=True)
class EvalClip:
    """The part of a clip that is evaluated (REFERENCE §7): its first frames, the largest square in its
    middle.

    Attributes:
        frames: frames of the sample.
        fps: frame rate of the sample; null is the clip's own.
        size: height and width of the sample, pixels.
        batch_size: clips in a batch.
    """

    frames: int = 16
    fps: float | None = 5.0
    size: int = 512
    batch_size: int = 1

    def __post_init__(self) -> None:
        for name in ("frames", "size", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"evaluation option {name} must be at least 1, got {getattr(self, name)}")
        if self.fps is not None and self.fps <= 0:
            raise UserError(f"evaluation option fps must be positive or null, got {self.fps}")

    def __call__(self, reader: ClipReader, truth: bool = True) -> Sample:
        """The sample, with the right view if `truth`; a ValueError if the clip is too short or too slow."""
        info = reader.info
        fps = info.fps if self.fps is None else Fraction(str(self.fps))
        if fps > info.fps:
            raise ValueError(f"too slow: {float(fps):g} fps wanted, it has {float(info.fps):g}")
        if frame_span(info.fps, fps, self.frames) > info.num_frames:
            _refuse_short(info, fps, self.frames)
        size = (self.size, self.size)
        height, width = _largest((info.height, info.width), size)
        region = Region((info.height - height) // 2, (info.width - width) // 2, height, width)
        indices = frame_indices(info.fps, fps, self.frames, 0)
        return make_sample(reader, indices, fps, region, size, truth, keep_original=truth)


def frame_indices(clip_fps: Fraction, fps: Fraction, frames: int, start: int) -> list[int]:
    """The clip's frames nearest to `frames` moments 1/fps apart; exact, so nothing drifts.

    Args:
        clip_fps: the clip's frame rate.
        fps: wanted, <= clip_fps.
        frames: how many.
        start: first frame.
    """
    stride = clip_fps / fps
    return [start + math.floor(i * stride + Fraction(1, 2)) for i in range(frames)]


def frame_span(clip_fps: Fraction, fps: Fraction, frames: int) -> int:
    """The number of frames of the clip that `frame_indices` spans."""
    return frame_indices(clip_fps, fps, frames, 0)[-1] + 1


def _refuse_short(info: ClipInfo, fps: Fraction, frames: int) -> NoReturn:
    needed = frame_span(info.fps, fps, frames)
    wanted = f"{frames} frames at {float(fps):g} fps"
    raise ValueError(f"too short: {wanted} need {needed} of its frames, it has {info.num_frames}")
