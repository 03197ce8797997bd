"""The films of a study: found, checked before anything is written, and encoded so that browsers play them.

Shapes: T frames, H W pixels of a view.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from m2svid.data.codec import encode_video
from m2svid.errors import UserError
from m2svid.evaluation.films import ViewFilm, ViewLayout, find_films, open_view
from m2svid.files import split_name
from m2svid.video.layouts import LAYOUTS
from m2svid.video.read import Video

View = NDArray[np.uint8]  # (H, W, 3) RGB
_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # BT.709
_NAMED = 3  # names in a sentence


@dataclass(frozen=True)
class Clip:
    """A video of a study.

    Attributes:
        name: unique.
        left: the view that all right views belong to.
        mask: white where the warped view has holes; None = not given.
        rights: by method.
        rate: frames per second at which it is shown.
    """

    name: str
    left: ViewFilm
    mask: ViewFilm | None
    rights: dict[str, ViewFilm]
    rate: Fraction

    @property
    def views(self) -> list[ViewFilm]:
        return [self.left, *([] if self.mask is None else [self.mask]), *self.rights.values()]


def split_names(methods: Iterable[str]) -> dict[str, Path]:
    """Folders by method of words `NAME=FOLDER`, or `FOLDER`, whose name is the method's.

    Raises:
        UserError: there are fewer than two methods, or two of one name.
    """
    folders: dict[str, Path] = {}
    for word in methods:
        name, place = split_name(word)
        name = name or place.resolve().name
        if name in folders:
            raise UserError(f"{folders[name]} and {place} are both called {name}: give names, NAME=FOLDER")
        folders[name] = place
    if len(folders) < 2:
        raise UserError(
            f"a study compares at least two methods, and only {', '.join(folders) or 'none'} is given: name "
            "the folder of every method, NAME=FOLDER"
        )
    return folders


def find_clips(
    folders: Mapping[str, Path], left: Path | None, hole: Path | None, rate: Fraction | None
) -> list[Clip]:
    """The videos of a study, sorted by name.

    Args:
        folders: films of each method.
        left: the left views; None = they are in the first method's films.
        hole: the masks; None = there are none.
        rate: frames per second; None = those of the films, which must be the same.

    Raises:
        UserError: methods have different films, or those of a video differ in length, size or frame rate.
    """
    found = {method: find_films(folder) for method, folder in folders.items()}
    names = sorted(set().union(*found.values()))
    for method, films in found.items():
        _check_names(names, films, f"{folders[method]} of {method}")
    first = next(iter(folders.values()))
    lefts = find_films(first if left is None else left, eye="left")
    _check_names(names, lefts, f"{first if left is None else left} (left views)")
    masks = {} if hole is None else find_films(hole)
    if hole is not None:
        _check_names(names, masks, f"{hole} (masks)")
    clips = []
    for name in names:
        reference = ViewFilm(lefts[name], _layout_by_name(lefts[name]), "left")
        if left is None and reference.layout == "single":
            raise UserError(f"{reference.path} doesn't show the left view too: give the left views by --left")
        mask = open_view(masks[name], "single", "right", reference.size) if masks else None
        rights = {m: open_view(films[name], "auto", "right", reference.size) for m, films in found.items()}
        clips.append(Clip(name, reference, mask, rights, rate or reference.rate))
        _check(clips[-1], rate is not None)
    return clips


def _check_names(names: list[str], films: Mapping[str, Path], where: str) -> None:
    missing = [name for name in names if name not in films]
    if missing:
        some = ", ".join(missing[:_NAMED]) + (", ..." if len(missing) > _NAMED else "")
        raise UserError(
            f"{where} lacks {len(missing)} of the {len(names)} films: {some}; all methods need the same films"
        )


def _layout_by_name(path: Path) -> ViewLayout:
    for layout in get_args(ViewLayout):
        suffix = LAYOUTS[layout].suffix if layout in LAYOUTS else None
        if suffix and path.stem.endswith(suffix):
            return layout
    return "sbs" if path.stem.endswith((".sbs", "_sbs")) else "single"


def _check(clip: Clip, any_rate: bool) -> None:
    for film in clip.views:
        if film.num_frames != clip.left.num_frames:
            raise UserError(
                f"{film.path} has {film.num_frames} frames and {clip.left.path} has {clip.left.num_frames}: "
                "cut all films of a video to the same frames"
            )
        if not any_rate and film.rate != clip.rate:
            raise UserError(
                f"{film.path} has {float(film.rate):g} frames/s and {clip.left.path} {float(clip.rate):g}: "
                "say with --fps at which rate all films are shown"
            )


def encode(film: ViewFilm, rate: Fraction, crf: int, path: Path, beside: ViewFilm | None = None) -> float:
    """Write a view as H.264, 4:2:0, in MP4, without sound and without a tag that says where it is from.

    Args:
        film: the view.
        rate: frames per second.
        crf: x264's constant rate factor.
        path: the file to write.
        beside: the left view, for a side-by-side film; None = the view is written alone.

    Returns:
        PSNR of the written luma (BT.709) to that of the film, dB.

    Raises:
        UserError: a film ends too early, or can't be read.
    """
    frames = (torch.from_numpy(picture).permute(2, 0, 1) for picture in _pictures(film, beside))
    path.write_bytes(encode_video(frames, rate, crf))
    errors = [
        np.square((written.rgb() - picture.astype(np.float32)) @ _LUMA).mean()
        for written, picture in zip(Video(path).frames(), _pictures(film, beside), strict=True)
    ]
    return float(10 * np.log10(255**2 / max(np.mean(errors), 1e-9)))


def _pictures(film: ViewFilm, beside: ViewFilm | None) -> Iterator[View]:
    """The view's pictures; rows and columns are made even, which H.264 wants, by repeating the last."""
    streams = [each.frames() for each in (beside, film) if each is not None]
    count = 0
    for views in zip(*streams, strict=False):
        count += 1
        height, width = views[0].shape[:2]
        even = [cv2.copyMakeBorder(v, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE) for v in views]
        yield np.concatenate(even, 1)
    if count != film.num_frames:
        raise UserError(f"{film.path} ends after {count} of the {film.num_frames} frames that it announces")
