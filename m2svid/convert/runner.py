"""A film through makers: shots and windows in order, on one device or several, each kept when finished."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from m2svid.convert.makers import Maker
from m2svid.convert.report import Advance, Event, Reporter
from m2svid.convert.setup import fit_depth
from m2svid.convert.task import Task
from m2svid.depth.shot import ShotDepth
from m2svid.errors import UserError
from m2svid.files import load_arrays, save_arrays, whole
from m2svid.inference.memory import MemoryPlan, Plan
from m2svid.inference.windows import Window, plan_windows
from m2svid.video.mux import assemble
from m2svid.video.pictures import Pixels
from m2svid.video.read import Frame
from m2svid.video.shots import Shot, Survey, survey
from m2svid.video.sliding import Sliding
from m2svid.video.write import encode


class Runner:
    """Does a task and keeps what is finished of it in the work folder.

    Args:
        task: what to make.
        makers: one for each device; each takes the next shot when it has done one, and the result does not
            depend on which.
        report: told what happens.
    """

    def __init__(self, task: Task, makers: Sequence[Maker], report: Reporter) -> None:
        self._task, self._makers, self._report = task, makers, report
        self._work = task.work_folder(makers[0].settings)
        depth = makers[0].depth
        plans = {"depth": None if depth is None else depth.memory, "model": makers[0].memory}
        self._plans: dict[str, MemoryPlan] = {name: plan for name, plan in plans.items() if plan is not None}
        self._lock = threading.Lock()

    def run(self) -> None:
        """Do what is not yet done, and join it.

        Raises:
            UserError: the film or its depth is damaged or does not fit, the disk is full, or a device has too
                little memory.
        """
        with self._work:
            film = self._survey()
            depths = [maker.depth for maker in self._makers if maker.depth is not None]
            fit_depth(depths, self._task.video, film)
            windows = plan_windows(film.shots, self._makers[0].window, self._makers[0].overlap)
            self._follow_memory()
            self._tell(film, windows)
            done = sum(window.emit_stop - window.emit_start for window in windows if self._is_done(window))
            try:
                with self._report.stage("frames", len(film.times), done) as advance:
                    self._share_shots(film, windows, advance)
            except KeyboardInterrupt:
                kept = f"{self._work.path} keeps what is done: the same command continues it"
                self._report.say(Event("interrupted", kept, {"folder": str(self._work.path)}))
                raise
            self._join(film, windows)
            self._work.remove()

    def _survey(self) -> Survey:
        kept = self._work.load_json("survey.json")
        if kept is not None:
            return Survey.from_json(kept)
        with self._report.stage("look for cuts", self._task.video.info.frames) as advance:
            film = survey(self._task.video, self._task.cuts, lambda: advance(1))
        self._work.save_json("survey.json", asdict(film))
        return film

    def _follow_memory(self) -> None:
        """Take up the plans that an earlier run has recorded, and record every change."""
        kept = self._work.load_json("memory.json") or {}
        for name, memory in self._plans.items():
            memory.reset(Plan(**kept[name]) if name in kept else None)
            memory.on_change = partial(self._lowered, name)
        self._record_memory()

    def _lowered(self, name: str, plan: Plan) -> None:
        text = f"out of memory: the {name}{' model' * (name == 'depth')} continues with {plan}"
        self._report.say(Event("memory", text, {"of": name, **asdict(plan)}))
        self._record_memory()

    def _record_memory(self) -> None:
        with self._lock:
            self._work.save_json("memory.json", self._memory())

    def _memory(self) -> dict[str, Any]:
        return {name: asdict(memory.plan) for name, memory in self._plans.items()}

    def _tell(self, film: Survey, windows: list[Window]) -> None:
        video, info, depth = self._task.video, self._task.video.info, self._makers[0].depth
        text = (
            f"{video.path}: {len(film.times)} frames of {info.width}×{info.height}, {info.rate} frames/s, "
            f"{len(film.shots)} shots, {len(windows)} windows"
        )
        shots = [shot.start for shot in film.shots]
        fields = {"frames": len(film.times), "shots": shots, "windows": len(windows)}
        self._report.say(Event("plan", text, fields))
        if film.picture is not None:
            inside = f"{film.picture.width}×{film.picture.height}"
            text = f"bars: the picture is {inside}; the black around it stays as it is (see --autocrop)"
            self._report.say(Event("bars", text, asdict(film.picture)))
        if depth is not None:
            self._report.say(Event("depth", f"depth: {depth.description}"))
        others = self._task.others(next(iter(self._task.targets.values())))
        for line in others.told if others else ():
            self._report.say(Event("stream", line))
        for event in self._makers[0].describe():
            self._report.say(event)

    def _share_shots(self, film: Survey, windows: list[Window], advance: Advance) -> None:
        waiting = deque(list(group) for _, group in groupby(windows, key=lambda window: window.shot))

        def work(maker: Maker) -> None:
            while True:
                try:
                    group = waiting.popleft()
                except IndexError:
                    return
                self._do_shot(maker, film, group, advance)

        if len(self._makers) == 1:  # in this thread, which Ctrl-C interrupts
            work(self._makers[0])
            return
        with ThreadPoolExecutor(len(self._makers)) as pool:
            results = [pool.submit(work, maker) for maker in self._makers]
            try:
                wait(results, return_when=FIRST_EXCEPTION)
            finally:
                waiting.clear()  # where one has failed, the others finish their shot and stop
            for result in results:
                result.result()

    def _do_shot(self, maker: Maker, film: Survey, windows: list[Window], advance: Advance) -> None:
        if all(self._is_done(window) for window in windows):
            return
        shot = film.shots[windows[0].shot]
        frames = Sliding[Frame](partial(film.frames, self._task.video))
        text = f"shot {shot.index + 1}: frames {shot.start} to {shot.stop - 1}"
        self._report.say(Event("shot", text, {"shot": shot.index}))
        depth = None if maker.depth is None else self._depth_of(shot, maker, frames)
        for window, follower in pairwise([*windows, None]):
            if window is None or self._is_done(window):
                continue
            self._do_window(maker, window, follower, frames.get(window.start, window.stop), depth)
            advance(window.emit_stop - window.emit_start)
        if depth is not None:
            depth.remove()

    def _depth_of(self, shot: Shot, maker: Maker, frames: Sliding[Frame]) -> ShotDepth:
        assert maker.depth is not None  # else it is not called

        def read(start: int, stop: int) -> list[Pixels]:
            return [frame.rgb() for frame in frames.get(start, stop)]

        depth = ShotDepth(maker.depth, shot, read, self._work.folder("depth"))
        if maker.depth.relative or maker.whole_shots:
            with self._report.stage(f"depth of shot {shot.index + 1}", len(shot)) as advance:
                depth.prepare(advance)
        return depth

    def _do_window(
        self,
        maker: Maker,
        window: Window,
        follower: Window | None,
        frames: list[Frame],
        depth: ShotDepth | None,
    ) -> None:
        shared = self._work.load_tail(window.index - 1) if window.shared else None
        results, made = maker.make(window, frames, depth, shared)
        if follower is not None and follower.shared and made is not None:
            self._work.save_tail(window.index, made[:, -follower.shared :])
        for name, pictures in results.items():
            encoding = self._task.targets[name].encoding
            if encoding is None:
                save_arrays(self._piece(name, window), rgb=np.stack(next(iter(pictures)), axis=-1))
            else:
                encode(pictures, encoding, self._piece(name, window))
        if window.shared:
            self._work.drop_tail(window.index - 1)

    def _piece(self, name: str, window: Window) -> Path:
        return self._work.folder(name) / f"{window.index:06d}.npz"

    def _is_done(self, window: Window) -> bool:
        return all(self._piece(name, window).exists() for name in self._task.targets)

    def _join(self, film: Survey, windows: Iterable[Window]) -> None:
        video = self._task.video
        for name, target in self._task.targets.items():
            if target.path.exists() and name in self._work.joined:
                continue  # by an earlier run, which was stopped before it had joined all
            self._work.mark_joined(name)
            pieces = [self._piece(name, window) for window in windows]
            if target.encoding is None:
                save_picture(pieces[0], target.path)
            else:
                others, times = self._task.others(target, film), video.info.time_base
                assemble(pieces, target.encoding, target.layout, times, film, others, target.path)
            fields = {"file": str(target.path), "memory": self._memory()}
            self._report.say(Event("done", f"{target.path} is complete", fields))


def save_picture(piece: Path, path: Path) -> None:
    """Write the one picture of a piece."""
    with load_arrays(piece) as kept:
        done, data = cv2.imencode(path.suffix, np.ascontiguousarray(kept["rgb"][..., ::-1]))
    if not done:
        raise UserError(f"{path} can't be written as {path.suffix}")
    with whole(path, "when that is mended, the same command finishes it") as temporary:
        temporary.write_bytes(data.tobytes())
