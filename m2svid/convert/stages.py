"""The stages by themselves: depth, warp and refine, with files between them.

`convert` gives the same views without these files; they are for looking at a stage, or for changing what it
gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from av.video.reformatter import ColorRange

from m2svid.convert.convert import output_name
from m2svid.convert.disparity import ShotDepth, to_disparity
from m2svid.convert.job import Job, Pictures, Target
from m2svid.convert.layouts import LAYOUTS
from m2svid.convert.models import load_model, make_refiner, open_depth, pick_devices
from m2svid.convert.options import DEFAULT_DEPTH, Options
from m2svid.convert.pipeline import Conversion, make_encoding, stamped
from m2svid.convert.planes import PixelFormat, Plane, rgb_to_planes
from m2svid.convert.read import Color, Frame, Video, VideoInfo
from m2svid.convert.refine import Refiner
from m2svid.convert.report import Mode, Reporter
from m2svid.convert.resume import file_stamp
from m2svid.convert.sliding import Sliding
from m2svid.convert.stereo import warp_closed
from m2svid.convert.views import Composer, Pixels, to_pixels, to_tensor
from m2svid.convert.windows import Window
from m2svid.convert.write import Encoding
from m2svid.depth.base import DepthEstimator
from m2svid.depth.files import Kind
from m2svid.errors import UserError
from m2svid.visualize import colorize

_LENGTH = 16  # frames of a window where no model looks at them together
_UNTAGGED = 2


def depth(
    input: Path,
    output: Path | None = None,
    depth: str = DEFAULT_DEPTH,
    depth_backbone: str | None = None,
    depth_kind: Kind = "auto",
    devices: str = "auto",
    cuts: bool = True,
    preview: bool = False,
    restart: bool = False,
    progress: Mode = "bar",
) -> None:
    """Write the depth of a film as a 16-bit gray video, which `--depth` of the other verbs takes.

    Args:
        input: the film.
        output: lossless video (.mkv), inverse depth: white is near; every shot normalised. If not given, the
            film's name with `_depth`.
        depth: depth model of transformers (local folder or hub id), DepthCrafter, or a depth file to be
            normalised.
        depth_backbone: see `convert`.
        depth_kind: what a depth file holds, see `convert`.
        devices: where the model runs; shots are shared out among several.
        cuts: find shots; False normalises the film as one.
        preview: also write a film in colours to look at, the output's name with `_preview.mp4`: red is near.
        restart: make an output again that exists, or was begun with other settings.
        progress: "bar", "quiet" or "json".

    Raises:
        UserError: a mistake.
    """
    options = Options(
        refine="none",
        depth=depth,
        depth_backbone=depth_backbone,
        depth_kind=depth_kind,
        depth_range="shot",
        devices=devices,
        cuts=cuts,
        restart=restart,
        progress=progress,
        layout="right",
        bits=8,
    )
    report = Reporter(options.progress)
    output = output or input.with_name(f"{input.stem}_depth.mkv")
    video = Video(input)
    first, *others = (
        DepthJob(video, output, options, open_depth(options, device, video), report, preview)
        for device in pick_devices(options.devices)
    )
    first.run(others)


def warp(
    input: Path,
    output: Path | None = None,
    depth: str = DEFAULT_DEPTH,
    depth_backbone: str | None = None,
    depth_kind: Kind = "auto",
    max_disparity: float = 0.05,
    devices: str = "auto",
    cuts: bool = True,
    restart: bool = False,
    progress: Mode = "bar",
) -> None:
    """Warp a film to the right eye: `warped.mkv` and `hole.mkv` (white = hole, closed), both lossless.

    Args:
        input: the film.
        output: folder for both; if not given, the film's name with `_warp`.
        depth: as in `convert`.
        depth_backbone: as in `convert`.
        depth_kind: as in `convert`.
        max_disparity: shift of the nearest point: below 1 a share of the width, from 1 on pixels.
        devices: where a depth model runs; shots are shared out among several.
        cuts: find shots, over which depth is normalised.
        restart: make an output again that exists, or was begun with other settings.
        progress: "bar", "quiet" or "json".

    Raises:
        UserError: a mistake.
    """
    options = Options(
        refine="none",
        depth=depth,
        depth_backbone=depth_backbone,
        depth_kind=depth_kind,
        max_disparity=max_disparity,
        devices=devices,
        cuts=cuts,
        restart=restart,
        progress=progress,
    )
    output = output or input.with_name(f"{input.stem}_warp")
    output.mkdir(parents=True, exist_ok=True)
    report = Reporter(options.progress)
    video = Video(input)
    first, *others = (
        WarpJob(video, output, options, open_depth(options, device, video), report)
        for device in pick_devices(options.devices)
    )
    first.run(others)


def refine(input: Path, warped: Path, hole: Path, output: Path | None = None, **options: Any) -> None:
    """Repair a warped view and fill its holes: the last stage of `convert`.

    Args:
        input: the film, left view.
        warped: it as the right eye sees it, black in holes; what `warp` writes.
        hole: white where that is a hole.
        output: the stereo film; if not given, it is named as by `convert`.
        **options: as in `convert`; those on depth have no part in this.

    Raises:
        UserError: a mistake.
    """
    chosen = Options(**options)
    if chosen.eyes == "both":
        raise UserError("--eyes both is not for `refine`, which is given the right view alone")
    report = Reporter(chosen.progress)
    output = output_name(input, output, chosen, several=False)
    video = Video(input)
    first, *others = (
        Refinement(
            video,
            Video(warped),
            Video(hole),
            output,
            chosen,
            make_refiner(chosen, load_model(chosen), device, video),
            report,
        )
        for device in pick_devices(chosen.devices)
    )
    first.run(others)


class DepthJob(Job):
    """A film's depth as a gray video."""

    length, overlap = _LENGTH, 0

    def __init__(
        self,
        video: Video,
        output: Path,
        options: Options,
        depth: DepthEstimator,
        report: Reporter,
        preview: bool = False,
    ) -> None:
        film = next(video.frames()).rgb()
        first = depth([film], 0) if depth.size is None else None
        height, width = depth.size or first.shape[1:]
        target = Target(
            output, _lossless(video.info, PixelFormat("400", 16), width, height), LAYOUTS["right"]
        )
        targets = {"depth": target}
        if preview:
            encoding = make_encoding(video, options, (width, height))
            targets["preview"] = Target(
                output.with_name(f"{output.stem}_preview.mp4"), encoding, LAYOUTS["right"]
            )
            self._composer = Composer(LAYOUTS["right"], encoding.pixel_format, video.info, options.anaglyph)
        settings = stamped(options, video) | {"preview": preview}
        super().__init__(video, targets, settings, depth, options.cuts, options.restart, False, report)

    def describe(self) -> list[str]:
        return []

    def make(
        self, window: Window, frames: list[Frame], depth: ShotDepth | None, shared: Pixels | None
    ) -> tuple[dict[str, Pictures], None]:
        assert depth is not None  # given to `__init__`
        maps = depth.get(window.start, window.stop, [frame.rgb() for frame in frames])
        results: dict[str, Pictures] = {"depth": ([np.round(each * 65535).astype("<u2")] for each in maps)}
        if "preview" in self.targets:
            colored = colorize(torch.from_numpy(maps)[:, None], 0, 1, "turbo")
            results["preview"] = self._composer.right(to_pixels(colored, 8))
        return results, None


class WarpJob(Job):
    """A film's warped view and its holes."""

    length, overlap = _LENGTH, 0

    def __init__(
        self, video: Video, folder: Path, options: Options, depth: DepthEstimator, report: Reporter
    ) -> None:
        info = video.info
        self._max_disparity = options.disparity_px(info.width)
        # 10 bits of 4:4:4 hold 8 bits of RGB without loss
        self._format = PixelFormat("444", 10)
        color = _lossless(info, self._format, info.width, info.height, info.color)
        gray = _lossless(info, PixelFormat("400", 8), info.width, info.height)
        right = LAYOUTS["right"]
        targets = {
            "warped": Target(folder / "warped.mkv", color, right),
            "hole": Target(folder / "hole.mkv", gray, right),
        }
        settings = stamped(options, video)
        super().__init__(video, targets, settings, depth, options.cuts, options.restart, False, report)

    def describe(self) -> list[str]:
        return [f"disparity: 0 to {self._max_disparity:g} px"]

    def make(
        self, window: Window, frames: list[Frame], depth: ShotDepth | None, shared: Pixels | None
    ) -> tuple[dict[str, Pictures], None]:
        assert depth is not None  # given to `__init__`
        rgb = [frame.rgb(self.video.info.pixel_format.bits) for frame in frames]
        left = to_tensor(rgb)
        maps = depth.get(window.start, window.stop, rgb)
        warped, hole = warp_closed(left, to_disparity(maps, *left.shape[-2:], self._max_disparity))
        pixels = to_pixels(warped, 8 if rgb[0].dtype == np.uint8 else 16)
        masks = hole[:, 0].numpy().astype(np.uint8) * 255
        return {"warped": self._color(pixels), "hole": ([mask] for mask in masks)}, None

    def _color(self, pixels: Pixels) -> Iterator[list[Plane]]:
        info = self.video.info
        color_range = ColorRange.JPEG if info.full_range else ColorRange.MPEG
        for rgb in pixels:
            yield rgb_to_planes(rgb, self._format, info.matrix, color_range)


class Refinement(Conversion):
    """The last stage of a conversion, from files."""

    def __init__(
        self,
        video: Video,
        warped: Video,
        hole: Video,
        output: Path,
        options: Options,
        refiner: Refiner,
        report: Reporter,
    ) -> None:
        for name, other in (("warped", warped), ("hole", hole)):
            size, wanted = (other.info.width, other.info.height), (video.info.width, video.info.height)
            if size != wanted:
                raise UserError(
                    f"--{name} {other.path} is {size[0]}×{size[1]}, the film {wanted[0]}×{wanted[1]}"
                )
        super().__init__(video, output, options, refiner, None, report)
        self._settings |= {"warped": file_stamp(warped.path), "hole": file_stamp(hole.path)}
        self._warped = Sliding[Frame](warped.frames)
        self._hole = Sliding[Frame](hole.frames)

    def describe(self) -> list[str]:
        return super().describe()[1:]

    def views(
        self, window: Window, rgb: list[Pixels], depth: ShotDepth | None, shared: Pixels | None
    ) -> Pixels:
        warped = self._read(self._warped, window, 8 if rgb[0].dtype == np.uint8 else 16)
        hole = self._read(self._hole, window, 8)[:, :1] > 127
        made = None if shared is None else shared[-1]
        return self._maker.refine(window, to_tensor(rgb), warped, hole, made)[None]

    def _read(self, frames: Sliding[Frame], window: Window, bits: int) -> Any:
        found = frames.get(window.start, window.stop)
        if len(found) < window.num_frames:
            raise UserError(f"a view given to `refine` ends after {window.start + len(found)} frames")
        return to_tensor([frame.rgb(bits) for frame in found])


def _lossless(
    info: VideoInfo, pixel_format: PixelFormat, width: int, height: int, color: Color | None = None
) -> Encoding:
    return Encoding(
        codec="ffv1",
        pixel_format=pixel_format,
        width=width,
        height=height,
        rate=info.rate,
        color=color or Color(int(ColorRange.JPEG), _UNTAGGED, _UNTAGGED, _UNTAGGED),
        aspect=info.aspect,
        crf=None,
        preset=None,
    )
