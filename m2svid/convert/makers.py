"""Makers of a film's windows: its depth, its warped view, or the stereo film.

Shapes: T frames of a window, V views that are made (1 or 2), H W pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
import torch
from av.video.reformatter import ColorRange
from torch import Tensor

from m2svid.comfort.profiles import LARGEST, Placement
from m2svid.convert.options import Options, StereoOptions
from m2svid.convert.report import Event
from m2svid.convert.stereo import RightView
from m2svid.depth.base import DepthEstimator
from m2svid.depth.shot import ShotDepth, to_disparity
from m2svid.errors import UserError
from m2svid.inference.inpainter import BackgroundFill, Inpainter
from m2svid.inference.memory import MemoryPlan
from m2svid.inference.windows import WITHOUT_MODEL, Window
from m2svid.video.colormap import colorize
from m2svid.video.hdr import from_view
from m2svid.video.info import VideoInfo
from m2svid.video.layouts import LAYOUTS, view_size
from m2svid.video.pictures import Composer, Pixels, shift, to_pixels, to_tensor
from m2svid.video.planes import PixelFormat, Plane, rgb_to_planes
from m2svid.video.read import Frame, Video
from m2svid.video.sliding import Sliding
from m2svid.video.write import Encoding
from m2svid.warping.edges import clean_edges
from m2svid.warping.view import warp_view

Pictures = Iterable[list[Plane]]


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
    def make(
        self, window: Window, frames: list[Frame], depth: ShotDepth | None, shared: Pixels | None
    ) -> tuple[dict[str, Pictures], Pixels | None]:
        """Make the pictures that a window emits.

        Args:
            window: says which frames.
            frames: all of its frames.
            depth: of its shot; None where `Maker.depth` is.
            shared: (V, K, H, W, 3), the first K frames as the window before made them.

        Returns:
            Name of a result -> its pictures; and (V, T, H, W, 3), all that was made, for the next window.
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

    def make(
        self, window: Window, frames: list[Frame], depth: ShotDepth | None, shared: Pixels | None
    ) -> tuple[dict[str, Pictures], None]:
        assert depth is not None  # given to `__init__`
        maps = depth.get(window.start, window.stop, [frame.rgb() for frame in frames])
        info = frames[0].info
        if info.picture is not None:
            size = self._encoding.width, self._encoding.height
            maps = info.picture.put(maps, *size, info.width, info.height)
        results: dict[str, Pictures] = {"depth": ([np.round(each * 65535).astype("<u2")] for each in maps)}
        if self._preview is not None:
            colored = colorize(torch.from_numpy(maps)[:, None], 0, 1, "turbo")
            results["preview"] = self._preview.right(to_pixels(colored, 8))
        return results, None


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
        return [_disparity(self._max_disparity)]

    def make(
        self, window: Window, frames: list[Frame], depth: ShotDepth | None, shared: Pixels | None
    ) -> tuple[dict[str, Pictures], None]:
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
        return {"warped": self._color(frames, pixels), "hole": ([mask] for mask in masks)}, None

    def _color(self, frames: list[Frame], pixels: Pixels) -> Iterator[list[Plane]]:
        color_range = ColorRange.JPEG if self._info.full_range else ColorRange.MPEG
        for frame, view in zip(frames, pixels, strict=True):
            rgb = from_view(frame.with_bars(view), self._info.color.transfer)
            yield rgb_to_planes(rgb, self._format, self._info.matrix, color_range)


class StereoMaker(Maker):
    """A stereo film, from warped views that the subclasses provide.

    Args:
        video: the film.
        options: of the stereo film.
        encoding: of its pictures; None = it is one picture.
        composer: puts the views together.
        inpainter: fills and repairs the warped views.

    Raises:
        UserError: the disparity is too large.
    """

    def __init__(
        self,
        video: Video,
        options: StereoOptions,
        encoding: Encoding | None,
        composer: Composer,
        inpainter: Inpainter,
    ) -> None:
        self._info, self._options, self._encoding, self._composer = video.info, options, encoding, composer
        self._bits: Literal[8, 16] = 8 if encoding is None or encoding.pixel_format.bits == 8 else 16
        fps = float(video.info.rate)
        self._right = RightView(inpainter, options.blend, options.match_color, fps, self._bits)
        self.window, self.overlap, self.memory = inpainter.window, inpainter.overlap, inpainter.memory

    @property
    def settings(self) -> dict[str, Any]:
        return super().settings | dict(self._right.inpainter.settings)

    def describe(self) -> list[Event]:
        layout, encoding = self._options.layout, self._encoding
        spherical = ", half spheres: both eyes are resampled" if LAYOUTS[layout].spherical else ""
        kind = f"{encoding.codec}, {encoding.pixel_format.name}" if encoding else "picture"
        events = [Event("output", f"output: {layout}, {kind}{spherical}")]
        if not LAYOUTS[layout].depth:
            events.insert(0, Event("refine", f"refine: {self._right.inpainter.description}"))
        warning = encoding and encoding.warning()
        if warning:
            events.append(Event("warning", f"warning: {warning}"))
        events += [Event("hdr", text) for text in self._hdr()]
        size = self._info.width, self._info.height
        padded = view_size(LAYOUTS[layout], encoding.pixel_format, *size) if encoding else size
        if padded != size and not spherical:
            text = (
                f"padding: each view from {size[0]}×{size[1]} to {padded[0]}×{padded[1]} by repeating its "
                "last column or row, as the encoder asks for even sizes"
            )
            events.append(Event("padding", text))
        return events

    def _hdr(self) -> list[str]:
        info, encoding = self._info, self._encoding
        if info.hdr is None:
            return []
        told = {"PQ": "is tone-mapped for depth and model, and mapped back", "HLG": "goes through as it is"}
        lines = [f"HDR: {info.hdr} {told[info.hdr]}"]
        if info.mastering and encoding and not info.mastering.parameters(encoding.codec):
            lines.append(f"HDR: {encoding.codec} has no place for the mastering display and light level")
        return lines + [f"HDR: {kind} of every picture is not taken over" for kind in info.dynamic]

    def make(
        self, window: Window, frames: list[Frame], depth: ShotDepth | None, shared: Pixels | None
    ) -> tuple[dict[str, Pictures], Pixels]:
        rgb = [frame.rgb(self._bits) for frame in frames]
        views = self._views(window, rgb, depth, shared)
        emitted = slice(window.emit_start - window.start, window.emit_stop - window.start)
        return self._pictures(frames[emitted], views[:, emitted], self._placement(depth).offset), views

    @abstractmethod
    def _views(
        self, window: Window, rgb: list[Pixels], depth: ShotDepth | None, shared: Pixels | None
    ) -> Pixels:
        """Make the views, (V, T, H, W, 3); arguments as of `make`, with the frames in RGB."""

    @abstractmethod
    def _placement(self, depth: ShotDepth | None) -> Placement:
        """Strength and screen plane of a shot, px."""

    def _pictures(self, frames: list[Frame], views: Pixels, parallax: float) -> dict[str, Pictures]:
        """Pictures of each file: the views, moved apart by a parallax, px, rounded."""
        offset = round(parallax)
        both = len(views) == 2
        right = shift(views[-1], offset - offset // 2 if both else offset)
        left = shift(views[0], -(offset // 2)) if both else None
        if frames[0].info.picture is not None:
            right = _with_bars(frames, right)
            left = None if left is None else _with_bars(frames, left)
        if self._options.layout == "pair":
            return {"left": self._composer.left(frames, left), "right": self._composer.right(right)}
        if self._options.layout == "right":
            return {"film": self._composer.right(right)}
        return {"film": self._composer.pictures(frames, left, right)}


class FromDepth(StereoMaker):
    """The stereo film of a film and its depth: all stages in one pass.

    Args:
        depth: of the film.
        options: of all stages.
        *rest: see `StereoMaker`.
    """

    def __init__(self, depth: DepthEstimator, options: Options, video: Video, *rest: Any) -> None:
        super().__init__(video, options, *rest)
        self.depth, self._both = depth, options.eyes == "both"
        self._clean_edges = options.clean_edges
        self.whole_shots = options.by_shot
        if options.max_disparity != "auto":
            options.disparity_px(video.info.width)  # checks it

    def describe(self) -> list[Event]:
        if LAYOUTS[self._options.layout].depth:
            return super().describe()
        chosen, width = self._options, self._info.width
        largest = LARGEST * width / 100 if chosen.max_disparity == "auto" else chosen.disparity_px(width)
        events = [_disparity(largest), *super().describe()]
        if self.whole_shots:
            fields = {"max_disparity": chosen.max_disparity, "convergence": chosen.convergence}
            text = ", ".join(f"{name} {value}" for name, value in fields.items())
            events.insert(1, Event("comfort", f"comfort: {text}, by shot for {chosen.profile}", fields))
        return events

    def _placement(self, depth: ShotDepth | None) -> Placement:
        if LAYOUTS[self._options.layout].depth:
            return Placement(0.0, 0.0)
        assert depth is not None  # given to `__init__`
        return self._options.placement(self._info.width, depth.spread if self.whole_shots else None)

    def _views(
        self, window: Window, rgb: list[Pixels], depth: ShotDepth | None, shared: Pixels | None
    ) -> Pixels:
        assert depth is not None  # given to `__init__`
        left = to_tensor(rgb)
        maps = depth.get(window.start, window.stop, rgb)
        if LAYOUTS[self._options.layout].depth:
            gray = to_disparity(maps, *left.shape[-2:], 1.0).clamp(0, 1)
            return to_pixels(gray.expand(-1, 3, -1, -1), self._bits)[None]
        share = 0.5 if self._both else 1.0
        disparity = to_disparity(maps, *left.shape[-2:], self._placement(depth).max_disparity * share)
        made = [None, None] if shared is None else [shared[0, :, :, ::-1], shared[-1]]
        views = [self._view(window, left, disparity, made[1])]
        if self._both:  # the left eye's view of a film is the right eye's of its mirror image
            mirrored = self._view(window, left.flip(-1), disparity.flip(-1), made[0])
            views.insert(0, mirrored[:, :, ::-1])
        return np.stack(views)

    def _view(self, window: Window, left: Tensor, disparity: Tensor, shared: Pixels | None) -> Pixels:
        model, strength = self._options.refine == "model", self._clean_edges
        inpainter, plain = self._right.inpainter, BackgroundFill()
        clean = clean_edges(disparity, 1.0 if strength is None else strength)
        warped, hole = inpainter.warp(left, disparity if model and strength is None else clean)
        outside = plain.warp(left, clean) if model and self._options.blend == "holes" else None
        return self._right(window, left, warped, hole, shared, outside)


class FromWarped(StereoMaker):
    """The stereo film of a film, its warped view and its holes: the last stage alone.

    Args:
        warped: view warped to the right eye, black in holes.
        hole: its holes, white.
        video: the film.
        *rest: see `StereoMaker`.

    Raises:
        UserError: a view has another size than the film.
    """

    def __init__(self, warped: Video, hole: Video, video: Video, *rest: Any) -> None:
        super().__init__(video, *rest)
        for name, view in (("warped", warped), ("hole", hole)):
            size, wanted = ((each.info.width, each.info.height) for each in (view, video))
            if size != wanted:
                raise UserError(
                    f"--{name} {view.path} is {size[0]}×{size[1]}, the film {wanted[0]}×{wanted[1]}"
                )
        if LAYOUTS[self._options.layout].depth:
            raise UserError(f"--layout {self._options.layout} holds depth: `convert` makes it")
        self._video = video
        self._warped, self._hole = (Sliding[Frame](view.frames) for view in (warped, hole))
        if self._options.by_shot:
            raise UserError("--max-disparity and --convergence of `refine` must be numbers: auto needs depth")
        self._placed = self._options.placement(self._info.width)

    def _placement(self, depth: ShotDepth | None) -> Placement:
        return self._placed

    def _views(
        self, window: Window, rgb: list[Pixels], depth: ShotDepth | None, shared: Pixels | None
    ) -> Pixels:
        warped = self._read(self._warped, window, self._bits)
        hole = self._read(self._hole, window, 8)[:, :1] > 127
        made = None if shared is None else shared[-1]
        return self._right(window, to_tensor(rgb), warped, hole, made)[None]

    def _read(self, view: Sliding[Frame], window: Window, bits: int) -> Tensor:
        found = view.get(window.start, window.stop)
        if len(found) < window.num_frames:
            raise UserError(f"a view given to `refine` ends after {window.start + len(found)} frames")
        picture = self._video.info.picture
        inside = picture.inside if picture else ...
        return to_tensor([frame.rgb(bits)[inside] for frame in found])


def _with_bars(frames: list[Frame], views: Pixels) -> Pixels:
    return np.stack([frame.with_bars(view) for frame, view in zip(frames, views, strict=True)])


def _disparity(largest: float) -> Event:
    return Event("disparity", f"disparity: 0 to {largest:g} px", {"max_disparity": largest})
