"""The work folder beside an output: finished pieces, and the settings they were made with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from m2svid.errors import UserError
from m2svid.files import load_arrays, save_arrays, whole

Settings = Mapping[str, Any]


class WorkFolder:
    """Pieces of an unfinished output; used as a context, which keeps a second run out.

    Args:
        output: the file that is being made; the folder lies beside it.
        settings: everything that the pieces depend on, as JSON.
        restart: throw pieces away that were made with other settings, instead of refusing.

    Raises:
        UserError: the settings differ from those of the pieces, or another run is at work.
    """

    def __init__(self, output: Path, settings: Settings, restart: bool = False) -> None:
        self.path = work_path(output)
        self._settings = json.loads(json.dumps(settings))
        self._restart = restart
        self._lock = FileLock(self.path / "lock")

    def __enter__(self) -> WorkFolder:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(f"another run is working in {self.path}: wait for it, or stop it") from error
        except OSError as error:
            raise UserError(f"the folder {self.path} can't be made: {error.strerror}") from error
        try:
            self._check_settings()
        except UserError:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        folders = [entry for entry in self.path.glob("*") if entry.is_dir()]
        begun = any(any(folder.iterdir()) for folder in folders)
        if not begun:  # nothing to continue: a mistake in the settings must not bind the next run
            self.remove()
        self._lock.release()

    def remove(self) -> None:
        """Throw the pieces away: the output is complete."""
        shutil.rmtree(self.path, ignore_errors=True)

    def folder(self, name: str) -> Path:
        """A folder in this one, made when something is written into it."""
        return self.path / name

    def piece(self, name: str, window: int) -> Path:
        """The piece of a result that a window gives."""
        return self.folder(name) / f"{window:06d}.npz"

    @property
    def joined(self) -> list[str]:
        """Names of the results whose files were begun to be joined; one that exists is whole."""
        return self.load_json("joined.json") or []

    def mark_joined(self, name: str) -> None:
        """Say that the file of a result is about to be joined."""
        self.save_json("joined.json", [*self.joined, name])

    def load_json(self, name: str) -> Any | None:
        """A record kept with `save_json`, or None. Raises UserError where it is damaged."""
        path = self.path / name
        try:
            return json.loads(path.read_text()) if path.exists() else None
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path} can't be read: give --restart to throw the unfinished work in its folder away"
            ) from error

    def save_json(self, name: str, value: Any) -> None:
        """Keep a record; it is whole or not there."""
        with whole(self.path / name) as temporary:
            temporary.write_text(json.dumps(value, indent=1))

    def save_tail(self, window: int, frames: np.ndarray) -> None:
        """Keep the frames that the next window shares."""
        save_arrays(self._tail(window), frames=frames)

    def load_tail(self, window: int) -> np.ndarray:
        """The frames kept of a window."""
        with load_arrays(self._tail(window)) as kept:
            return kept["frames"]

    def drop_tail(self, window: int) -> None:
        """Throw the frames kept of a window away."""
        self._tail(window).unlink(missing_ok=True)

    def _tail(self, window: int) -> Path:
        return self.folder("tail") / f"{window:06d}.npz"

    def _check_settings(self) -> None:
        if self._restart:
            for entry in self.path.iterdir():
                if entry.name != "lock":
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        known = self.load_json("settings.json")
        changed = [] if known is None else _changes(known, self._settings)
        if changed:
            raise UserError(
                f"{self.path} holds unfinished work with other settings ({'; '.join(changed)}): "
                "repeat those to continue it, or give --restart to throw it away"
            )
        self.save_json("settings.json", self._settings)


def work_path(output: Path) -> Path:
    """The work folder of an output."""
    return output.with_name(f"{output.name}.work")


def _changes(old: Settings, new: Settings) -> list[str]:
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return [f"{name} was {old.get(name)!r}, is {new.get(name)!r}" for name in names]


def file_stamp(path: Path) -> dict[str, Any]:
    """Name, size and time of a file or folder, by which a change is seen."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    stats = [file.stat() for file in files if file.is_file()]
    return {
        "path": str(path.resolve()),
        "bytes": sum(stat.st_size for stat in stats),
        "modified": max((stat.st_mtime_ns for stat in stats), default=0),
    }
