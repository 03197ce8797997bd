"""Film and depth -> warped view and its holes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from av.video.reformatter import ColorRange

from m2svid.convert.makers import stamped
from m2svid.convert.options import DepthOptions, Options
from m2svid.convert.report import Reporter
from m2svid.convert.runner import Job, Pictures, Target
from m2svid.convert.setup import open_depth, run_on
from m2svid.depth.base import DepthEstimator
from m2svid.depth.shot import ShotDepth, to_disparity
from m2svid.inference.windows import WITHOUT_MODEL, Window
from m2svid.video.layouts import LAYOUTS
from m2svid.video.pictures import Pixels, to_pixels, to_tensor
from m2svid.video.planes import PixelFormat, Plane, rgb_to_planes
from m2svid.video.read import Frame, Video
from m2svid.video.write import lossless
from m2svid.warping.view import warp_view


def warp(
    input: Path,
    output: Path | None = None,
    max_disparity: float = 0.05,
    depth_range: Literal["auto", "shot"] = "auto",
    **options: Any,
) -> None:
    """Warp a film to the right eye: `warped.mkv` and `hole.mkv` (white = hole, closed), both lossless.

    Args:
        input: the film.
        output: folder for both; if not given, the film's name with `_warp`.
        max_disparity: shift of the nearest point: below 1 a share of the width, from 1 on pixels.
        depth_range: as in `convert`.
        **options: how.

    Raises:
        UserError: a mistake.
    """
    given = DepthOptions(**options)
    chosen = Options(refine="none", max_disparity=max_disparity, depth_range=depth_range, **vars(given))
    output = output or input.with_name(f"{input.stem}_warp")
    report, video = Reporter(chosen.progress), Video(input, chosen.rate)
    output.mkdir(parents=True, exist_ok=True)

    def make_job(device: torch.device) -> Job:
        return WarpJob(video, output, chosen, open_depth(chosen, device, video), report)

    run_on(chosen.devices, make_job)


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
        warped, hole = warp_view(left, to_disparity(maps, *left.shape[-2:], self._max_disparity))
        pixels = to_pixels(warped, 8 if rgb[0].dtype == np.uint8 else 16)
        masks = hole[:, 0].numpy().astype(np.uint8) * 255
        return {"warped": self._color(pixels), "hole": ([mask] for mask in masks)}, None

    def _color(self, pixels: Pixels) -> Iterator[list[Plane]]:
        info = self.video.info
        color_range = ColorRange.JPEG if info.full_range else ColorRange.MPEG
        for rgb in pixels:
            yield rgb_to_planes(rgb, self._format, info.matrix, color_range)
