"""Films as views: which files belong together, and one eye's frames out of any layout.

Shapes: T frames, H W pixels of a view.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Literal

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from m2svid.errors import UserError
from m2svid.files import checksum, url, whole
from m2svid.video.layouts import LAYOUTS
from m2svid.video.pictures import to_pixels
from m2svid.video.planes import interleaved
from m2svid.video.read import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Video, list_pictures

ViewLayout = Literal["single", "sbs", "sbs-half", "tb", "tb-half"]
Eye = Literal["left", "right"]
_ROLES = (
    "left",
    "right",
    "sbs",
    "truth",
    "warped",
    "disparity",
    "depth",
    "hole",
)  # what names of films may end in
_SHOWN = 3  # names in a sentence


def find_films(path: Path, also: Collection[str] = (), eye: Eye = "right") -> dict[str, Path]:
    """The films of a file or folder by name.

    A folder holds films, in subfolders too; or pictures, then it is one film; or folders of pictures. What
    tells the layout or the eye at the end of a name (`_LRF_Full_SBS`, `.sbs`, `_right`, `.right`) is no part
    of it. Where several files are one film, as `predict` and `convert --layout pair` write them, the one that
    is named after the eye is taken, else the one that isn't named after the other eye.

    Args:
        path: the file or folder.
        also: suffixes of other files that are taken for films, such as `.npz`.
        eye: whose view is wanted.

    Raises:
        UserError: nothing is there, or two films have one name.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist")
    if path.is_file():
        return {film_name(path.name): path}
    if list_pictures(path):
        return {film_name(path.name): path}
    files: dict[str, list[Path]] = {}
    for found in sorted(path.rglob("*")):
        suffix = found.suffix.lower()
        if list_pictures(found) if found.is_dir() else suffix in VIDEO_SUFFIXES or suffix in also:
            name = (found.relative_to(path).parent / film_name(found.name)).as_posix()
            files.setdefault(name, []).append(found)
    if not files:
        raise UserError(f"{path} holds no film ({', '.join(sorted(VIDEO_SUFFIXES))}) and no pictures")
    return {name: _only_one(name, found, eye) for name, found in files.items()}


def _only_one(name: str, files: list[Path], eye: Eye) -> Path:
    ends = {file: file.stem.replace("_", ".").rpartition(".")[2] for file in files}
    of_eye = [file for file in files if ends[file] == eye]
    of_both = [file for file in files if ends[file] not in ("left", "right")]
    first, *others = of_eye or of_both or files
    if others:
        raise UserError(f"{first} and {others[0]} both are the film {name!r}: leave one of them out")
    return first


def film_name(file: str) -> str:
    """A film's name without what tells its format, layout or eye."""
    suffix = Path(file).suffix.lower()
    name = file[: -len(suffix)] if suffix in VIDEO_SUFFIXES | IMAGE_SUFFIXES | {".npz"} else file
    endings = [layout.suffix for layout in LAYOUTS.values() if layout.suffix]
    endings += [mark + role for role in _ROLES for mark in "._"]
    for ending in sorted(endings, key=len, reverse=True):
        shorter = name.removesuffix(ending)
        if shorter and shorter != name:
            return shorter
    return name


def pair_up(truth: dict[str, Path], others: dict[str, dict[str, Path]]) -> dict[str, dict[str, Path]]:
    """The files of every film by role.

    Where each role has one film only, they belong together whatever their names.

    Args:
        truth: what `find_films` found of the truth.
        others: what it found of each other role.

    Raises:
        UserError: a film is missing, or there is one too many.
    """
    if all(len(films) == 1 for films in (truth, *others.values())):
        ((name, path),) = truth.items()
        return {name: {"truth": path} | {role: next(iter(films.values())) for role, films in others.items()}}
    for role, films in others.items():
        missing, unexpected = sorted(truth.keys() - films.keys()), sorted(films.keys() - truth.keys())
        if missing:
            others_there = (
                f" (it has {_some(unexpected)}, and films are paired by name)" if unexpected else ""
            )
            raise UserError(
                f"{len(missing)} of {len(truth)} films have no {role}: {_some(missing)}{others_there}"
            )
        if unexpected:
            raise UserError(f"{len(unexpected)} films are {role} only and have no truth: {_some(unexpected)}")
    return {
        name: {"truth": path} | {role: films[name] for role, films in others.items()}
        for name, path in sorted(truth.items())
    }


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


@dataclass(frozen=True)
class ViewFilm:
    """One eye's view in a film.

    Attributes:
        path: the film.
        layout: how both views lie in its pictures; "single" = they show one view.
        eye: which view.
    """

    path: Path
    layout: ViewLayout
    eye: Eye

    @cached_property
    def _video(self) -> Video:
        pictures = self.path.is_dir() or self.path.suffix.lower() in IMAGE_SUFFIXES
        return Video(self.path, Fraction(1) if pictures else None)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of a view as it is to be seen."""
        info, (columns, rows) = self._video.info, self._grid
        squeezed = self.layout.endswith("-half")
        return info.height // (1 if squeezed else rows), info.width // (1 if squeezed else columns)

    @cached_property
    def num_frames(self) -> int:
        """T: as the file announces, counted where it doesn't."""
        return self._video.info.frames or sum(1 for _ in self._video.frames())

    @property
    def rate(self) -> Fraction:
        return self._video.info.rate

    @property
    def _grid(self) -> tuple[int, int]:
        return {"sb": (2, 1), "tb": (1, 2)}.get(self.layout[:2], (1, 1))

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """(H, W, 3) uint8 RGB each."""
        columns, rows = self._grid
        for frame in self._video.frames():
            picture = interleaved(frame.rgb())
            height, width = picture.shape[0] // rows, picture.shape[1] // columns
            second = self.eye == "right"
            top, start = (rows - 1) * second * height, (columns - 1) * second * width
            view = picture[top : top + height, start : start + width]
            if view.shape[:2] != self.size:
                view = cv2.resize(view, self.size[::-1], interpolation=cv2.INTER_CUBIC)
            yield np.ascontiguousarray(view)

    def facts(self) -> dict[str, str | int]:
        """The entry for the file in the results."""
        files = sorted(self.path.rglob("*")) if self.path.is_dir() else [self.path]
        sums = [checksum(file) for file in files if file.is_file()]
        height, width = self.size
        return {
            "path": str(self.path),
            "sha256": sums[0] if len(sums) == 1 else " ".join(sums),
            "layout": self.layout,
            "eye": self.eye,
            "frames": self.num_frames,
            "width": width,
            "height": height,
        }


def save_lossless(video: Tensor, rate: Fraction, path: Path) -> None:
    """Write a video (T, 3, H, W) in [0, 1] as 8-bit RGB in FFV1, which loses nothing more; path ends in .mkv.

    Raises:
        UserError: it can't be written.
    """
    with whole(path) as temporary, av.open(url(temporary), "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=rate)
        stream.height, stream.width = video.shape[-2:]
        stream.pix_fmt = "bgr0"
        for pixels in to_pixels(video.float().cpu(), 8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode(None))


def open_view(path: Path, layout: ViewLayout | Literal["auto"], eye: Eye, size: tuple[int, int]) -> ViewFilm:
    """A view of a known size.

    Args:
        path: the film.
        layout: "auto" tells it from the size: that of a view, or twice its width or height.
        eye: which view is wanted of a pair.
        size: (H, W) that it must have.

    Raises:
        UserError: it has another size.
    """
    candidates: tuple[ViewLayout, ...] = ("single", "sbs", "tb") if layout == "auto" else (layout,)
    for candidate in candidates:
        film = ViewFilm(path, candidate, eye)
        if film.size == size:
            return film
    height, width = film.size if layout != "auto" else ViewFilm(path, "single", eye).size
    allowed = (
        ", alone, side by side or one above the other" if layout == "auto" else f" in the layout {layout}"
    )
    raise UserError(f"{path} is {width}×{height}: it must have views of {size[1]}×{size[0]}{allowed}")
