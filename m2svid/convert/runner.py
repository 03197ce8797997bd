"""A film through makers: shots and windows in order, on one device or several, each kept when finished."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from m2svid.convert.line import Line, is_done
from m2svid.convert.makers import Maker
from m2svid.convert.report import Advance, Event, Reporter
from m2svid.convert.setup import fit_depth
from m2svid.convert.task import Task
from m2svid.errors import UserError
from m2svid.files import load_arrays, whole
from m2svid.inference.memory import MemoryPlan, Plan
from m2svid.inference.windows import Window, plan_windows
from m2svid.video.mux import assemble
from m2svid.video.shots import Survey, survey


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
            done = sum(window.num_emitted for window in windows if is_done(self._task, self._work, window))
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
        lines = [Line(self._task, self._work, film, maker, self._report, advance) for maker in self._makers]
        if len(lines) == 1:  # in this thread, which Ctrl-C interrupts
            lines[0].run(waiting)
            return
        with ThreadPoolExecutor(len(lines)) as pool:
            results = [pool.submit(line.run, waiting) for line in lines]
            try:
                wait(results, return_when=FIRST_EXCEPTION)
            finally:
                waiting.clear()  # where one has failed, the others finish their shot and stop
            for result in results:
                result.result()

    def _join(self, film: Survey, windows: Iterable[Window]) -> None:
        video = self._task.video
        for name, target in self._task.targets.items():
            if target.path.exists() and name in self._work.joined:
                continue  # by an earlier run, which was stopped before it had joined all
            self._work.mark_joined(name)
            pieces = [self._work.piece(name, window.index) for window in windows]
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
