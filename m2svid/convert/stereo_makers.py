"""Makers of a stereo film's windows, from depth or from warped views.

Shapes: T frames of a window, V views that are made (1 or 2), H W pixels.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import numpy as np
from torch import Tensor

from m2svid.comfort.profiles import LARGEST, Placement
from m2svid.convert.makers import Maker, Pictures, told_disparity
from m2svid.convert.report import Event
from m2svid.convert.stereo import RightView
from m2svid.convert.stereo_options import Options, StereoOptions
from m2svid.depth.base import DepthEstimator
from m2svid.depth.shot import ShotDepth, to_disparity
from m2svid.errors import UserError
from m2svid.inference.inpainter import BackgroundFill, Inpainter
from m2svid.inference.windows import Window
from m2svid.video.layouts import LAYOUTS, view_size
from m2svid.video.pictures import Composer, Pixels, shift, to_pixels, to_tensor
from m2svid.video.read import Frame, Video
from m2svid.video.sliding import Sliding
from m2svid.video.write import Encoding
from m2svid.warping.edges import clean_edges


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
        events = [told_disparity(largest), *super().describe()]
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
        as_trained = model and strength is None
        clean = disparity
        if not as_trained or self._options.blend == "holes":
            clean = clean_edges(disparity, 1.0 if strength is None else strength)
        warped, hole = self._right.inpainter.warp(left, disparity if as_trained else clean)
        outside = BackgroundFill().warp(left, clean) if model and self._options.blend == "holes" else None
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
