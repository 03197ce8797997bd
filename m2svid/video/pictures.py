"""From the refined views of a window to pictures in the chosen layout.

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from av.video.reformatter import ColorRange
from torch import Tensor

from m2svid.video.anaglyph import Method, anaglyph
from m2svid.video.hdr import Pixels, from_view
from m2svid.video.info import VideoInfo
from m2svid.video.layouts import Layout, arrange
from m2svid.video.planes import PixelFormat, Plane, rgb_to_planes
from m2svid.video.read import Frame


def to_tensor(rgb: Sequence[Pixels]) -> Tensor:
    """Frames (H, W, 3) -> (T, 3, H, W): uint8 stays uint8, uint16 becomes float in [0, 1]."""
    return _unit(np.stack([picture.transpose(2, 0, 1) for picture in rgb]))


def frame_tensor(rgb: Pixels) -> Tensor:
    """A frame (H, W, 3) -> (1, 3, H, W) as `to_tensor` gives it, 8 bits in the same memory."""
    return _unit(rgb.transpose(2, 0, 1)[None])


def _unit(video: Pixels) -> Tensor:
    return torch.from_numpy(video if video.dtype == np.uint8 else video.astype(np.float32) / 65535)


def to_pixels(video: Tensor, bits: int) -> Pixels:
    """(T, 3, H, W), uint8 or float in [0, 1] -> (T, H, W, 3), uint8, or uint16 of full scale.

    The memory is arranged as it was: bytes on the CPU are not copied.
    """
    if video.is_floating_point():
        levels = 255 if bits == 8 else 65535
        video = (video.clamp(0, 1) * levels).round()
    pixels = video.cpu().permute(0, 2, 3, 1).numpy()
    return pixels.astype(np.uint8 if bits == 8 else np.uint16) if video.is_floating_point() else pixels


def shift(rgb: Pixels, columns: int) -> Pixels:
    """A picture (H, W, 3) moved to the right by whole pixels (to the left if negative), black where freed."""
    if columns == 0:
        return rgb
    moved = np.zeros_like(rgb)
    if columns > 0:
        moved[:, columns:] = rgb[:, :-columns]
    else:
        moved[:, :columns] = rgb[:, -columns:]
    return moved


@dataclass(frozen=True)
class Composer:
    """Put the views of a window together.

    Attributes:
        layout: of the pictures.
        pixel_format: of the pictures; None for RGB planes, as picture files take them.
        info: of the source, with the colours of the pictures.
        method: of anaglyphs.
        project: applied to each view first; None = the source's samples are taken as they are.
    """

    layout: Layout
    pixel_format: PixelFormat | None
    info: VideoInfo
    method: Method
    project: Callable[[Pixels], Pixels] | None = None

    def picture(self, frame: Frame, left: Pixels | None, right: Pixels) -> list[Plane]:
        """The picture of both views.

        Args:
            frame: of the source; it is the left view where `left` is None, its samples untouched.
            left: (H, W, 3), a left view that was made.
            right: (H, W, 3).
        """
        if not self.layout.mixed and self.project is None:
            return self._arrange([self._left(frame, left), self._planes(right)])
        bits = 8 if right.dtype == np.uint8 else 16
        views = [frame.rgb(bits, whole=True) if left is None else left, right]
        changed = [self._anaglyph(*views)] if self.project is None else map(self.project, views)
        return self._arrange([self._planes(view) for view in changed])

    def left(self, frame: Frame, left: Pixels | None) -> list[Plane]:
        """The picture of the left view alone; arguments as above."""
        return self._arrange([self._left(frame, left)])

    def right(self, right: Pixels) -> list[Plane]:
        """The picture of the right view alone, (H, W, 3)."""
        return self._arrange([self._planes(right)])

    def _left(self, frame: Frame, made: Pixels | None) -> list[Plane]:
        if made is not None:
            return self._planes(made)
        if self.pixel_format is None:
            return self._planes(frame.rgb(whole=True))
        return frame.planes(self.pixel_format, self.info.full_range)

    def _arrange(self, views: list[list[Plane]]) -> list[Plane]:
        return arrange(views, self.layout, self.pixel_format or PixelFormat("444", 8))

    def _planes(self, rgb: Pixels) -> list[Plane]:
        if self.pixel_format is None:
            return list(np.ascontiguousarray(rgb.transpose(2, 0, 1)))
        color_range = ColorRange.JPEG if self.info.full_range else ColorRange.MPEG
        rgb = from_view(rgb, self.info.color.transfer)
        return rgb_to_planes(rgb, self.pixel_format, self.info.matrix, color_range)

    def _anaglyph(self, left: Pixels, right: Pixels) -> Pixels:
        scale = np.iinfo(right.dtype).max
        views = [torch.from_numpy(view.astype(np.float32) / scale).permute(2, 0, 1) for view in (left, right)]
        mixed = anaglyph(*views, method=self.method)
        return to_pixels(mixed[None], 8 if right.dtype == np.uint8 else 16)[0]
