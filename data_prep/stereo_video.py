"""Turns rectified stereo videos, side by side or top-bottom, into shards."""

from __future__ import annotations

import logging
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

from jsonargparse import ArgumentParser
from rich.console import Console
from rich.logging import RichHandler

from data_prep.steps.checks import MATCHING_SHARE, check_stereo
from data_prep.steps.clip import MatchedClip, match_clip
from data_prep.steps.video import Layout, StereoVideo, split_evenly
from m2svid.cli import spelled_out
from m2svid.data.shards import Clip, ShardWriter
from m2svid.errors import UserError

log = logging.getLogger(__name__)

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
_SURVEYED = 8  # pairs, at least, that the checks of a video look at


@dataclass(frozen=True)
class Settings:
    """How stereo videos become clips.

    Attributes:
        layout: left view left and right view right, or left view above right view.
        swap_eyes: the views are the other way round.
        clip_seconds: length of a clip; all frames are used, so clips may be up to half as long again.
        max_disparity: largest disparity looked for, pixels of a view; None finds it for each clip.
        size: [width, height] to which a view is resized first; None leaves it. For half-width side-by-side
            videos give the full width.
        dataset: name stored with the clips; the output folder's name if empty.
        split: what the clips are for.
        check_order: refuse videos whose eyes look swapped.
        max_vertical_offset: refuse videos of which a quarter of the matched points is farther apart, pixels.
        overwrite: replace the shards of videos that were prepared before, which are refused otherwise.
    """

    layout: Layout
    swap_eyes: bool = False
    clip_seconds: float = 5.0
    max_disparity: int | None = None
    size: tuple[int, int] | None = None
    dataset: str = ""
    split: Literal["train", "val", "test"] = "train"
    check_order: bool = True
    max_vertical_offset: float = 2.0
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.clip_seconds <= 0:
            raise UserError(f"--clip_seconds must be positive, got {self.clip_seconds}")
        if self.max_disparity is not None and self.max_disparity < 1:
            raise UserError(f"--max_disparity must be at least 1 px, got {self.max_disparity}")
        if self.size is not None and min(self.size) < 2:
            raise UserError(f"--size must be at least [2,2], got {list(self.size)}")


def stereo_video(inputs: Sequence[Path], output: Path, settings: Settings) -> dict[Path, str]:
    """Prepares every video; one that fails leaves nothing behind and does not stop the others.

    Args:
        inputs: videos, or folders with videos in them.
        output: folder of the shards, `{name of the video}-{index}.tar`.
        settings: how.

    Returns:
        What was wrong, by file; empty if all is well.

    Raises:
        UserError: there are no videos, or two of the same name.
    """
    settings = replace(settings, dataset=settings.dataset or output.resolve().name)
    failures: dict[Path, str] = {}
    for name, path in _named(find_videos(inputs)).items():
        try:
            prepare(path, name, output, settings)
        except UserError as error:
            failures[path] = str(error)
    return failures


def find_videos(inputs: Sequence[Path]) -> list[Path]:
    """The files given, and the videos in the folders given (by suffix, not in their subfolders)."""
    videos: list[Path] = []
    for path in inputs:
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
            if not found:
                raise UserError(
                    f"{path}: there is no video in this folder (looked for {', '.join(SUFFIXES)})"
                )
            videos += found
        elif path.is_file():
            videos.append(path)
        else:
            raise UserError(f"{path}: there is no such file or folder")
    return videos


def _named(videos: Sequence[Path]) -> dict[str, Path]:
    names: dict[str, Path] = {}
    for path in videos:
        name = re.sub(r"[^A-Za-z0-9_-]", "_", path.stem)
        if name in names:
            raise UserError(
                f"{names[name]} and {path} would both be named {name}; rename one or give two outputs"
            )
        names[name] = path
    return names


def prepare(path: Path, name: str, output: Path, settings: Settings) -> list[Path]:
    """Turns one video into shards, all of them or none.

    Args:
        path: the video.
        name: start of the keys and shard names.
        output: folder of the shards.
        settings: how.

    Returns:
        The shards.

    Raises:
        UserError: naming the video and what is wrong with it.
    """
    existing = sorted(output.glob(f"{name}-[0-9]*.tar"))
    if existing and not settings.overwrite:
        raise UserError(f"{path}: {existing[0]} exists already; give --overwrite true to make it again")
    unfinished = output / f"{name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        with ShardWriter(unfinished, prefix=name) as writer:
            _write_clips(
                StereoVideo(path, settings.layout, settings.swap_eyes, settings.size), name, writer, settings
            )
        for shard in existing:
            shard.unlink()
        return [shard.replace(output / shard.name) for shard in writer.paths]
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write_clips(video: StereoVideo, name: str, writer: ShardWriter, settings: Settings) -> None:
    survey = video.survey(_SURVEYED)
    check_stereo(video, survey.pairs, settings.check_order, settings.max_vertical_offset)
    frames = video.frames()
    written = 0
    for index, length in enumerate(split_evenly(survey.num_frames, settings.clip_seconds * survey.fps)):
        key = f"{name}-{index:04d}"
        matched = match_clip(list(islice(frames, length)), settings.max_disparity)
        log.info("%s: %s", key, matched)
        if matched.matched < MATCHING_SHARE:
            log.warning("%s is left out: only %.1f %% of its pixels match", key, 100 * matched.matched)
            continue
        writer.write(
            Clip(
                key,
                matched.left,
                matched.right,
                survey.fps,
                matched.disparity,
                dataset=settings.dataset,
                source=video.path.name,
                split=settings.split,
                notes=_notes(matched, settings),
            )
        )
        written += 1
    if not written:
        raise UserError(f"{video.path}: no clip of it matches well enough")


def _notes(clip: MatchedClip, settings: Settings) -> dict[str, float | bool | str | list[int]]:
    return {
        "layout": settings.layout,
        "swapped_eyes": settings.swap_eyes,
        "matched_share": round(clip.matched, 4),
        "disparity_search": [clip.search.low, clip.search.high],
        "disparity_shift": clip.shift,
        "cropped_rows_columns": list(clip.cropped),
    }


def main(args: Sequence[str] | None = None) -> int:
    """The command line: 0 if every video was prepared, 1 if some were not, 2 for a wrong call."""
    parser = ArgumentParser(prog="python -m data_prep.stereo_video", description=__doc__)
    parser.add_argument("inputs", nargs="+", type=Path, help="videos, or folders with videos in them")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the shards")
    parser.add_class_arguments(Settings)
    values = vars(parser.parse_args(spelled_out(sys.argv[1:] if args is None else args)))
    inputs, output = values.pop("inputs"), values.pop("output")
    console = Console(stderr=True, soft_wrap=True)
    handler = RichHandler(console=console, show_path=False)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
    try:
        failures = stereo_video(inputs, output, Settings(**values))
    except UserError as error:
        console.print(f"stereo_video: {error}", markup=False, highlight=False)
        return 2
    for reason in failures.values():
        console.print(f"not prepared: {reason}", markup=False, highlight=False)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
