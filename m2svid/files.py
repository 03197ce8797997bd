"""Files and folders that appear whole or not at all, the only place that writes them so; their order and
checksums."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from m2svid.errors import UserError


@contextmanager
def whole(path: Path, note: str = "") -> Iterator[Path]:
    """Give a temporary path beside `path`, which replaces `path` when the block ends without an error.

    Make a file or a folder of the temporary name; missing parent folders are made. Whatever ends the block,
    an exception or Ctrl-C, the temporary one is removed, and `path` stays as it was. A killed process leaves
    a hidden `.NAME.unfinished`, which the next run writes anew.

        with whole(path) as temporary:
            temporary.write_text(text)

    Args:
        path: the file, or a folder that doesn't exist yet.
        note: end of the error's sentence: what the user can do, or what is kept.

    Raises:
        UserError: it can't be written, for instance because the disk is full.
    """
    temporary = path.with_name(f".{path.name}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(temporary)
        yield temporary
        for file in temporary.rglob("*") if temporary.is_dir() else [temporary]:
            _flush(file)  # else a power cut could leave the name without the content
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{path} can't be written: {reason}{note and f'; {note}'}") from error
    finally:
        _remove(temporary)


def save_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write an npz whole or not at all. Raises UserError where it can't be written."""
    with whole(path, "what is done so far is kept") as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def _flush(file: Path) -> None:
    if file.is_file():
        with file.open("rb+") as stream:
            os.fsync(stream.fileno())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # what can't be removed can't be written either, which is said
            path.unlink(missing_ok=True)


def checksum(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def natural(path: Path) -> tuple[list[str | int], str]:
    """Give the key by which f2.png comes before f10.png: digits of a name count as numbers."""
    parts = re.split(r"(\d+)", path.name)  # text and digits in turn
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], path.name
