"""Makers of a stereo film's windows, from depth or from warped views.

Shapes: T frames of a window, V views that are made (1 or 2), H W pixels.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m2svid.comfort.profiles import LARGEST, Placement
from m2svid.convert.makers import Maker, Pictures, told_disparity
from m2svid.convert.overlap import side_by_side
from m2svid.convert.report import Event
from m2svid.convert.stereo import RightView
from m2svid.convert.stereo_options import Options, StereoOptions
from m2svid.depth.base import DepthEstimator
from m2svid.depth.shot import ShotDepth, to_disparity
from m2svid.errors import UserError
from m2svid.inference.inpainter import BackgroundFill, Inpainter
from m2svid.inference.windows import Window
from m2svid.video.layouts import LAYOUTS, view_size
from m2svid.video.pictures import Composer, Pixels, frame_tensor, shift, to_pixels, to_tensor
from m2svid.video.read import Frame, Video
from m2svid.video.sliding import Sliding
from m2svid.video.write import Encoding
from m2svid.warping.edges import clean_edges

# Frames that are made alone are in windows only to be kept. Each window begins with a key frame, which is
# large and slow to encode, and the encoder may hold all of it.
_SHORTEST, _LONGEST = 16, 48  # frames
_KEPT = 200_000_000  # px


@dataclass(frozen=True)
class Eye:
    """What the inpainter makes a view from.

    Attributes:
        left: (T, 3, H, W), the view of the other eye, of which it is warped.
        warped: (T, 3, H, W).
        hole: (T, 1, H, W), as the inpainter takes it; None = what is warped is the view.
        outside: warped view and hole for what is kept outside holes; None = those above.
    """

    left: Tensor
    warped: Tensor
    hole: Tensor | None = None
    outside: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class Prepared:
    """A window before its views are made.

    Attributes:
        frames: T.
        eyes: what the views are made from.
        offset: of the screen plane, px.
    """

    frames: list[Frame]
    eyes: list[Eye]
    offset: float


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
        self.together, self.memory = inpainter.together, inpainter.memory
        self.window, self.overlap = inpainter.window, inpainter.overlap
        if not inpainter.together:
            size = encoding.width * encoding.height if encoding else _KEPT
            self.window = max(_SHORTEST, min(_KEPT // size, _LONGEST))

    @property
    def settings(self) -> dict[str, Any]:
        return super().settings | {"window": self.window} | dict(self._right.inpainter.settings)

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
        if info.mastering and encoding and not encoding.told_mastering():
            name = encoding.codec if encoding.encoder == "software" else encoding.encoder_name
            lines.append(f"HDR: {name} has no place for the mastering display and light level")
        return lines + [f"HDR: {kind} of every picture is not taken over" for kind in info.dynamic]

    def task(self, window: Window, frame: Frame, depth: ShotDepth | None) -> Callable[[], Pictures]:
        given, placement = self._given([frame], depth), self._placement(depth)

        def pictures() -> Pictures:
            eyes = self._eyes(frame_tensor(frame.rgb(self._bits)), given, placement)
            return self._pictures(frame, self._views(window, eyes, None)[:, 0], placement.offset)

        return pictures

    def prepare(self, window: Window, frames: list[Frame], depth: ShotDepth | None) -> Prepared:
        left = to_tensor([frame.rgb(self._bits) for frame in frames])
        given, placement = self._given(frames, depth), self._placement(depth)
        return Prepared(frames, self._eyes(left, given, placement), placement.offset)

    def make(
        self, window: Window, prepared: Prepared, shared: Pixels | None
    ) -> tuple[Iterable[Pictures], Pixels]:
        made = self._views(window, prepared.eyes, shared)

        def pictures(place: int) -> Pictures:
            return self._pictures(prepared.frames[place], made[:, place], prepared.offset)

        emitted = range(window.emit_start - window.start, window.emit_stop - window.start)
        return side_by_side(pictures, emitted, torch.get_num_threads()), made

    @abstractmethod
    def _given(self, frames: list[Frame], depth: ShotDepth | None) -> Any:
        """Read what the views of frames are made from, apart from the frames, in the order of the film."""

    @abstractmethod
    def _eyes(self, left: Tensor, given: Any, placement: Placement) -> list[Eye]:
        """The views to make of frames (T, 3, H, W) and what else is given."""

    @abstractmethod
    def _placement(self, depth: ShotDepth | None) -> Placement:
        """Strength and screen plane of a shot, px."""

    def _views(self, window: Window, eyes: list[Eye], shared: Pixels | None) -> Pixels:
        """(V, T, H, W, 3); the left eye's view is made as the right eye's of the mirror image."""
        views = []
        for place, eye in enumerate(eyes):
            mirrored = place < len(eyes) - 1
            before = None if shared is None else shared[place, :, :, ::-1] if mirrored else shared[place]
            if eye.hole is None:
                view = to_pixels(eye.warped, self._bits)
            else:
                view = self._right(window, eye.left, eye.warped, eye.hole, before, eye.outside)
            views.append(view[:, :, ::-1] if mirrored else view)
        return np.stack(views) if len(views) > 1 else views[0][None]

    def _pictures(self, frame: Frame, views: Pixels, parallax: float) -> Pictures:
        """Picture of each file: the views (V, H, W, 3), moved apart by a parallax, px, rounded."""
        offset = round(parallax)
        both = len(views) == 2
        right = frame.with_bars(shift(views[-1], offset - offset // 2 if both else offset))
        left = frame.with_bars(shift(views[0], -(offset // 2))) if both else None
        if self._options.layout == "pair":
            return {"left": self._composer.left(frame, left), "right": self._composer.right(right)}
        if self._options.layout == "right":
            return {"film": self._composer.right(right)}
        return {"film": self._composer.picture(frame, left, right)}


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

    def _given(self, frames: list[Frame], depth: ShotDepth | None) -> NDArray[np.float32]:
        assert depth is not None  # given to `__init__`
        return depth.of(frames)

    def _eyes(self, left: Tensor, given: NDArray[np.float32], placement: Placement) -> list[Eye]:
        if LAYOUTS[self._options.layout].depth:
            return [Eye(left, to_disparity(given, *left.shape[-2:], 1.0).clamp(0, 1).expand(-1, 3, -1, -1))]
        share = 0.5 if self._both else 1.0
        disparity = to_disparity(given, *left.shape[-2:], placement.max_disparity * share)
        eyes = [self._eye(left, disparity)]
        return [self._eye(left.flip(-1), disparity.flip(-1)), *eyes] if self._both else eyes

    def _eye(self, left: Tensor, disparity: Tensor) -> Eye:
        model, strength = self._options.refine == "model", self._clean_edges
        as_trained = model and strength is None
        clean = disparity
        if not as_trained or self._options.blend == "holes":
            clean = clean_edges(disparity, 1.0 if strength is None else strength)
        warped, hole = self._right.inpainter.warp(left, disparity if as_trained else clean)
        outside = BackgroundFill().warp(left, clean) if model and self._options.blend == "holes" else None
        return Eye(left, warped, hole, outside)


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

    def _given(self, frames: list[Frame], depth: ShotDepth | None) -> list[list[Frame]]:
        start = frames[0].index
        views = [view.get(start, start + len(frames)) for view in (self._warped, self._hole)]
        shortest = min(map(len, views))
        if shortest < len(frames):
            raise UserError(f"a view given to `refine` ends after {start + shortest} frames")
        return views

    def _eyes(self, left: Tensor, given: list[list[Frame]], placement: Placement) -> list[Eye]:
        picture = self._video.info.picture
        inside = picture.inside if picture else ...
        warped, hole = (
            to_tensor([frame.rgb(bits)[inside] for frame in view])
            for view, bits in zip(given, (self._bits, 8), strict=True)
        )
        return [Eye(left, warped, hole[:, :1] > 127)]
