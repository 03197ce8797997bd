"""A worker process and its supervisor: a clip that kills workers is tried again, and at last avoided."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import cv2
import torch

from data_prep.shard_task import Watch
from m2svid.errors import UserError

log = logging.getLogger(__name__)

Work = Callable[[Any, Watch], Any]
"""Does an item of work and returns a small report. Must be picklable, as are items and reports."""


class Child:
    """A process that does items of work one after the other; started when it is needed, and anew when it
    dies.

    Args:
        work: what it does.
        tries: so many deaths at the same clip or video, and it is avoided.
    """

    def __init__(self, work: Work, tries: int) -> None:
        self._work, self._tries = work, tries
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None
        self._closed = False

    def run(self, item: Any) -> Any:
        """Do an item of work.

        Raises:
            UserError: the work was refused, as on a full disk.
            RuntimeError: the work has a fault; the process has written a traceback.
        """
        deaths: Counter[str] = Counter()
        avoid: dict[str, str] = {}
        while True:
            begun, outcome = self._attempt(item, avoid)
            if outcome is not None:
                kind, value = outcome
                if kind == "refused":
                    raise UserError(value)
                return value
            code = self._process.exitcode
            self._process = None
            if self._closed:
                raise UserError("the run was stopped")
            if code == 1 or not begun:  # a traceback, or it didn't get as far as the work
                raise RuntimeError(f"a worker process ended with exit code {code}; its last words are above")
            deaths[begun] += 1
            cause = f"signal {-code}, {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            log.warning("a worker died at %s (%s), the %d. time", begun, cause, deaths[begun])
            if deaths[begun] >= self._tries:
                if begun in avoid:
                    raise RuntimeError(f"workers die at {begun} although it is avoided ({cause})")
                avoid[begun] = f"killed its worker: {self._tries} workers died of it ({cause})"

    def _attempt(self, item: Any, avoid: dict[str, str]) -> tuple[str, tuple[str, Any] | None]:
        """The last name that was begun, and what came out; None if the process died."""
        begun = ""
        try:
            if self._process is None:
                self._start()
            self._connection.send((item, avoid))
            while True:
                kind, value = self._connection.recv()
                if kind != "begin":
                    return begun, (kind, value)
                begun = value
        except (EOFError, ConnectionError):
            self._process.join()
            return begun, None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._work), daemon=True)
        self._process.start()
        theirs.close()

    def close(self) -> None:
        """Stop the process at once; what it was writing is thrown away."""
        self._closed = True
        if self._process is not None and self._process.is_alive():
            self._process.kill()


def _serve(connection: Connection, work: Work) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the supervisor, which stops its children
    threading.Thread(target=_die_with_parent, daemon=True).start()
    single_threaded()
    while True:
        try:
            item, avoid = connection.recv()
        except EOFError:
            return
        try:
            result = work(item, Watch(avoid, lambda name: connection.send(("begin", name))))
        except UserError as error:
            connection.send(("refused", str(error)))
        else:
            connection.send(("done", result))


def _die_with_parent() -> None:
    """Two workers must never be at one shard: not even when their run was killed and started again."""
    multiprocessing.parent_process().join()
    os._exit(1)


def single_threaded() -> None:
    """As many workers as cores: libraries must not start threads of their own for each."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
