"""Holes of films, from masks, disparities or matching.

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m2svid.depth.readers import open_reader
from m2svid.errors import UserError
from m2svid.evaluation.films import ViewFilm, open_view
from m2svid.metrics.binocular import search_range
from m2svid.video.pictures import to_tensor
from m2svid.warping.matching import fill_from_background, match
from m2svid.warping.view import warp_view

View = NDArray[np.uint8]


class Holes(Protocol):
    """The holes of one film, frame by frame.

    Attributes:
        num_frames: how many frames there are holes of; None = as many as there are views.
    """

    num_frames: int | None

    def masks(self, left: Iterator[View], truth: Iterator[View]) -> Iterator[Tensor]:
        """(1, H, W) bool each, from the frames (H, W, 3) of both views."""


class NoHoles:
    """No pixel is in a hole."""

    num_frames = None

    def masks(self, left: Iterator[View], truth: Iterator[View]) -> Iterator[Tensor]:
        return (torch.zeros(1, *view.shape[:2], dtype=torch.bool) for view in truth)


class Masks:
    """A film that is white in the holes.

    Raises:
        UserError: it has another size.
    """

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        self._film = open_view(path, "single", "right", size)
        self.num_frames: int | None = self._film.num_frames

    def masks(self, left: Iterator[View], truth: Iterator[View]) -> Iterator[Tensor]:
        return (torch.from_numpy(mask[..., 1] > 127)[None] for mask in self._film.frames())


class Matched:
    """The left view's disparity to the true right view, by semi-global matching; what is matched nowhere
    lies in the background."""

    num_frames = None

    def masks(self, left: Iterator[View], truth: Iterator[View]) -> Iterator[Tensor]:
        for pair in zip(left, truth, strict=False):
            grays = [cv2.cvtColor(view, cv2.COLOR_RGB2GRAY) for view in pair]
            disparity, consistent = match(*grays, search_range(pair[0].shape[1]))
            yield _hole(pair[0], fill_from_background(disparity, consistent).clip(min=0))


class Disparities:
    """The left view's disparity from a file.

    Args:
        path: npz, video, picture or folder of pictures, as `convert --depth` takes it. Floats that aren't a
            range of 0 to 1 are pixels; everything else is inverse depth.
        size: (H, W) of the views.
        max_disparity: where the inverse depth is 1, as a share of the width; None for pixels.

    Raises:
        UserError: it can't be read, or doesn't fit.
    """

    def __init__(self, path: Path, size: tuple[int, int], max_disparity: float | None) -> None:
        self._path, self._size = path, size
        self._reader = open_reader(path)
        self.num_frames: int | None = self._reader.num_frames
        if self._reader.scale is not None and max_disparity is None:
            raise UserError(f"{path} holds inverse depth, not pixels: say with --max-disparity how much 1 is")
        if self._reader.scale is None and max_disparity is not None:
            raise UserError(f"{path} holds disparities in pixels: leave --max-disparity out")
        first = next(self._reader.maps(0))
        if self._reader.scale is None and first.shape != size:
            raise UserError(
                f"{path} is {first.shape[1]}×{first.shape[0]}: disparities in pixels must have the size of "
                f"the views, {size[1]}×{size[0]}"
            )
        self._unit = size[1] * (max_disparity or 0) / self._reader.scale if self._reader.scale else 1.0

    def masks(self, left: Iterator[View], truth: Iterator[View]) -> Iterator[Tensor]:
        for number, (view, found) in enumerate(zip(left, self._reader.maps(0), strict=False)):
            if not np.isfinite(found).all() or found.min() < 0:
                raise UserError(f"{self._path} has values below 0, or that are no numbers, in frame {number}")
            disparity = cv2.resize(found, self._size[::-1], interpolation=cv2.INTER_LINEAR) * self._unit
            yield _hole(view, disparity.astype(np.float32))


def _hole(left: View, disparity: NDArray[np.float32]) -> Tensor:
    _, hole = warp_view(to_tensor([left])[0], torch.from_numpy(np.ascontiguousarray(disparity))[None])
    return hole


def left_frames(film: ViewFilm | None) -> Iterator[View]:
    """The frames of a left view, or none."""
    return iter(()) if film is None else film.frames()
