"""Runs as their folders show them: steps, results, checkpoints, films. No checkpoint is opened."""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from os import stat_result
from os.path import samestat
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple

import yaml

from m2svid.errors import UserError
from m2svid.evaluation.results import MODEL, Results
from m2svid.report.columns import compared
from m2svid.training.runs import CONFIG, LAST
from m2svid.ui.access import Access
from m2svid.ui.events import PREFIX, RunEvents

_RESULTS = re.compile(r"(val|test)_step(\d+)_.+\.json")
_CHECKPOINT = re.compile(r"step=(\d+)\.ckpt")
_MAX_STEPS = re.compile(r"^trainer:\n(?: .*\n)*?  max_steps: (\d+)$", re.MULTILINE)
_QUIET = 600  # s without a change after which a run doesn't count as active any more
_KEPT = 64  # runs whose curves stay in memory


@dataclass(frozen=True)
class Scores:
    """What a file of results says of all videos together."""

    file: str
    stage: str
    step: int
    method: str
    dataset: str
    videos: int
    means: dict[str, float]

    def main(self) -> dict[str, float]:
        """Means over the whole view that have a better and a worse, as STAGE/DATASET/METRIC."""
        return {
            f"{self.stage}/{self.dataset}/{name}": mean
            for name, mean in self.means.items()
            if compared(name) and name.rpartition("_")[2] not in ("inside", "outside")
        }


class _Known(NamedTuple):
    """A row of the list, and what its run looked like."""

    files: Sequence[str]
    stamp: list[tuple[int, int] | None]
    row: dict[str, Any]


class RunFolders:
    """The runs in a folder.

    Args:
        access: what may be read.
        folder: with a folder for each run.
    """

    def __init__(self, access: Access, folder: Path) -> None:
        self.access = access
        self.folder = folder.absolute()
        self._lock = threading.Lock()
        self._events: OrderedDict[Path, RunEvents] = OrderedDict()
        self._rows: dict[str, _Known] = {}
        self._scores: dict[Path, tuple[tuple[int, int], Scores]] = {}

    def place(self, name: str) -> Path:
        """The folder of a run.

        Raises:
            UserError: there is none of that name, or it may not be read.
        """
        if not name or Path(name).name != name or name.startswith((".", "-")):
            raise UserError(f"{name!r} is no name of a run")
        path = self.access.readable(str(self.folder / name))
        if not path.is_dir():
            raise UserError(f"there is no run {name} in {self.folder}")
        return path

    def events(self, name: str, seconds: float = 1.0) -> RunEvents:
        """The event files of a run, read on for some seconds at most."""
        path = self.place(name)
        for file in path.glob(f"{PREFIX}*"):
            self.access.readable(str(file))
        with self._lock:
            events = self._events.setdefault(path, RunEvents(path))
            self._events.move_to_end(path)
            if len(self._events) > _KEPT:
                self._events.popitem(last=False)
        events.read(seconds)
        return events

    # ------------------------------------------------------------------ the list

    def listed(self) -> list[dict[str, Any]]:
        """All runs: name, state, step, newest means; none where the folder isn't there yet."""
        if not self.folder.is_dir():
            return []
        names = sorted(path.name for path in self.folder.iterdir() if path.is_dir())
        return [row for name in names if not name.startswith(".") and (row := self._row_or_reason(name))]

    def _row_or_reason(self, name: str) -> dict[str, Any] | None:
        try:
            return self._row(name)
        except (UserError, OSError) as error:  # a link to elsewhere, a folder of somebody else
            return {"name": name, "state": "refused", "step": None, "metrics": {}, "notes": [str(error)]}

    def _row(self, name: str) -> dict[str, Any] | None:
        path = self.place(name)
        known = self._rows.get(name)
        if known is not None and known.stamp == _stamp(path, known.files):
            return known.row
        files = [file.name for file in path.iterdir()]
        logged = [file for file in files if file.startswith(PREFIX)]
        if not logged and CONFIG not in files and not any(map(_RESULTS.fullmatch, files)):
            return None
        watched = (".", "checkpoints", CONFIG, *logged)
        stamp = _stamp(path, watched)
        row = self._described(name, path, files, max(status[0] for status in stamp if status) / 1e9)
        if row["state"] != "active":  # which changes with time alone
            self._rows[name] = _Known(watched, stamp, row)
        return row

    def _described(self, name: str, path: Path, files: list[str], changed: float) -> dict[str, Any]:
        newest = [file for file in _newest_results(files) if _is_of_model(path / file)]
        saved = [int(found[1]) for found in map(_CHECKPOINT.fullmatch, _names(path / "checkpoints")) if found]
        steps = [*saved, *(int(_RESULTS.fullmatch(file)[2]) for file in newest)]
        end, active = _max_steps(path / CONFIG), time.time() - changed < _QUIET
        if active:
            steps.append(self.events(name, 0.2).step)
        step = max(steps, default=-1)
        scores, notes = self._read(path, newest)
        return {
            "name": name,
            "state": "finished" if end is not None and step >= end else "active" if active else "idle",
            "step": step if step >= 0 else None,
            "max_steps": end,
            "changed": changed,
            "metrics": {metric: mean for each in scores for metric, mean in each.main().items()},
            "notes": notes,
        }

    def _read(self, path: Path, files: list[str]) -> tuple[list[Scores], list[str]]:
        """Means in files of results, and sentences on files that can't be read."""
        read, notes = [], []
        for file in files:
            try:
                read.append(self._read_scores(path / file))
            except UserError as error:
                notes.append(str(error))
        return read, notes

    def _read_scores(self, path: Path) -> Scores:
        status = path.stat()
        version = (status.st_mtime_ns, status.st_size)
        known = self._scores.get(path)
        if known is None or known[0] != version:
            stage, step = _RESULTS.fullmatch(path.name).groups()
            results = Results.read(self.access.readable(str(path)))
            scores = Scores(
                path.name,
                stage,
                int(step),
                results.method,
                results.dataset,
                len(results.videos),
                results.means,
            )
            self._scores[path] = known = (version, scores)
        return known[1]

    # ------------------------------------------------------------------- one run

    def scores(self, name: str) -> tuple[list[Scores], list[str]]:
        """Means in all results of a run, tests first and the newest first, and what can't be read."""
        path = self.place(name)
        found, notes = self._read(path, sorted(filter(_RESULTS.fullmatch, _names(path))))
        found.sort(key=lambda s: (s.stage != "test", -s.step, s.dataset, s.method != MODEL, s.method))
        return found, notes

    def results(self, name: str, file: str) -> Path:
        """A file of results of a run.

        Raises:
            UserError: the run has no such file.
        """
        path = self.place(name) / file
        if not _RESULTS.fullmatch(file) or not path.is_file():
            raise UserError(f"the run {name} has no results {file!r}")
        return self.access.readable(str(path))

    def checkpoints(self, name: str) -> list[dict[str, Any]]:
        """A run's checkpoints, the newest first: name, step, size in bytes, time, whether it is the last."""
        folder = self.place(name) / "checkpoints"
        last, found = _status(folder / LAST), []
        for file in _names(folder):
            step, status = _CHECKPOINT.fullmatch(file), _status(folder / file)
            if step and status and S_ISREG(status.st_mode):
                found.append(
                    {
                        "name": file,
                        "step": int(step[1]),
                        "bytes": status.st_size,
                        "changed": status.st_mtime,
                        "last": last is not None and samestat(last, status),
                    }
                )
        return sorted(found, key=lambda checkpoint: -checkpoint["step"])

    def predictions(self, name: str) -> dict[str, str]:
        """The films that `predict` wrote, both views side by side, by dataset and key."""
        folder, end = self.place(name) / "predictions", ".sbs.mp4"
        films = sorted(folder.rglob(f"*{end}"))
        return {str(film.relative_to(folder)).removesuffix(end): str(film) for film in films}

    def configuration(self, name: str) -> dict[str, Any]:
        """The options in a run's configuration; classes stay names.

        Raises:
            UserError: there is none, or it is damaged.
        """
        path = self.access.readable(str(self.place(name) / CONFIG))
        try:
            options = yaml.safe_load(path.read_text())
        except FileNotFoundError as error:
            raise UserError(f"the run {name} has no {CONFIG}: its training never began") from error
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UserError(f"{path} can't be read as YAML") from error
        if not isinstance(options, dict):
            raise UserError(f"{path} holds no options")
        return options


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _newest_results(files: list[str]) -> list[str]:
    """Those of the largest step of validation, and of tests."""
    found = [(match[1], int(match[2]), match[0]) for match in map(_RESULTS.fullmatch, files) if match]
    largest = {stage: max(s for other, s, _ in found if other == stage) for stage, _, _ in found}
    return sorted(file for stage, step, file in found if step == largest[stage])


def _status(path: Path) -> stat_result | None:
    """None where there is no such file any more: a run at work removes its earlier checkpoints."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _stamp(folder: Path, names: Sequence[str]) -> list[tuple[int, int] | None]:
    """Time of the last change in ns and size of files and folders; None where there is none."""
    found = [_status(folder / name) for name in names]
    return [None if status is None else (status.st_mtime_ns, status.st_size) for status in found]


def _is_of_model(path: Path) -> bool:
    """Whether results are the trained model's: the beginning says so, and reading all takes long."""
    with path.open("rb") as file:
        return f'"method": "{MODEL}"'.encode() in file.read(200)


def _max_steps(config: Path) -> int | None:
    """The end of the training; the rest of the YAML would take a folder of 1,000 runs some seconds."""
    found = _MAX_STEPS.search(config.read_text(errors="replace")) if config.is_file() else None
    return int(found[1]) if found else None
