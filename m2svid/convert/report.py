"""Progress of a run: bars for people, a line of JSON for every event for scripts, calls for programs, or
nothing."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

Mode = Literal["bar", "quiet", "json"]
Advance = Callable[[int], None]


@dataclass(frozen=True)
class Event:
    """Something that a user may want to know.

    Attributes:
        name: of this kind of event, for scripts.
        text: one line for people.
        fields: the same as named values, for scripts.
    """

    name: str
    text: str
    fields: Mapping[str, Any] = field(default_factory=dict)


Listener = Callable[[Event], None]
"""Called with every event, progress included; from several threads, of which one may be the caller's."""


class Reporter:
    """Tell what happens.

    Args:
        mode: "bar" for people, "json" for scripts (one object a line on standard error), "quiet"; or what is
            called with every event.
    """

    def __init__(self, mode: Mode | Listener = "bar") -> None:
        self._bar = mode == "bar"
        self._listen = {"bar": self._show, "json": _write, "quiet": _ignore}.get(mode, mode)
        self._console = Console(stderr=True, highlight=False)
        self._bars = _Bars(self._console)

    def say(self, event: Event) -> None:
        """Tell of an event at once."""
        self._listen(event)

    def _show(self, event: Event) -> None:
        self._console.print(event.text, markup=False, soft_wrap=True)

    @contextmanager
    def stage(self, name: str, total: int, done: int = 0) -> Iterator[Advance]:
        """Give a function to call with the number of frames just done, while the context lasts.

        Stages may lie within each other, and in several threads.

        Args:
            name: of the stage.
            total: frames; 0 = not known.
            done: frames finished by an earlier run.
        """
        if self._bar:
            with self._bars.bar(name, total, done) as advance:
                yield advance
        else:
            yield self._events(name, total, done)

    def _events(self, name: str, total: int, done: int) -> Advance:
        """An event for every step of more than one frame."""
        count, began = done, time.monotonic()

        def advance(frames: int) -> None:
            nonlocal count
            count += frames
            if frames > 1:
                speed = round((count - done) / max(time.monotonic() - began, 1e-9), 2)
                facts = {"stage": name, "frames": frames, "done": count, "total": total, "speed": speed}
                self.say(Event("progress", f"{name}: {count} of {total or '?'} frames", facts))

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


def _write(event: Event) -> None:
    sys.stderr.write(json.dumps({"event": event.name, "text": event.text, **event.fields}) + "\n")


def _ignore(event: Event) -> None:
    pass
