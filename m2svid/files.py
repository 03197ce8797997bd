"""Files: what may be written, what appears whole or not at all (the only place that writes so), order and
checksums."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from m2svid.errors import UserError


def url(path: Path) -> str:
    """A file's name as FFmpeg takes it, which takes what is before a colon for a protocol."""
    return f"file:{path}"


def check_output(output: Path, inputs: Iterable[Path | None]) -> None:
    """Check, before the work begins, that a file can have its name, and replaces nothing that it is made of.

    Args:
        output: the file.
        inputs: files and folders, by any names; those that aren't there, and None, don't matter.

    Raises:
        UserError: the output is one of the inputs, by whatever path, link or letter case, or lies in one; its
            name is too long; or its folder can't be written to.
    """
    if os.path.isdir(output.parent) and not os.access(output.parent, os.W_OK | os.X_OK):  # noqa: PTH112
        raise UserError(f"the folder {output.parent} can't be written to: name an output in another one")
    longest = _longest_name(output.parent) - len(_unfinished(""))
    if len(os.fsencode(output.name)) > longest:
        raise UserError(
            f"the name {output.name} is too long: the file system takes {longest} bytes for it; give a "
            "shorter one with -o"
        )
    for given in filter(None, inputs):
        if _same(output, given):
            raise UserError(
                f"{output} is the input {given}, which is never written over: name another output"
            )
        if _same(output.parent, given):
            raise UserError(f"{output} lies in the input {given}: name an output in another folder")


def _same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:  # one of them isn't there
        return False


def _longest_name(folder: Path) -> int:
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, AttributeError):  # the folder isn't there yet; Windows
        return 255


def _unfinished(name: str) -> str:
    return f".{name}.unfinished"


def split_name(word: str) -> tuple[str, Path]:
    """Split a word NAME=PATH, or PATH, whose name is "". Either may hold a `=`: the path is the longest end
    that exists, or what is behind the first `=`."""
    ends = [word, *(word.split("=", count)[-1] for count in range(1, word.count("=") + 1))]
    place = next((end for end in ends if end and Path(end).exists()), ends[min(1, len(ends) - 1)])
    return word.removesuffix(place).removesuffix("="), Path(place)


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
    temporary = path.with_name(_unfinished(path.name))
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


@contextmanager
def load_arrays(path: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """Give the arrays of an npz while the context lasts. Raises UserError where it is damaged or missing."""
    try:
        with np.load(path) as arrays:
            yield arrays
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged: give --restart to make it again") from error


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
