"""What a run tells while it works: progress bars, nothing, or a line of JSON for every event."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

Mode = Literal["bar", "quiet", "json"]
Advance = Callable[[int], None]


class Reporter:
    """Args:
    mode: "bar" for people, "json" for scripts (one object a line on standard error), "quiet".
    """

    def __init__(self, mode: Mode = "bar") -> None:
        self._mode = mode
        self._console = Console(stderr=True, highlight=False)
        self._bars = _Bars(self._console)

    def say(self, event: str, text: str, **facts: Any) -> None:
        """One sentence for people, the same as named facts for scripts."""
        if self._mode == "json":
            _write(event=event, text=text, **facts)
        elif self._mode == "bar":
            self._console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def stage(self, name: str, total: int, done: int = 0) -> Iterator[Advance]:
        """Gives what is to be called with the number of frames that were done while the context lasts.

        Stages may lie within each other, and in several threads.

        Args:
            name: of the stage.
            total: frames; 0 = not known.
            done: frames finished by an earlier run.
        """
        if self._mode == "bar":
            with self._bars.bar(name, total, done) as advance:
                yield advance
        else:
            yield self._lines(name, total, done)

    def _lines(self, name: str, total: int, done: int) -> Advance:
        """A line of JSON for every step of more than one frame."""
        count, began = done, time.monotonic()

        def advance(frames: int) -> None:
            nonlocal count
            count += frames
            if self._mode == "json" and frames > 1:
                speed = (count - done) / max(time.monotonic() - began, 1e-9)
                facts = {"stage": name, "frames": frames, "done": count, "total": total}
                _write(event="progress", **facts, speed=round(speed, 2))

        return advance


class _Bars:
    """Progress bars below each other; one that ends goes away, unless it was the only one."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._open: list[TaskID] = []
        self._progress: Progress | None = None

    @contextmanager
    def bar(self, name: str, total: int, done: int) -> Iterator[Advance]:
        with self._lock:
            progress = self._progress = self._progress or self._started()
            task = progress.add_task(name, total=total or None, completed=done, speed=0.0)
            self._open.append(task)
        count, began = 0, time.monotonic()

        def advance(frames: int) -> None:
            nonlocal count
            count += frames
            speed = count / max(time.monotonic() - began, 1e-9)
            progress.update(task, advance=frames, speed=speed)

        try:
            yield advance
        finally:
            with self._lock:
                self._open.remove(task)
                if self._open:
                    progress.remove_task(task)
                else:
                    progress.stop()
                    self._progress = None

    def _started(self) -> Progress:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        speed = TextColumn("{task.fields[speed]:.1f} frames/s")
        progress = Progress(*columns, speed, TimeRemainingColumn(), console=self._console)
        progress.start()
        return progress


def _write(**facts: Any) -> None:
    sys.stderr.write(json.dumps(facts) + "\n")
