"""Film -> its depth as a gray video."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from m2svid.convert.makers import make_encoding, stamped
from m2svid.convert.options import DepthOptions, Options
from m2svid.convert.report import Reporter
from m2svid.convert.runner import Job, Pictures, Target
from m2svid.convert.setup import open_depth, run_on
from m2svid.depth.base import DepthEstimator
from m2svid.depth.shot import ShotDepth
from m2svid.inference.windows import WITHOUT_MODEL, Window
from m2svid.sheets.draw import colorize
from m2svid.video.layouts import LAYOUTS
from m2svid.video.pictures import Composer, Pixels, to_pixels
from m2svid.video.planes import PixelFormat
from m2svid.video.read import Frame, Video
from m2svid.video.write import lossless


def depth(input: Path, output: Path | None = None, preview: bool = False, **options: Any) -> None:
    """Write the depth of a film as a 16-bit gray video, which `--depth` of the other verbs takes.

    Args:
        input: the film.
        output: lossless video (.mkv), inverse depth: white is near; every shot normalised. If not given, the
            film's name with `_depth`.
        preview: also write a film in colours to look at, the output's name with `_preview.mp4`: red is near.
        **options: how; `depth` may be a file, too, which is then normalised.

    Raises:
        UserError: a mistake.
    """
    given = DepthOptions(**options)
    chosen = Options(refine="none", depth_range="shot", layout="right", bits=8, **vars(given))
    report, video = Reporter(chosen.progress), Video(input, chosen.rate)
    output = output or input.with_name(f"{input.stem}_depth.mkv")

    def make_job(device: torch.device) -> Job:
        return DepthJob(video, output, chosen, open_depth(chosen, device, video), report, preview)

    run_on(chosen.devices, make_job)


class DepthJob(Job):
    """A film's depth as a gray video."""

    length, overlap = WITHOUT_MODEL, 0

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
        gray = lossless(PixelFormat("400", 16), width, height, video.info.rate, video.info.aspect)
        targets = {"depth": Target(output, gray, LAYOUTS["right"])}
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
