"""Film and depth -> warped view and its holes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from av.video.reformatter import ColorRange

from m2svid.convert.disparity import ShotDepth, to_disparity
from m2svid.convert.job import Job, Pictures, Target
from m2svid.convert.models import open_depth, run_on
from m2svid.convert.options import DEFAULT_DEPTH, Options
from m2svid.convert.pipeline import stamped
from m2svid.convert.report import Mode, Reporter
from m2svid.convert.stereo import warp_closed
from m2svid.convert.views import Pixels, to_pixels, to_tensor
from m2svid.convert.windows import WITHOUT_MODEL, Window
from m2svid.depth.base import DepthEstimator
from m2svid.depth.files import Kind
from m2svid.video.layouts import LAYOUTS
from m2svid.video.planes import PixelFormat, Plane, rgb_to_planes
from m2svid.video.read import Frame, Video
from m2svid.video.write import lossless


def warp(
    input: Path,
    output: Path | None = None,
    depth: str = DEFAULT_DEPTH,
    depth_backbone: str | None = None,
    depth_kind: Kind = "auto",
    max_disparity: float = 0.05,
    vram: str = "auto",
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
        vram: memory that a depth model may take, for instance 8G, see `convert`.
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
        vram=vram,
        devices=devices,
        cuts=cuts,
        restart=restart,
        progress=progress,
    )
    output = output or input.with_name(f"{input.stem}_warp")
    output.mkdir(parents=True, exist_ok=True)
    report, video = Reporter(options.progress), Video(input)

    def make_job(device: torch.device) -> Job:
        return WarpJob(video, output, options, open_depth(options, device, video), report)

    run_on(options.devices, make_job)


class WarpJob(Job):
    """A film's warped view and its holes."""

    length, overlap = WITHOUT_MODEL, 0

    def __init__(
        self, video: Video, folder: Path, options: Options, depth: DepthEstimator, report: Reporter
    ) -> None:
        info = video.info
        self._max_disparity = options.disparity_px(info.width)
        # 10 bits of 4:4:4 hold 8 bits of RGB without loss
        self._format = PixelFormat("444", 10)
        size = (info.width, info.height, info.rate, info.aspect)
        color, gray = lossless(self._format, *size, info.color), lossless(PixelFormat("400", 8), *size)
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
