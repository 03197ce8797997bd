"""One film from end to end: windows in order, each kept when finished, joined at the end.

Shapes: T frames of a window, V views that are made (1 or 2), H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from m2svid.convert.disparity import ShotDepth
from m2svid.convert.layouts import LAYOUTS, picture_size
from m2svid.convert.mux import assemble, check_streams
from m2svid.convert.options import Options
from m2svid.convert.planes import Plane
from m2svid.convert.read import IMAGE_SUFFIXES, Frame, Video
from m2svid.convert.refine import Refiner
from m2svid.convert.report import Reporter
from m2svid.convert.resume import WorkFolder, file_stamp
from m2svid.convert.shots import Shot, Survey, survey
from m2svid.convert.sliding import Sliding
from m2svid.convert.stereo import StereoMaker
from m2svid.convert.views import Composer, Pixels, shift
from m2svid.convert.windows import Window, plan
from m2svid.convert.write import (
    CONTAINERS,
    CRF,
    PRESETS,
    Encoding,
    check_codec,
    encode,
    encoder_format,
    save_arrays,
)
from m2svid.depth.base import DepthEstimator
from m2svid.errors import UserError


@dataclass(frozen=True)
class Parts:
    """What is loaded once for all films.

    Attributes:
        refiner: repairs warped views.
        depth: makes the source of a film's depth.
    """

    refiner: Refiner
    depth: DepthEstimator


class Conversion:
    """A film that becomes a stereo film.

    Args:
        video: the film.
        output: the stereo film; `pair` makes two files of its name.
        options: how.
        parts: models.
        report: told what happens.

    Raises:
        UserError: something does not fit, seen before the work begins.
    """

    def __init__(self, video: Video, output: Path, options: Options, parts: Parts, report: Reporter) -> None:
        self._video, self._output, self._options, self._parts, self._report = (
            video,
            output,
            options,
            parts,
            report,
        )
        info = video.info
        self._layout = LAYOUTS[options.layout]
        self._picture = output.suffix.lower() in IMAGE_SUFFIXES
        self._check_output()
        pixel_format = encoder_format(options.codec, info.pixel_format, options.bits)
        stored = None if self._picture else pixel_format
        self._composer = Composer(self._layout, stored, info, options.anaglyph)
        width, height = picture_size(self._layout, pixel_format, info.width, info.height)
        self._encoding = Encoding(
            codec=options.codec,
            pixel_format=pixel_format,
            width=width,
            height=height,
            rate=info.rate,
            color=info.color,
            aspect=info.aspect,
            crf=options.crf if options.crf is not None else CRF.get(options.codec),
            preset=options.preset or PRESETS.get(options.codec),
            packing=self._layout.packing,
        )
        self._max_disparity = options.disparity_px(info.width)
        self._maker = StereoMaker(
            parts.refiner,
            self._max_disparity,
            options.eyes,
            options.blend,
            options.match_color,
            float(info.rate),
            8 if self._picture or pixel_format.bits == 8 else 16,
        )

    def run(self) -> None:
        """Do what is not yet done, and join it.

        Raises:
            UserError: the film or its depth is damaged, or the disk is full.
        """
        with WorkFolder(self._output, self._settings(), self._options.restart) as work:
            film = self._survey(work)
            self._parts.depth.check(len(film.times), self._video.info.width, self._video.info.height)
            windows = plan(film.shots, self._parts.refiner.length, self._parts.refiner.overlap)
            self._tell(film, windows)
            done = sum(w.emit_stop - w.emit_start for w in windows if self._is_done(work, w))
            with self._report.stage("convert", len(film.times), done):
                for shot, group in groupby(windows, key=lambda window: window.shot):
                    self._convert_shot(film, film.shots[shot], list(group), work)
            self._join(film, windows, work)
            work.remove()

    def targets(self) -> dict[str, Path]:
        """Name of the view in the file -> file."""
        if self._options.layout != "pair":
            return {"film": self._output}
        return {eye: self._output.with_stem(f"{self._output.stem}_{eye}") for eye in ("left", "right")}

    def _check_output(self) -> None:
        options, suffix = self._options, self._output.suffix.lower()
        if self._picture != self._video.is_picture:
            wanted = "a picture such as .png" if self._video.is_picture else "a film such as .mp4"
            raise UserError(f"-o {self._output} must be {wanted}, like the input")
        if not self._picture:
            check_codec(options.codec)
            if suffix not in CONTAINERS[options.codec]:
                allowed = ", ".join(sorted(CONTAINERS[options.codec]))
                raise UserError(f"-o {self._output} must end in one of {allowed} for --codec {options.codec}")
            check_streams(self._video, self._output)
        for target in self.targets().values():
            if target.exists() and not options.restart:
                raise UserError(f"{target} exists: give --restart to make it again, or another -o")
            if not target.parent.is_dir():
                raise UserError(f"the folder {target.parent} of -o does not exist")

    def _settings(self) -> dict[str, Any]:
        settings = self._options.settings() | {"input": file_stamp(self._video.path)}
        for name in ("depth", "weights"):
            path = Path(settings[name] or "")
            if settings[name] and path.exists():
                settings[name] = file_stamp(path)
        return settings

    def _survey(self, work: WorkFolder) -> Survey:
        kept = work.load_json("survey.json")
        if kept is None:
            with self._report.stage("look for cuts", self._video.info.frames):
                film = survey(self._video, self._options.cuts, self._report.advance)
            work.save_json("survey.json", asdict(film))
            return film
        return Survey(tuple(kept["times"]), kept["end"], tuple(Shot(**shot) for shot in kept["shots"]))

    def _tell(self, film: Survey, windows: list[Window]) -> None:
        info, encoding = self._video.info, self._encoding
        self._report.say(
            "plan",
            f"{self._video.path}: {len(film.times)} frames of {info.width}×{info.height}, "
            f"{info.rate} frames/s, {len(film.shots)} shots, {len(windows)} windows",
            frames=len(film.times),
            shots=[shot.start for shot in film.shots],
            windows=len(windows),
        )
        self._report.say("depth", f"depth: {self._parts.depth.description}")
        self._report.say("disparity", f"disparity: 0 to {self._max_disparity:g} px")
        self._report.say("refine", f"refine: {self._parts.refiner.description}")
        self._report.say(
            "output",
            f"output: {self._options.layout}, {encoding.width}×{encoding.height}, {encoding.codec}, "
            f"{encoding.pixel_format.name}",
        )

    def _convert_shot(self, film: Survey, shot: Shot, windows: list[Window], work: WorkFolder) -> None:
        waiting = [window for window in windows if not self._is_done(work, window)]
        if not waiting:
            return
        frames = Sliding[Frame](lambda start: self._video.frames(start, film.times))

        def read(start: int, stop: int) -> list[Pixels]:
            return [frame.rgb() for frame in frames.get(start, stop)]

        depth = ShotDepth(self._parts.depth, shot, read, work)
        depth.prepare()
        self._report.say(
            "shot", f"shot {shot.index + 1}: frames {shot.start} to {shot.stop - 1}", shot=shot.index
        )
        for window in waiting:
            follower = windows[window.index - windows[0].index + 1] if window is not windows[-1] else None
            self._convert_window(window, follower, frames.get(window.start, window.stop), depth, work)
            self._report.advance(window.emit_stop - window.emit_start)
        depth.remove()

    def _convert_window(
        self, window: Window, follower: Window | None, frames: list[Frame], depth: ShotDepth, work: WorkFolder
    ) -> None:
        known = work.load_tail(window.index - 1) if window.known else None
        rgb = [frame.rgb(self._maker.bits) for frame in frames]
        views = self._maker(window, rgb, depth.get(window.start, window.stop, rgb), known)
        if follower is not None and follower.known:
            work.save_tail(window.index, views[:, -follower.known :])
        emitted = slice(window.emit_start - window.start, window.emit_stop - window.start)
        for name, pictures in self._pictures(frames[emitted], views[:, emitted]).items():
            piece = self._piece(work, name, window)
            if self._picture:
                save_arrays(piece, rgb=np.stack(next(pictures), axis=-1))
            else:
                encode(pictures, self._encoding, piece)
        if window.known:
            work.drop_tail(window.index - 1)

    def _pictures(self, frames: list[Frame], views: Pixels) -> dict[str, Iterator[list[Plane]]]:
        """What is encoded into each file: the views, moved so that the convergence depth is on the screen."""
        offset = round(self._options.convergence * self._max_disparity)
        right = shift(views[-1], offset - offset // 2 if len(views) == 2 else offset)
        left = shift(views[0], -(offset // 2)) if len(views) == 2 else None
        if self._options.layout == "pair":
            return {"left": self._composer.left(frames, left), "right": self._composer.right(right)}
        if self._options.layout == "right":
            return {"film": self._composer.right(right)}
        return {"film": self._composer.pictures(frames, left, right)}

    def _piece(self, work: WorkFolder, name: str, window: Window) -> Path:
        return work.file(name, f"{window.index:06d}.npz")

    def _is_done(self, work: WorkFolder, window: Window) -> bool:
        return all(self._piece(work, name, window).exists() for name in self.targets())

    def _join(self, film: Survey, windows: list[Window], work: WorkFolder) -> None:
        for name, target in self.targets().items():
            pieces = [self._piece(work, name, window) for window in windows]
            if self._picture:
                save_picture(pieces[0], target)
            else:
                assemble(pieces, self._encoding, self._layout, self._video, film, target)
            self._report.say("done", f"{target} is complete", file=str(target))


def save_picture(piece: Path, target: Path) -> None:
    """Write the one picture of a piece; it appears under its name only when complete."""
    with np.load(piece) as kept:
        done, data = cv2.imencode(target.suffix, np.ascontiguousarray(kept["rgb"][..., ::-1]))
    if not done:
        raise UserError(f"-o {target} can't be written as {target.suffix}")
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.write_bytes(data.tobytes())
    temporary.replace(target)
