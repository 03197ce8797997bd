"""Black bars around the picture, which are kept out of depth and model.

Shapes: T frames, H W pixels of a frame, h w of a depth map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

_BLACK = 12 / 255  # of the whole range, above black: what encoders leave of bars
_SMALLEST = 1 / 64  # of the frame's side, and
_FEWEST = 4  # px: a bar is at least so wide
_ALIKE = 0.02  # of the frame's side: both bars of a pair differ by no more
_EDGE = 0.6  # share of the picture's first row that must have been seen
_BLUR = 3  # px at the picture's edge
_PICTURE = 1 / 3  # of the frame's side: a picture is at least so wide


@dataclass(frozen=True)
class Box:
    """The picture inside of bars, in pixels of the frame as it is to be seen."""

    left: int
    top: int
    width: int
    height: int

    @property
    def inside(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def cut(self, maps: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
        """The part of maps (T, h, w) of whole frames, width × height px, that is the picture's."""
        h, w = maps.shape[1:]
        across, down = w / width, h / height  # of a pixel of the frame
        size = max(1, round(self.width * across)), max(1, round(self.height * down))
        x = (self.left + _centers(size[0]) * self.width) * across - 0.5
        y = (self.top + _centers(size[1]) * self.height) * down - 0.5
        return _sampled(maps, x, y)

    def put(self, maps: NDArray[np.float32], w: int, h: int, width: int, height: int) -> NDArray[np.float32]:
        """Maps (T, h, w) of whole frames, width × height px, from those of the picture; 0 in the bars."""
        x, y = _centers(w) * width - self.left, _centers(h) * height - self.top  # px of the picture
        rows, columns = maps.shape[1:]
        whole = _sampled(maps, x * columns / self.width - 0.5, y * rows / self.height - 0.5)
        inside = ((y >= 0) & (y <= self.height))[:, None] & ((x >= 0) & (x <= self.width))
        return whole * inside


def _centers(count: int) -> NDArray[np.float64]:
    return (np.arange(count) + 0.5) / count


def _sampled(
    maps: NDArray[np.float32], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float32]:
    columns, rows = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    edge = cv2.BORDER_REPLICATE
    return np.stack([cv2.remap(each, columns, rows, cv2.INTER_LINEAR, borderMode=edge) for each in maps])


class BarFinder:
    """Look at every frame of a film, then say where its bars are.

    Bars are what is black in every frame, alike on both sides, at an edge that the picture reaches in most of
    its length. A dark film, bars on one side and bars that come and go are none.
    """

    def __init__(self) -> None:
        self._brightest: NDArray[np.uint8] | NDArray[np.uint16] | None = None
        self._limit = 0.0

    def look(self, raw: av.VideoFrame) -> None:
        """See a frame as it is decoded."""
        planar = raw.format.name.startswith(("yuv", "gray"))
        full = raw.color_range == ColorRange.JPEG or raw.format.name.startswith("yuvj")
        if not planar:
            raw, full = raw.reformat(format="gray", dst_color_range=ColorRange.JPEG), True
        bits = raw.format.components[0].bits
        plane = raw.planes[0]
        samples = np.frombuffer(plane, np.uint8 if bits == 8 else np.uint16)
        luma = samples.reshape(plane.height, -1)[:, : plane.width]
        if self._brightest is None:
            levels = (1 << bits) - 1
            black = 0 if full else 16 << (bits - 8)
            self._brightest, self._limit = luma.copy(), black + _BLACK * levels
        else:
            np.maximum(self._brightest, luma, out=self._brightest)

    def find(self, orientation: Callable[[np.ndarray], np.ndarray]) -> Box | None:
        """The picture inside of bars; None = there are none that are certain.

        Args:
            orientation: turns decoded samples as they are to be seen.
        """
        assert self._brightest is not None  # a film has a frame
        seen = orientation(self._brightest > self._limit)
        if not seen.any():
            return None
        above, below = _pair(seen.any(1))
        left, right = _pair(seen.any(0))
        height, width = seen.shape
        inside = seen[above : height - below, left : width - right]
        if above and not _reaches_edges(inside):
            above = below = 0
        if left and not _reaches_edges(inside.T):
            left = right = 0
        if not (above or left):
            return None
        left, above = left - left % 2, above - above % 2  # no chroma sample belongs to both
        right, below = right - (width - right) % 2, below - (height - below) % 2
        return Box(left, above, width - left - right, height - above - below)


def _reaches_edges(inside: NDArray[np.bool_]) -> bool:
    """Tell whether most of the first and of the last row was seen, but for what encoders blur."""
    return all(rows.any(0).mean() >= _EDGE for rows in (inside[:_BLUR], inside[-_BLUR:]))


def _pair(seen: NDArray[np.bool_]) -> tuple[int, int]:
    """Bars before and after what was seen along a side; 0 where they are uncertain."""
    places = np.flatnonzero(seen)
    before, after = int(places[0]), len(seen) - 1 - int(places[-1])
    alike = abs(before - after) <= max(2, _ALIKE * len(seen))
    least = max(_FEWEST, _SMALLEST * len(seen))
    if not alike or min(before, after) < least or len(seen) - before - after < _PICTURE * len(seen):
        return 0, 0
    return before, after
