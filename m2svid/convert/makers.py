"""A film becomes a stereo film.

Shapes: T frames of a window, V views that are made (1 or 2), H W pixels.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from m2svid.convert.options import Options
from m2svid.convert.report import Reporter
from m2svid.convert.runner import Job, Pictures, Target
from m2svid.convert.stereo import StereoMaker
from m2svid.convert.work_folder import file_stamp
from m2svid.depth.base import DepthEstimator
from m2svid.depth.shot import ShotDepth
from m2svid.errors import UserError
from m2svid.inference.background import Refiner
from m2svid.inference.windows import Window
from m2svid.video.layouts import LAYOUTS, picture_size, view_size
from m2svid.video.pictures import Composer, Pixels, shift
from m2svid.video.read import IMAGE_SUFFIXES, Frame, Video
from m2svid.video.vr180 import HalfSphere
from m2svid.video.write import CRF, PRESETS, Encoding, encoder_format


class Conversion(Job):
    """All stages in one pass.

    Args:
        video: the film.
        output: the stereo film; the layout `pair` makes two files of its name.
        options: how.
        refiner: repairs the warped views.
        depth: of the film; None where the views come warped.
        report: told what happens.

    Raises:
        UserError: something does not fit, seen before the work begins.
    """

    def __init__(
        self,
        video: Video,
        output: Path,
        options: Options,
        refiner: Refiner,
        depth: DepthEstimator | None,
        report: Reporter,
    ) -> None:
        self._picture = output.suffix.lower() in IMAGE_SUFFIXES
        if self._picture != video.is_picture:
            wanted = "a picture such as .png" if video.is_picture else "a film such as .mp4"
            raise UserError(f"-o {output} must be {wanted}, like the input")
        info = video.info
        sphere = None
        if options.fov is not None:
            sphere = HalfSphere(info.width, info.height, options.fov, info.aspect)
        encoding = make_encoding(video, options, (sphere.side, sphere.side) if sphere else None)
        self._options, self._layout = options, LAYOUTS[options.layout]
        self._max_disparity = options.disparity_px(video.info.width)
        stored = None if self._picture else encoding.pixel_format
        self._composer = Composer(self._layout, stored, info, options.anaglyph, sphere)
        self._maker = StereoMaker(
            refiner,
            self._max_disparity,
            options.eyes,
            options.blend,
            options.match_color,
            float(video.info.rate),
            8 if self._picture or encoding.pixel_format.bits == 8 else 16,
        )
        self.length, self.overlap = refiner.length, refiner.overlap
        stored_as = None if self._picture else encoding
        files = output_files(output, options)
        targets = {name: Target(path, stored_as, self._layout) for name, path in files.items()}
        settings = stamped(options, video) | dict(refiner.settings)
        super().__init__(video, targets, settings, depth, options.cuts, options.restart, True, report)

    def describe(self) -> list[str]:
        encoding = next(iter(self.targets.values())).encoding
        spherical = ", half spheres: both eyes are resampled" if self._layout.spherical else ""
        kind = f"{encoding.codec}, {encoding.pixel_format.name}" if encoding else "picture"
        lines = [
            f"disparity: 0 to {self._max_disparity:g} px",
            f"refine: {self._maker.refiner.description}",
            f"output: {self._options.layout}, {kind}{spherical}",
        ]
        info = self.video.info
        size = info.width, info.height
        padded = view_size(self._layout, encoding.pixel_format, *size) if encoding else size
        if padded != size and not spherical:
            lines.append(
                f"padding: each view from {size[0]}×{size[1]} to {padded[0]}×{padded[1]} by repeating its "
                "last column or row, as the encoder asks for even sizes"
            )
        return lines

    def make(
        self, window: Window, frames: list[Frame], depth: ShotDepth | None, shared: Pixels | None
    ) -> tuple[dict[str, Pictures], Pixels]:
        rgb = [frame.rgb(self._maker.bits) for frame in frames]
        views = self.views(window, rgb, depth, shared)
        emitted = slice(window.emit_start - window.start, window.emit_stop - window.start)
        return self._pictures(frames[emitted], views[:, emitted]), views

    def views(
        self, window: Window, rgb: list[Pixels], depth: ShotDepth | None, shared: Pixels | None
    ) -> Pixels:
        """(V, T, H, W, 3): the views that are made."""
        assert depth is not None  # given to `__init__`
        return self._maker(window, rgb, depth.get(window.start, window.stop, rgb), shared)

    def _pictures(self, frames: list[Frame], views: Pixels) -> dict[str, Pictures]:
        """What is encoded into each file: the views, moved so that the convergence depth is on the screen."""
        offset = round(self._options.convergence * self._max_disparity)
        both = len(views) == 2
        right = shift(views[-1], offset - offset // 2 if both else offset)
        left = shift(views[0], -(offset // 2)) if both else None
        if self._options.layout == "pair":
            return {"left": self._composer.left(frames, left), "right": self._composer.right(right)}
        if self._options.layout == "right":
            return {"film": self._composer.right(right)}
        return {"film": self._composer.pictures(frames, left, right)}


def output_files(output: Path, options: Options) -> dict[str, Path]:
    """Name of a result -> file."""
    if options.layout != "pair":
        return {"film": output}
    return {eye: output.with_stem(f"{output.stem}_{eye}") for eye in ("left", "right")}


def make_encoding(video: Video, options: Options, size: tuple[int, int] | None = None) -> Encoding:
    """How a film of views is encoded.

    Args:
        video: the source.
        options: how.
        size: width and height of each view, px, whose pixels are square; None = the source's own.
    """
    info, layout = video.info, LAYOUTS[options.layout]
    pixel_format = encoder_format(options.codec, info.pixel_format, options.bits)
    width, height = picture_size(layout, pixel_format, *(size or (info.width, info.height)))
    return Encoding(
        codec=options.codec,
        pixel_format=pixel_format,
        width=width,
        height=height,
        rate=info.rate,
        color=info.color,
        aspect=Fraction(1) if size else info.aspect,
        crf=options.crf if options.crf is not None else CRF.get(options.codec),
        preset=options.preset or PRESETS.get(options.codec),
        packing=layout.packing,
    )


def stamped(options: Options, video: Video) -> dict[str, Any]:
    """The options that the result depends on, and which files they stand for."""
    settings = options.settings() | {"input": file_stamp(video.path)}
    for name in ("depth", "depth_backbone", "weights"):
        path = Path(settings[name] or "")
        if settings[name] and path.exists():
            settings[name] = file_stamp(path)
    return settings
