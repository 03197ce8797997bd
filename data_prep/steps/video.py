"""Frames with both views in one picture.

Shapes: H W pixels of one view.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import cv2
import numpy as np

from m2svid.errors import UserError
from m2svid.video.planes import interleaved

Layout = Literal["side-by-side", "top-bottom"]
Pair = tuple[np.ndarray, np.ndarray]
"""Left and right view of one moment, (H, W, 3) uint8 RGB each."""


def split_views(frame: np.ndarray, layout: Layout) -> Pair:
    """Halves of a frame (H, 2·W, 3) or (2·H, W, 3): left and right, or top and bottom.

    Raises:
        UserError: the frame can't be halved.
    """
    axis, name = (1, "width") if layout == "side-by-side" else (0, "height")
    length = frame.shape[axis]
    if length % 2:
        raise UserError(f"a {layout} frame has two equal halves, but its {name} is {length} px")
    first, second = np.split(frame, 2, axis)
    return first, second


def resize_view(view: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize (H, W, 3) to (width, height): pixels are averaged where it shrinks, cubic where it grows.

    OpenCV's INTER_AREA would repeat pixels in the direction that grows, as half-width films do.
    """
    height, width = view.shape[:2]
    smaller = min(width, size[0]), min(height, size[1])
    if smaller != (width, height):
        view = cv2.resize(interleaved(view), smaller, interpolation=cv2.INTER_AREA)
    return view if smaller == size else cv2.resize(view, size, interpolation=cv2.INTER_CUBIC)


def split_evenly(num_frames: int, target: float) -> list[int]:
    """Lengths of clips that together use every frame, each as near to `target` frames as that allows."""
    count = max(1, round(num_frames / target))
    edges = [num_frames * index // count for index in range(count + 1)]
    return [end - begin for begin, end in pairwise(edges)]


def gray(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (H, W) uint8."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
