"""Film, warped view and holes -> stereo film."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from m2svid.convert.makers import Conversion
from m2svid.convert.options import Options
from m2svid.convert.report import Reporter
from m2svid.convert.runner import Job
from m2svid.convert.setup import load_model, make_refiner, run_on
from m2svid.convert.verbs import output_name
from m2svid.convert.work_folder import file_stamp
from m2svid.depth.shot import ShotDepth
from m2svid.errors import UserError
from m2svid.inference.background import Refiner
from m2svid.inference.windows import Window
from m2svid.video.pictures import Pixels, to_tensor
from m2svid.video.read import Frame, Video
from m2svid.video.sliding import Sliding


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
    report, video = Reporter(chosen.progress), Video(input, chosen.rate)
    output = output_name(input, output, chosen, several=False)

    def make_job(device: torch.device) -> Job:
        refiner = make_refiner(chosen, load_model(chosen, device), device, video)
        return Refinement(video, Video(warped), Video(hole), output, chosen, refiner, report)

    run_on(chosen.devices, make_job)


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
