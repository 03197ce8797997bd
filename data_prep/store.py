"""The folder of the shards, local or behind fsspec (`s3://`, `gs://`); files appear whole or not at all."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
from filelock import FileLock, Timeout
from fsspec.implementations.local import LocalFileSystem

from data_prep.dataset import fingerprint
from m2svid.errors import UserError
from m2svid.files import whole


class Store:
    """Files of one output folder, by name; names may have one folder before them.

    Args:
        url: a path or a URL that fsspec knows.

    Raises:
        UserError: fsspec has no such protocol, or its package is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            self.files, root = fsspec.url_to_fs(url)
        except ImportError as error:
            raise UserError(f"{url} needs another package: pip install 'm2svid[cloud]'") from error
        except ValueError as error:
            raise UserError(f"{url} can't be opened: {error}") from error
        self.url, self._root = url, str(root).rstrip("/")
        self.is_local = isinstance(self.files, LocalFileSystem)

    def path(self, name: str) -> str:
        """The place of a file, as the file system names it."""
        return f"{self._root}/{name}"

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Bytes of the files by name, sorted; hidden ones left out."""
        self.files.invalidate_cache()
        prefix = f"{folder}/" if folder else ""
        try:
            entries = self.files.ls(f"{self._root}/{folder}".rstrip("/"), detail=True)
        except FileNotFoundError:
            return {}
        found = {Path(entry["name"]).name: entry["size"] for entry in entries if entry["type"] == "file"}
        return {f"{prefix}{name}": found[name] for name in sorted(found) if not name.startswith(".")}

    def names(self, suffix: str, folder: str = "") -> list[str]:
        """Names of the files with a suffix, sorted; hidden ones left out."""
        return [name for name in self.sizes(folder) if name.endswith(suffix)]

    def read_json(self, names: Iterable[str]) -> dict[str, Any]:
        """The JSON files of these names that are there.

        Raises:
            UserError: one of them is no JSON.
        """
        paths = {self.path(name): name for name in names}
        found = self.files.cat(list(paths), on_error="omit") if paths else {}
        if isinstance(found, bytes):  # of a single path
            found = {next(iter(paths)): found}
        values = {}
        for path, data in found.items():
            try:
                values[paths[path]] = json.loads(data)
            except ValueError as error:
                raise UserError(
                    f"{path} is damaged and no JSON: delete it to make its shard again"
                ) from error
        return values

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file, or replace it."""
        with self.writing(name) as path:
            path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Give a temporary path on this machine; at the end of the block the file gets its name.

        Raises:
            UserError: it can't be written, for instance because the disk is full.
        """
        if self.is_local:
            with whole(
                Path(self.path(name)), "finished shards are kept, and the same command continues"
            ) as path:
                yield path
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(name).name
            yield path
            try:
                self.files.put_file(str(path), self.path(name))
            except OSError as error:
                raise UserError(f"{self.url}/{name} can't be written: {error}") from error

    @contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        """Give the path of the file, or of a copy of it on this machine for the time of the block."""
        if self.is_local:
            yield Path(self.path(name))
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(name).name
            self.files.get_file(self.path(name), str(path))
            yield path

    def remove(self, name: str) -> None:
        """Delete a file if it is there."""
        try:
            self.files.rm_file(self.path(name))
        except FileNotFoundError:
            return

    @contextmanager
    def locked(self, part: str = "") -> Iterator[None]:
        """Keep other runs out of the folder for the time of the block.

        An object store has no locks: for it, runs on other machines are not noticed.

        Args:
            part: name of the share of the work that this run does; runs with other shares are let in, a run
                without one is not. Empty for all of it.

        Raises:
            UserError: another run is at work there.
        """
        folder = (
            Path(self._root)
            if self.is_local
            else Path(tempfile.gettempdir()) / f"m2svid-{fingerprint(self.url)}"
        )
        folder.mkdir(parents=True, exist_ok=True)
        own = folder / f".lock{part and '-'}{part}"
        with _held(own, self.url):
            others = folder.glob(".lock*") if not part else folder.glob(".lock")
            for other in others:
                if other != own:
                    with _held(other, self.url):
                        pass
            yield


@contextmanager
def _held(path: Path, url: str) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"another run is working in {url}: wait for it, or stop it") from error
    try:
        yield
    finally:
        lock.release()
