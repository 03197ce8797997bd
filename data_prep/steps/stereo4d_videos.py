"""Index of the videos of Stereo4D's clips: raw ones, or finished views, which may be in tars."""

from __future__ import annotations

import re
import tarfile
from dataclasses import dataclass
from pathlib import Path

from data_prep.steps.annotations import video_id_of
from m2svid.errors import UserError
from m2svid.video.read import VIDEO_SUFFIXES

_PAIR = re.compile(r"(.+)-(left|right)_rectified")


@dataclass(frozen=True)
class Stereo4DVideos:
    """Raw videos by video id; places of finished views by clip and eye, `tar::member` for those in tars."""

    raw: dict[str, Path]
    pairs: dict[str, dict[str, str]]


def find_stereo4d_videos(folder: Path) -> Stereo4DVideos:
    """Look through a folder and its subfolders.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"--videos {folder}: there is no such folder")
    files = Stereo4DVideos({}, {})
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".tar":
            with tarfile.open(path) as tar:
                names = [(Path(member.name), f"{path}::{member.name}") for member in tar if member.isfile()]
        elif path.suffix.lower() in VIDEO_SUFFIXES:
            names = [(path, str(path))]
        else:
            continue
        for name, place in names:
            if match := _PAIR.fullmatch(name.stem):
                files.pairs.setdefault(match[1], {}).setdefault(match[2], place)
            elif "::" not in place:
                bracketed = re.search(r"\[([\w-]{11})\]", name.stem)
                files.raw.setdefault(bracketed[1] if bracketed else video_id_of(name.stem), name)
    return files


def unpacked(place: str, folder: Path) -> Path:
    """The file of a place; one in a tar is put into `folder`."""
    archive, inside, member = place.partition("::")
    if not inside:
        return Path(place)
    path = folder / Path(member).name
    with tarfile.open(archive) as tar:
        path.write_bytes(tar.extractfile(member).read())
    return path
