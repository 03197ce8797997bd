"""Makers of a film's windows: its depth, and its warped view; `stereo_makers` has the stereo film.

Shapes: T frames of a window, V views that are made (1 or 2), H W pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

from m2svid.convert.report import Event
from m2svid.depth.base import DepthEstimator
from m2svid.depth.shot import ShotDepth, to_disparity
from m2svid.inference.memory import MemoryPlan
from m2svid.inference.windows import WITHOUT_MODEL, Window
from m2svid.video.colormap import colorize
from m2svid.video.hdr import from_view
from m2svid.video.info import VideoInfo
from m2svid.video.pictures import Composer, Pixels, to_pixels, to_tensor
from m2svid.video.planes import PixelFormat, Plane, rgb_to_planes
from m2svid.video.read import Frame
from m2svid.video.write import Encoding
from m2svid.warping.edges import clean_edges
from m2svid.warping.view import warp_view

Pictures = Iterable[dict[str, list[Plane]]]
"""Frame by frame: name of a result -> its picture."""


class Maker(ABC):
    """Make the results of one window after the other, on one device.

    Attributes:
        window: frames of a window.
        overlap: frames that neighbouring windows of a shot share.
        depth: of the film; None = it needs none.
        memory: plan of its model; None = it has none.
        whole_shots: True where all depth of a shot must be known before its first window.
        settings: choices that change the results, apart from the user's options.
    """

    window: int = WITHOUT_MODEL
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
    def prepare(self, window: Window, frames: list[Frame], depth: ShotDepth | None) -> Any:
        """Do what needs neither the model nor the window before: it overlaps with the making of that.

        Args:
            window: says which frames.
            frames: all of its frames.
            depth: of its shot; None where `Maker.depth` is.

        Returns:
            What `make` takes.
        """

    @abstractmethod
    def make(self, window: Window, prepared: Any, shared: Pixels | None) -> tuple[Pictures, Pixels | None]:
        """Make the pictures that a window emits.

        Args:
            window: says which frames.
            prepared: of the window.
            shared: (V, K, H, W, 3), the first K frames as the window before made them.

        Returns:
            The pictures, which may be made as they are asked for; and (V, T, H, W, 3), all that was made, for
            the next window.
        """


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

    def prepare(self, window: Window, frames: list[Frame], depth: ShotDepth | None) -> NDArray[np.float32]:
        assert depth is not None  # given to `__init__`
        maps, info = depth.get(window.start, window.stop, [frame.rgb() for frame in frames]), frames[0].info
        if info.picture is None:
            return maps
        return info.picture.put(maps, self._encoding.width, self._encoding.height, info.width, info.height)

    def make(
        self, window: Window, prepared: NDArray[np.float32], shared: Pixels | None
    ) -> tuple[Pictures, None]:
        return map(self._picture, prepared), None

    def _picture(self, depth: NDArray[np.float32]) -> dict[str, list[Plane]]:
        """(h, w) in [0, 1]."""
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

    def prepare(
        self, window: Window, frames: list[Frame], depth: ShotDepth | None
    ) -> tuple[list[Frame], Pixels, NDArray[np.uint8]]:
        assert depth is not None  # given to `__init__`
        rgb = [frame.rgb(self._info.pixel_format.bits) for frame in frames]
        left = to_tensor(rgb)
        maps = depth.get(window.start, window.stop, rgb)
        disparity = to_disparity(maps, *left.shape[-2:], self._max_disparity)
        warped, hole = warp_view(left, clean_edges(disparity, self._strength))
        pixels = to_pixels(warped, 8 if rgb[0].dtype == np.uint8 else 16)
        masks = np.zeros((len(frames), self._info.height, self._info.width), np.uint8)
        picture = frames[0].info.picture
        masks[:, *(picture.inside if picture else ())] = hole[:, 0].numpy() * np.uint8(255)
        return frames, pixels, masks

    def make(
        self, window: Window, prepared: tuple[list[Frame], Pixels, NDArray[np.uint8]], shared: Pixels | None
    ) -> tuple[Pictures, None]:
        return map(self._picture, *prepared), None

    def _picture(self, frame: Frame, view: Pixels, mask: NDArray[np.uint8]) -> dict[str, list[Plane]]:
        color_range = ColorRange.JPEG if self._info.full_range else ColorRange.MPEG
        rgb = from_view(frame.with_bars(view), self._info.color.transfer)
        return {"warped": rgb_to_planes(rgb, self._format, self._info.matrix, color_range), "hole": [mask]}


def told_disparity(largest: float) -> Event:
    """Tell how far the nearest point is shifted, px."""
    return Event("disparity", f"disparity: 0 to {largest:g} px", {"max_disparity": largest})
