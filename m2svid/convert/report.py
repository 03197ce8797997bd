"""What a run tells while it works: a progress bar, nothing, or a line of JSON for every event."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

Mode = Literal["bar", "quiet", "json"]


class Reporter:
    """Args:
    mode: "bar" for people, "json" for scripts (one object a line on standard error), "quiet".
    """

    def __init__(self, mode: Mode = "bar") -> None:
        self._mode = mode
        self._console = Console(stderr=True, highlight=False)
        self._bar: tuple[Progress, TaskID] | None = None
        self._stage = ""
        self._done, self._total, self._began = 0, 0, 0.0

    def say(self, event: str, text: str, **facts: Any) -> None:
        """One sentence for people, the same as named facts for scripts."""
        if self._mode == "json":
            sys.stderr.write(json.dumps({"event": event, "text": text, **facts}) + "\n")
        elif self._mode == "bar":
            console = self._bar[0].console if self._bar else self._console
            console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def stage(self, name: str, total: int, done: int = 0) -> Iterator[None]:
        """Frames are counted by `advance` while the context lasts.

        Args:
            name: of the stage.
            total: frames; 0 = not known.
            done: frames finished by an earlier run.
        """
        self._stage, self._total, self._done, self._began = name, total, 0, time.monotonic()
        if self._mode != "bar":
            yield
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        speed = TextColumn("{task.fields[speed]:.1f} frames/s")
        with Progress(*columns, speed, TimeRemainingColumn(), console=self._console) as progress:
            self._bar = (progress, progress.add_task(name, total=total or None, completed=done, speed=0.0))
            try:
                yield
            finally:
                self._bar = None

    def advance(self, frames: int = 1) -> None:
        self._done += frames
        speed = self._done / max(time.monotonic() - self._began, 1e-9)
        if self._bar is not None:
            progress, task = self._bar
            progress.update(task, advance=frames, speed=speed)
        elif self._mode == "json" and frames > 1:
            facts = {"stage": self._stage, "frames": frames, "total": self._total, "speed": round(speed, 2)}
            sys.stderr.write(json.dumps({"event": "progress", **facts}) + "\n")
