"""Makers of a film's windows: its depth, and its warped view; `stereo_makers` has the stereo film.

Shapes: T frames of a window, V views that are made (1 or 2), H W pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

from m2svid.convert.report import Event
from m2svid.depth.base import DepthEstimator
from m2svid.depth.shot import ShotDepth, to_disparity
from m2svid.inference.memory import MemoryPlan
from m2svid.inference.windows import Window
from m2svid.video.colormap import colorize
from m2svid.video.hdr import from_view
from m2svid.video.info import VideoInfo
from m2svid.video.pictures import Composer, Pixels, to_pixels, to_tensor
from m2svid.video.planes import PixelFormat, Plane, rgb_to_planes
from m2svid.video.read import Frame
from m2svid.video.write import Encoding
from m2svid.warping.edges import clean_edges
from m2svid.warping.view import warp_view

Pictures = dict[str, list[Plane]]
"""Of a frame: name of a result -> its picture."""


class Maker(ABC):
    """Make the results of one window after the other, on one device.

    Attributes:
        together: True where the frames of a window are made together, by `prepare` and `make`; False where
            each is made alone, by `task`.
        window: frames of a window.
        overlap: frames that neighbouring windows of a shot share; 0 where they are not made together.
        depth: of the film; None = it needs none.
        memory: plan of its model; None = it has none.
        whole_shots: True where all depth of a shot must be known before its first window.
        settings: choices that change the results, apart from the user's options.
    """

    together: bool = False
    window: int = 16
    overlap: int = 0
    depth: DepthEstimator | None = None
    memory: MemoryPlan | None = None
    whole_shots: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        return {} if self.depth is None else dict(self.depth.settings)

    @abstractmethod
    def describe(self) -> list[Event]:
        """Events that tell the user about the work ahead."""

    @abstractmethod
    def task(self, window: Window, frame: Frame, depth: ShotDepth | None) -> Callable[[], Pictures]:
        """Read what the pictures of a frame are made from; called for one frame after the other.

        Args:
            window: that it belongs to.
            frame: of the film.
            depth: of its shot; None where `Maker.depth` is.

        Returns:
            The making of the pictures, which any thread may call.
        """

    def prepare(self, window: Window, frames: list[Frame], depth: ShotDepth | None) -> Any:
        """Do what needs neither the model nor the window before: it overlaps with the making of that.

        Args:
            window: says which frames.
            frames: all of its frames.
            depth: of its shot; None where `Maker.depth` is.

        Returns:
            What `make` takes.
        """
        raise NotImplementedError  # called where frames are made together

    def make(self, window: Window, prepared: Any, shared: Pixels | None) -> tuple[Iterable[Pictures], Pixels]:
        """Make the pictures that a window emits.

        Args:
            window: says which frames.
            prepared: of the window.
            shared: (V, K, H, W, 3), the first K frames as the window before made them.

        Returns:
            The pictures frame by frame, which may be made as they are asked for; and (V, T, H, W, 3), all
            that was made, for the next window.
        """
        raise NotImplementedError  # called where frames are made together


class DepthMaker(Maker):
    """Depth as a gray video, and in colours to look at.

    Args:
        depth: of the film.
        encoding: of the gray video.
        preview: puts the coloured pictures together; None = they are not made.
    """

    def __init__(self, depth: DepthEstimator, encoding: Encoding, preview: Composer | None) -> None:
        self.depth, self._encoding, self._preview = depth, encoding, preview

    def describe(self) -> list[Event]:
        return []

    def task(self, window: Window, frame: Frame, depth: ShotDepth | None) -> Callable[[], Pictures]:
        assert depth is not None  # given to `__init__`
        return partial(self._pictures, frame.info, depth.of([frame])[0])

    def _pictures(self, info: VideoInfo, depth: NDArray[np.float32]) -> Pictures:
        """(h, w) in [0, 1], inside of black bars."""
        if info.picture is not None:
            encoding = self._encoding
            depth = info.picture.put(depth[None], encoding.width, encoding.height, info.width, info.height)[0]
        pictures = {"depth": [np.round(depth * 65535).astype("<u2")]}
        if self._preview is not None:
            colored = colorize(torch.from_numpy(depth)[None, None], 0, 1, "turbo")
            pictures["preview"] = self._preview.right(to_pixels(colored, 8)[0])
        return pictures


class WarpMaker(Maker):
    """The view warped to the right eye, and its holes.

    Args:
        info: of the film.
        depth: of the film.
        max_disparity: where the depth is 1, px.
        pixel_format: of the warped view.
        strength: of `clean_edges`.
    """

    def __init__(
        self,
        info: VideoInfo,
        depth: DepthEstimator,
        max_disparity: float,
        pixel_format: PixelFormat,
        strength: float,
    ) -> None:
        self.depth, self._strength = depth, strength
        self._info, self._max_disparity, self._format = info, max_disparity, pixel_format

    def describe(self) -> list[Event]:
        return [told_disparity(self._max_disparity)]

    def task(self, window: Window, frame: Frame, depth: ShotDepth | None) -> Callable[[], Pictures]:
        assert depth is not None  # given to `__init__`
        return partial(self._pictures, frame, depth.of([frame])[0])

    def _pictures(self, frame: Frame, depth: NDArray[np.float32]) -> Pictures:
        """(h, w) in [0, 1], inside of black bars."""
        left = to_tensor([frame.rgb(self._info.pixel_format.bits)])
        disparity = to_disparity(depth[None], *left.shape[-2:], self._max_disparity)
        warped, hole = warp_view(left, clean_edges(disparity, self._strength))
        view = to_pixels(warped, 16 if left.is_floating_point() else 8)[0]
        mask, picture = np.zeros((self._info.height, self._info.width), np.uint8), frame.info.picture
        mask[picture.inside if picture else ...] = hole[0, 0].numpy() * np.uint8(255)
        color_range = ColorRange.JPEG if self._info.full_range else ColorRange.MPEG
        rgb = from_view(frame.with_bars(view), self._info.color.transfer)
        return {"warped": rgb_to_planes(rgb, self._format, self._info.matrix, color_range), "hole": [mask]}


def told_disparity(largest: float) -> Event:
    """Tell how far the nearest point is shifted, px."""
    return Event("disparity", f"disparity: 0 to {largest:g} px", {"max_disparity": largest})
