"""What all verbs on films share: shots and windows in order, each kept when finished, joined at the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from m2svid.convert.report import Advance, Reporter
from m2svid.convert.work_folder import WorkFolder
from m2svid.depth.base import DepthEstimator
from m2svid.depth.shot import ShotDepth
from m2svid.errors import UserError
from m2svid.files import whole
from m2svid.inference.windows import Window, plan
from m2svid.video.layouts import Layout
from m2svid.video.mux import assemble, check_streams, left_out
from m2svid.video.pictures import Pixels
from m2svid.video.planes import Plane
from m2svid.video.read import Frame, Video
from m2svid.video.shots import Shot, Survey, survey
from m2svid.video.sliding import Sliding
from m2svid.video.write import CONTAINERS, Encoding, check_codec, encode, save_arrays

Pictures = Iterable[list[Plane]]


@dataclass(frozen=True)
class Target:
    """A file to be made.

    Attributes:
        path: its name.
        encoding: how; None = one picture, as its name says.
        layout: what its pictures show.
    """

    path: Path
    encoding: Encoding | None
    layout: Layout


class Job(ABC):
    """A film on its way through one verb.

    Args:
        video: the film.
        targets: name of a result -> its file; the first one's name is that of the work folder.
        settings: everything that the results depend on, as JSON.
        depth: of the film, where it is needed.
        cuts: find shots.
        restart: make files again that exist, or were begun with other settings.
        copy_streams: take sound, subtitles, chapters and attachments over.
        report: told what happens.

    Raises:
        UserError: a file can't be made as asked.
    """

    def __init__(
        self,
        video: Video,
        targets: dict[str, Target],
        settings: dict[str, Any],
        depth: DepthEstimator | None,
        cuts: bool,
        restart: bool,
        copy_streams: bool,
        report: Reporter,
    ) -> None:
        self.video, self.targets, self.report = video, targets, report
        self._settings, self._depth = settings | dict(depth.settings if depth else {}), depth
        self._cuts, self._restart, self._copy_streams = cuts, restart, copy_streams
        for target in targets.values():
            self._check(target)

    length: int
    overlap: int

    @abstractmethod
    def describe(self) -> list[str]:
        """What will be done, a line each."""

    @abstractmethod
    def make(
        self, window: Window, frames: list[Frame], depth: ShotDepth | None, shared: Pixels | None
    ) -> tuple[dict[str, Pictures], Pixels | None]:
        """The pictures that a window emits.

        Args:
            window: which frames.
            frames: all of its frames.
            depth: of its shot.
            shared: (V, K, H, W, 3), what the window before has made of the first frames.

        Returns:
            Name of a result -> its pictures; and (V, T, H, W, 3), all that was made, for the next window.
        """

    def run(self, helpers: Sequence[Job] = ()) -> None:
        """Do what is not yet done, and join it.

        Args:
            helpers: the same job on other devices; each takes the next shot when it has done one, and the
                result does not depend on which.

        Raises:
            UserError: the film or its depth is damaged or does not fit, or the disk is full.
        """
        first = next(iter(self.targets.values()))
        with WorkFolder(first.path, self._settings, self._restart) as work:
            film = self._survey(work)
            info = self.video.info
            if self._depth is not None:
                self._depth.check(len(film.times), info.width, info.height)
            windows = plan(film.shots, self.length, self.overlap)
            self._tell(film, windows)
            done = sum(w.emit_stop - w.emit_start for w in windows if self._is_done(work, w))
            groups = [list(group) for _, group in groupby(windows, key=lambda window: window.shot)]
            try:
                with self.report.stage("frames", len(film.times), done) as advance:
                    self._share([self, *helpers], film, groups, work, advance)
            except KeyboardInterrupt:
                kept = f"{work.path} keeps what is done: the same command continues it"
                self.report.say("interrupted", kept, folder=str(work.path))
                raise
            self._join(film, windows, work)
            work.remove()

    @staticmethod
    def _share(
        workers: Sequence[Job],
        film: Survey,
        groups: list[list[Window]],
        work: WorkFolder,
        advance: Advance,
    ) -> None:
        if len(workers) == 1:
            for group in groups:
                workers[0]._do_shot(film, film.shots[group[0].shot], group, work, advance)
            return
        waiting = deque(groups)

        def work_on(worker: Job) -> None:
            while True:
                try:
                    group = waiting.popleft()
                except IndexError:
                    return
                worker._do_shot(film, film.shots[group[0].shot], group, work, advance)

        with ThreadPoolExecutor(len(workers)) as pool:
            results = [pool.submit(work_on, worker) for worker in workers]
            try:
                wait(results, return_when=FIRST_EXCEPTION)
            finally:
                waiting.clear()  # where one has failed, the others finish their shot and stop
            for result in results:
                result.result()

    def _check(self, target: Target) -> None:
        path, encoding = target.path, target.encoding
        if encoding is not None:
            check_codec(encoding.codec)
            if path.suffix.lower() not in CONTAINERS[encoding.codec]:
                allowed = ", ".join(sorted(CONTAINERS[encoding.codec]))
                raise UserError(f"{path} must end in one of {allowed} for codec {encoding.codec}")
            if self._copy_streams:
                check_streams(self.video, path)
        if path.exists() and not self._restart:
            raise UserError(f"{path} exists: give --restart to make it again, or another output")
        if not path.parent.is_dir():
            raise UserError(f"the folder {path.parent} of the output does not exist")

    def _survey(self, work: WorkFolder) -> Survey:
        kept = work.load_json("survey.json")
        if kept is not None:
            return Survey(tuple(kept["times"]), kept["end"], tuple(Shot(**shot) for shot in kept["shots"]))
        with self.report.stage("look for cuts", self.video.info.frames) as advance:
            film = survey(self.video, self._cuts, lambda: advance(1))
        work.save_json("survey.json", asdict(film))
        return film

    def _tell(self, film: Survey, windows: list[Window]) -> None:
        info = self.video.info
        self.report.say(
            "plan",
            f"{self.video.path}: {len(film.times)} frames of {info.width}×{info.height}, "
            f"{info.rate} frames/s, {len(film.shots)} shots, {len(windows)} windows",
            frames=len(film.times),
            shots=[shot.start for shot in film.shots],
            windows=len(windows),
        )
        if self._depth is not None:
            self.report.say("depth", f"depth: {self._depth.description}")
        for line in left_out(self.video) if self._copy_streams else ():
            self.report.say("left out", line)
        for line in self.describe():
            self.report.say(line.partition(":")[0], line)

    def _do_shot(
        self, film: Survey, shot: Shot, windows: list[Window], work: WorkFolder, advance: Advance
    ) -> None:
        waiting = [window for window in windows if not self._is_done(work, window)]
        if not waiting:
            return
        frames = Sliding[Frame](lambda start: self.video.frames(start, film.times))
        text = f"shot {shot.index + 1}: frames {shot.start} to {shot.stop - 1}"
        self.report.say("shot", text, shot=shot.index)
        depth = self._shot_depth(shot, frames, work)
        for window in waiting:
            follower = windows[window.index - windows[0].index + 1] if window is not windows[-1] else None
            self._do_window(window, follower, frames.get(window.start, window.stop), depth, work)
            advance(window.emit_stop - window.emit_start)
        if depth is not None:
            depth.remove()

    def _shot_depth(self, shot: Shot, frames: Sliding[Frame], work: WorkFolder) -> ShotDepth | None:
        if self._depth is None:
            return None

        def read(start: int, stop: int) -> list[Pixels]:
            return [frame.rgb() for frame in frames.get(start, stop)]

        depth = ShotDepth(self._depth, shot, read, work)
        if self._depth.relative:
            with self.report.stage(f"depth of shot {shot.index + 1}", len(shot)) as advance:
                depth.prepare(advance)
        return depth

    def _do_window(
        self,
        window: Window,
        follower: Window | None,
        frames: list[Frame],
        depth: ShotDepth | None,
        work: WorkFolder,
    ) -> None:
        shared = work.load_tail(window.index - 1) if window.shared else None
        results, made = self.make(window, frames, depth, shared)
        if follower is not None and follower.shared and made is not None:
            work.save_tail(window.index, made[:, -follower.shared :])
        for name, pictures in results.items():
            encoding = self.targets[name].encoding
            if encoding is None:
                save_arrays(self._piece(work, name, window), rgb=np.stack(next(iter(pictures)), axis=-1))
            else:
                encode(pictures, encoding, self._piece(work, name, window))
        if window.shared:
            work.drop_tail(window.index - 1)

    def _piece(self, work: WorkFolder, name: str, window: Window) -> Path:
        return work.file(name, f"{window.index:06d}.npz")

    def _is_done(self, work: WorkFolder, window: Window) -> bool:
        return all(self._piece(work, name, window).exists() for name in self.targets)

    def _join(self, film: Survey, windows: list[Window], work: WorkFolder) -> None:
        for name, target in self.targets.items():
            pieces = [self._piece(work, name, window) for window in windows]
            if target.encoding is None:
                save_picture(pieces[0], target.path)
            else:
                other = self.video if self._copy_streams else None
                times = self.video.info.time_base
                assemble(pieces, target.encoding, target.layout, times, film, other, target.path)
            self.report.say("done", f"{target.path} is complete", file=str(target.path))


def save_picture(piece: Path, path: Path) -> None:
    """Write the one picture of a piece; it appears under its name only when complete."""
    with np.load(piece) as kept:
        done, data = cv2.imencode(path.suffix, np.ascontiguousarray(kept["rgb"][..., ::-1]))
    if not done:
        raise UserError(f"{path} can't be written as {path.suffix}")
    with whole(path, "run the same command again") as temporary:
        temporary.write_bytes(data.tobytes())
