"""The films that `convert` is given, and the names of what it makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from m2svid.convert.options import StereoOptions
from m2svid.errors import UserError
from m2svid.video.layouts import LAYOUTS
from m2svid.video.read import IMAGE_SUFFIXES, VIDEO_SUFFIXES

EYES = ("_left", "_right")  # files of the layout `pair`
_MADE = {layout.suffix for layout in LAYOUTS.values() if layout.suffix} | {*EYES, "_depth", "_depth_preview"}


def find_films(given: str) -> tuple[list[Path], list[Path]]:
    """Find films: a folder holds films, or the pictures of one; a glob names any of them.

    Returns:
        The films; and files of a folder or glob that are left out, because their names say that they were
        made of another film beside them.

    Raises:
        UserError: nothing is found.
    """
    if Path(given).is_file():
        return [Path(given)], []
    paths = [Path(given)] if Path(given).exists() else _glob(Path(given))
    if not paths:
        raise UserError(f"{given} does not exist")
    films: list[Path] = []
    for path in paths:
        inside = sorted(path.iterdir()) if path.is_dir() else []
        films += [file for file in inside if file.suffix.lower() in VIDEO_SUFFIXES] or [path]
    made = {film.with_name(film.stem + end).with_suffix("") for film in films for end in _MADE}
    outputs = [film for film in films if film.with_suffix("") in made]
    return [film for film in films if film not in outputs], outputs


def _glob(pattern: Path) -> list[Path]:
    root = Path(pattern.anchor)
    return sorted(root.glob(str(pattern.relative_to(root))))


def output_name(film: Path, output: Path | None, options: StereoOptions, several: bool = False) -> Path:
    """Name the stereo film of a film."""
    if output is not None and not several and not output.is_dir():
        return output
    folder = film.parent if output is None else output
    suffix = ".mp4"
    if film.suffix.lower() in IMAGE_SUFFIXES:
        suffix = ".png"
    elif film.suffix.lower() == ".mkv" or options.codec == "ffv1":
        suffix = ".mkv"
    elif options.codec == "prores":
        suffix = ".mov"
    return folder / f"{film.stem}{LAYOUTS[options.layout].suffix}{suffix}"


def output_names(films: Sequence[Path], output: Path | None, options: StereoOptions) -> dict[Path, Path]:
    """Name the stereo film of every film.

    Raises:
        UserError: one name is given for several films, or two films would get one.
    """
    several = len(films) > 1
    if several and output is not None and output.suffix:
        raise UserError(f"-o {output} names one file, but there are {len(films)} films: name a folder")
    names: dict[Path, Path] = {}
    for film in films:
        name = output_name(film, output, options, several)
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
