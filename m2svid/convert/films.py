"""The films that `convert` is given, and the names of what it makes of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from m2svid.convert.stereo_options import StereoOptions
from m2svid.errors import UserError
from m2svid.video.codecs import containers
from m2svid.video.layouts import LAYOUTS
from m2svid.video.read import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from m2svid.video.streams import best_container

EYES = ("_left", "_right")  # files of the layout `pair`
_STEREO = {layout.suffix for layout in LAYOUTS.values() if layout.suffix} | {*EYES}
_MADE = {*_STEREO, *(f"_preview{end}" for end in _STEREO), "_depth", "_depth_preview"}
_PART = re.compile(r"_[-.\dsf]+(\+|_to_)([-.\d]+[sf]?|end)$")  # see `_part`


def find_films(given: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Find films: a folder holds films or the pictures of one, a glob names any of them, all else is a film.

    Returns:
        The films; and those that are left out, because their names say that they were made of another one. A
        file that is named alone is not.

    Raises:
        UserError: a folder can't be read.
    """
    films = list(dict.fromkeys(film for each in given for film in _films(each)))
    if films == list(given) and len(films) == 1:
        return films, []
    sources = {film.with_suffix("") for film in films}
    outputs = [film for film in films if not sources.isdisjoint(_sources(film))]
    return [film for film in films if film not in outputs], outputs


def _sources(film: Path) -> set[Path]:
    """The films, without their endings, that one of this name may have been made of."""
    whole = {film.with_name(film.stem.removesuffix(end)) for end in _MADE if film.stem.endswith(end)}
    return whole | {path.with_name(_PART.sub("", path.name)) for path in whole}


def _films(given: Path) -> list[Path]:
    films: list[Path] = []
    try:
        paths = [given] if given.exists() else _glob(given)
        for path in paths:
            inside = sorted(path.iterdir()) if path.is_dir() else []
            films += [file for file in inside if file.suffix.lower() in VIDEO_SUFFIXES] or [path]
    except OSError as error:
        raise UserError(f"{given} can't be read: {error.strerror}") from error
    return films or [given]  # which isn't there; the others are


def _glob(pattern: Path) -> list[Path]:
    root = Path(pattern.anchor)
    return sorted(root.glob(str(pattern.relative_to(root))))


def output_path(given: Path | None, default: Path) -> Path:
    """The output that is named, in the folder that is named, or of the default name; a name without an ending
    is a folder's.

    Raises:
        UserError: the folder can't be made.
    """
    if given is None:
        return default
    if given.suffix and not given.is_dir():
        return given
    return made_folder(given) / default.name


def made_folder(folder: Path) -> Path:
    """A folder, which is made if it isn't there. Raises UserError where it can't be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {folder} can't be made: {error.strerror}") from error
    return folder


def output_name(film: Path, output: Path | None, options: StereoOptions) -> Path:
    """Name the stereo film of a film; that of a part says which."""
    suffix = ".png"
    if film.suffix.lower() not in IMAGE_SUFFIXES:
        allowed = containers(options.codec, LAYOUTS[options.layout].layers)
        matroska = film.suffix.lower() == ".mkv" and ".mkv" in allowed
        suffix = ".mkv" if matroska else best_container(film, allowed, options.drop_streams)
    stem = film.stem + _part(options.start, options.end) + LAYOUTS[options.layout].suffix
    return output_path(output, film.with_name(stem + suffix))


def _part(start: str | None, end: str | None) -> str:
    """Name a part, for instance _00-01-10+20s, _10f_to_50f or _70.5s_to_end."""
    if start is None and end is None:
        return ""
    length = end is not None and end.startswith("+")
    return f"_{start or '0s'}{'' if length else '_to_'}{end or 'end'}".replace(":", "-")


def output_names(
    films: Sequence[Path], output: Path | None, options: StereoOptions, alone: bool
) -> dict[Path, Path]:
    """Name the stereo film of every film.

    Args:
        films: to be converted.
        output: a folder, or a file if there is one film.
        options: of the stereo films.
        alone: whether one film was named; where a folder or glob was, there may be more of them next time.

    Raises:
        UserError: one name is given for several films, or two films would get one.
    """
    if not alone and output is not None and output.suffix and not output.is_dir():
        raise UserError(f"-o {output} names one file, but there may be several films: name a folder")
    names: dict[Path, Path] = {}
    for film in films:
        name = output_name(film, output, options)
        if name in names.values():
            other = next(film for film, taken in names.items() if taken == name)
            raise UserError(
                f"{other} and {film} would both become {name}: convert one of them by itself, with -o and "
                "another name"
            )
        names[film] = name
    return names


def result_files(output: Path, options: StereoOptions) -> dict[str, Path]:
    """Name of a result -> file: one, or one for each eye."""
    if options.layout != "pair":
        return {"film": output}
    return {end[1:]: output.with_stem(output.stem + end) for end in EYES}
