"""Stereo videos with both views in one frame, read as a stream.

Shapes: H W pixels of one view.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Literal

import av
import cv2
import numpy as np

from m2svid.errors import UserError

Layout = Literal["side-by-side", "top-bottom"]
Pair = tuple[np.ndarray, np.ndarray]
"""Left and right view of one moment, (H, W, 3) uint8 RGB each."""

_MISSING_FRAMES = (
    0.02  # a container may count a few frames that no player shows; more than that is a cut-off file
)


@dataclass(frozen=True)
class StereoVideo:
    """A video file whose frames hold two views.

    Attributes:
        path: the file.
        layout: left view left and right view right, or left view above right view.
        swap_eyes: the other way round.
        size: (width, height) to which a view is resized; undoes the squeeze of half-width videos.
    """

    path: Path
    layout: Layout
    swap_eyes: bool = False
    size: tuple[int, int] | None = None

    def frames(self) -> Iterator[Pair]:
        """The views, one moment after the other; one frame is in memory at a time.

        Raises:
            UserError: no video, undecodable, or cut off, naming the file.
        """
        for frame in self._decode():
            yield self._views(frame)

    def survey(self, count: int) -> Survey:
        """Decodes the whole file once: its length, and `count` to 2·`count` pairs evenly spread over it."""
        kept: list[av.VideoFrame] = []
        stride, length = 1, 0
        for length, frame in enumerate(self._decode(), 1):
            if (length - 1) % stride == 0:
                kept.append(frame)
            if len(kept) == 2 * count:
                kept, stride = kept[::2], 2 * stride
        if not kept:
            raise UserError(f"{self.path}: the video has no frames")
        return Survey(length, self._fps(), [self._views(frame) for frame in kept])

    def _decode(self) -> Iterator[av.VideoFrame]:
        try:
            with av.open(str(self.path)) as container:
                stream = self._stream(container)
                stream.thread_type = "AUTO"
                stream.codec_context.options = {"err_detect": "explode"}
                length = 0
                for frame in container.decode(stream):
                    yield frame
                    length += 1
                if length < stream.frames * (1 - _MISSING_FRAMES):
                    raise UserError(
                        f"{self.path}: only {length} of {stream.frames} frames are there; the file is cut off"
                    )
        except av.FFmpegError as error:
            raise UserError(f"{self.path}: cannot be read as a video ({error.strerror})") from error

    def _stream(self, container: av.container.InputContainer) -> av.VideoStream:
        if not container.streams.video:
            raise UserError(f"{self.path}: there is no video in this file")
        return container.streams.video[0]

    def _fps(self) -> Fraction:
        with av.open(str(self.path)) as container:
            fps = self._stream(container).average_rate
        if not fps:
            raise UserError(
                f"{self.path}: the frame rate is unknown; give the file one, for example with ffmpeg -r"
            )
        return Fraction(fps)

    def _views(self, frame: av.VideoFrame) -> Pair:
        first, second = self._halves(frame.to_ndarray(format="rgb24"))
        if self.size is not None:
            first, second = (
                cv2.resize(view, self.size, interpolation=cv2.INTER_AREA) for view in (first, second)
            )
        return (second, first) if self.swap_eyes else (first, second)

    def _halves(self, frame: np.ndarray) -> Pair:
        axis, name = (1, "width") if self.layout == "side-by-side" else (0, "height")
        length = frame.shape[axis]
        if length % 2:
            raise UserError(
                f"{self.path}: a {self.layout} frame has two equal halves, but its {name} is {length} px"
            )
        first, second = np.split(frame, 2, axis)
        return first, second


@dataclass(frozen=True)
class Survey:
    """What is known of a video before its clips are made.

    Attributes:
        num_frames: length.
        fps: exact frame rate.
        pairs: some moments, evenly spread.
    """

    num_frames: int
    fps: Fraction
    pairs: list[Pair]


def split_evenly(num_frames: int, target: float) -> list[int]:
    """Lengths of clips that together use every frame, each as near to `target` frames as that allows."""
    count = max(1, round(num_frames / target))
    edges = [num_frames * index // count for index in range(count + 1)]
    return [end - begin for begin, end in pairwise(edges)]


def gray(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (H, W) uint8."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
