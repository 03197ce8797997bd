"""The verb `convert`: any film in, a stereo film out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from m2svid.convert.options import Options
from m2svid.convert.report import Reporter
from m2svid.convert.setup import load_model, make_conversion, pick_devices
from m2svid.errors import UserError
from m2svid.video.layouts import LAYOUTS
from m2svid.video.read import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Video


def convert(input: str, output: Path | None = None, **options: Any) -> None:
    """Convert films into stereo films.

    Args:
        input: a film, a picture, a folder of films, a folder of pictures (one film), or a quoted glob.
        output: the stereo film, or a folder for several; if not given, it lies beside the input, with a name
            by which players recognise it.
        **options: how.

    Raises:
        UserError: a mistake; with several inputs, after all others were converted.
    """
    chosen = Options(**options)
    report = Reporter(chosen.progress)
    films = find_films(input)
    several = len(films) > 1
    if several and output is not None and output.suffix:
        raise UserError(f"-o {output} names one file, but there are {len(films)} films: name a folder")
    devices = pick_devices(chosen.devices)
    models = [load_model(chosen, device) for device in devices]
    failed = []
    for film in films:
        target = output_name(film, output, chosen, several)
        if several and target.exists() and not chosen.restart:
            report.say("skipped", f"{target} exists: skipped", file=str(target))
            continue
        try:
            video = Video(film, chosen.rate)
            jobs = [
                make_conversion(video, target, chosen, model, device, report)
                for model, device in zip(models, devices, strict=True)
            ]
            jobs[0].run(jobs[1:])
        except UserError as error:
            if not several:
                raise
            failed.append(film)
            report.say("failed", f"{film}: {error}", file=str(film))
    if failed:
        raise UserError(f"{len(failed)} of {len(films)} films failed: {', '.join(map(str, failed))}")


def find_films(given: str) -> list[Path]:
    """Files and folders as single films: a folder holds films, or the pictures of one.

    Raises:
        UserError: nothing is found.
    """
    paths = [Path(given)] if Path(given).exists() else _glob(Path(given))
    if not paths:
        raise UserError(f"{given} does not exist")
    films: list[Path] = []
    for path in paths:
        inside = sorted(path.iterdir()) if path.is_dir() else []
        films += [file for file in inside if file.suffix.lower() in VIDEO_SUFFIXES] or [path]
    return films


def _glob(pattern: Path) -> list[Path]:
    root = Path(pattern.anchor)
    return sorted(root.glob(str(pattern.relative_to(root))))


def output_name(film: Path, output: Path | None, options: Options, several: bool) -> Path:
    """Where the stereo film of `film` goes."""
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
