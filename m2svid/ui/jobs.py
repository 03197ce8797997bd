"""Jobs: what was asked for, as a file, and the process that does it, which outlives the server."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import psutil

import m2svid
from m2svid.errors import UserError
from m2svid.files import whole
from m2svid.ui.form import Order

State = Literal["waiting", "running", "paused", "done", "failed"]

_MISTAKE = "m2svid: "  # how the command line begins the sentence on a mistake
_INTERRUPTED = (130, -signal.SIGINT)  # status of an interrupted command, and of one that had not begun yet


@dataclass(frozen=True)
class Job:
    """A job as its file has it.

    Attributes:
        number: by which jobs come one after the other.
        title: for people.
        order: for a film, from which the words of the command are made anew whenever it is started.
        words: of another command.
        state: of the job.
        pid: of the process that does it, or did it last.
        text: a sentence on why it doesn't go on.
        files: that it has made.
    """

    number: int
    title: str
    order: Order | None = None
    words: Sequence[str] = ()
    state: State = "waiting"
    pid: int = 0
    text: str = ""
    files: Sequence[str] = ()


@dataclass
class Progress:
    """What the log of a job says since its process was last begun.

    Attributes:
        stage: of the work.
        done: frames of the stage.
        total: frames of the stage; 0 = not known.
        speed: frames a second.
        files: that are complete.
        mistake: the sentence that the command ended with.
        status: that it ended with; None = it has not said so.
    """

    stage: str = ""
    done: int = 0
    total: int = 0
    speed: float = 0.0
    files: list[str] = field(default_factory=list)
    mistake: str = ""
    status: int | None = None


class JobFiles:
    """The files of a job in the folder of the queue.

    Args:
        folder: of the queue.
        number: of the job.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._job, self._log, self._lock = (folder / f"{number:06d}.{end}" for end in ("json", "log", "lock"))
        self._place = 0
        self.progress = Progress()

    def save(self, job: Job) -> None:
        """Keep the job; its file is whole or not there."""
        with whole(self._job) as temporary:
            temporary.write_text(json.dumps(asdict(job), indent=1))

    def remove(self) -> None:
        """Throw the job's files away."""
        for path in (self._job, self._log, self._lock):
            path.unlink(missing_ok=True)

    def start(
        self, job: Job, words: Sequence[str], environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Start the process of a job. It holds a lock for as long as it lives, even if the server is gone.

        Args:
            job: that is done.
            words: behind `python -m m2svid`.
            environment: added to this process's.
        """
        root = str(Path(m2svid.__file__).parents[1])
        given = {**os.environ, **environment}
        given["PYTHONPATH"] = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        if job.order is not None:  # no module is imported from the folder that the server was started in
            words, given["PYTHONSAFEPATH"] = [*words, "--progress", "json"], "1"
        with self._log.open("ab") as log, self._lock.open("ab") as lock:
            log.write(b'{"event": "begun"}\n')
            log.flush()
            fcntl.flock(lock, fcntl.LOCK_EX)
            return subprocess.Popen(
                [sys.executable, "-m", "m2svid.ui.worker", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock.fileno()],
                env=given,
                start_new_session=True,  # Ctrl-C is for the server, which tells its jobs
            )

    @property
    def alive(self) -> bool:
        """Whether a process of the job is at work, of this server or of an earlier one."""
        with self._lock.open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def follow(self) -> bool:
        """Read what the log has gained; True if it has."""
        lines, _, _ = self._read(self._place).rpartition(b"\n")
        self._place += len(lines) + bool(lines)
        for line in _lines(lines):
            self._note(line)
        return bool(lines)

    def told(self, largest: int = 200_000) -> list[str]:
        """What the process has said, for people, without its progress; the last of it where it is much."""
        shown = []
        for line in _lines(self._read(-largest)):
            event = _event(line)
            if event is None:
                shown.append(line)
            elif "text" in event and event["event"] != "progress":
                shown.append(event["text"])
        return shown

    def _read(self, place: int) -> bytes:
        """The log from a place on; below 0, its end."""
        if not self._log.exists():
            return b""
        with self._log.open("rb") as log:
            log.seek(place if place >= 0 else max(0, self._log.stat().st_size + place))
            return log.read()

    def _note(self, line: str) -> None:
        event, progress = _event(line), self.progress
        if event is None:
            if line.startswith(_MISTAKE):
                progress.mistake = line.removeprefix(_MISTAKE)
        elif event["event"] == "begun":
            self.progress = Progress()
        elif event["event"] == "ended":
            progress.status = event["status"]
        elif event["event"] == "done":
            progress.files.append(event["file"])
        elif event["event"] == "progress":
            for name in ("stage", "done", "total", "speed"):
                setattr(progress, name, event[name])


def load(folder: Path) -> Iterator[Job]:
    """The jobs of a folder, in their order.

    Raises:
        UserError: the file of one is damaged.
    """
    for path in sorted(folder.glob("[0-9]*.json")):
        try:
            kept = json.loads(path.read_text())
            yield Job(**{**kept, "order": kept["order"] and Order(**kept["order"])})
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged: remove it to go on without this job") from error


def ended(job: Job, progress: Progress, status: int | None) -> Job:
    """The job after its process has ended.

    Args:
        job: before that.
        progress: all that its log says.
        status: that the process was seen to end with; None = nobody saw it.
    """
    said = status if progress.status is None else progress.status
    if said is None:  # with the machine, or killed
        return replace(job, state="waiting")
    if said == 0:
        return replace(job, state="done", files=progress.files)
    if said in _INTERRUPTED:
        return replace(job, state="paused")
    text = progress.mistake or f"its process ended with status {said}: the log may say why"
    return replace(job, state="failed", text=text)


def interrupt(pid: int) -> None:
    """Tell a process to stop as Ctrl-C does: it keeps what is done."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGINT)


def memory(pid: int) -> int:
    """Bytes of memory that a process takes; 0 where it is gone."""
    try:
        return psutil.Process(pid).memory_info().rss
    except psutil.Error:
        return 0


def _lines(log: bytes) -> list[str]:
    return log.decode(errors="replace").splitlines()


def _event(line: str) -> dict[str, Any] | None:
    """The event of a line of the log; None for other text."""
    with suppress(ValueError):
        return json.loads(line) if line.startswith('{"event"') else None
    return None
