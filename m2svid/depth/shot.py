"""Depth of a film, window by window, in [0, 1]: kept, normalised over each shot, turned into disparity.

Shapes: T frames of a window, H W pixels of the film, h w of the depth maps.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from m2svid.convert.work_folder import WorkFolder
from m2svid.depth.base import DepthEstimator
from m2svid.depth.normalize import bounds, normalize, smooth
from m2svid.video.pictures import Pixels
from m2svid.video.shots import Shot
from m2svid.video.write import save_arrays

FrameReader = Callable[[int, int], list[Pixels]]


class ShotDepth:
    """Inverse depth of one shot, in [0, 1].

    What an estimator gives is kept in the work folder until the shot is done, 16 bits a value, because the
    whole shot must be seen before its first frame can be normalised.

    Args:
        estimator: source of the depth.
        shot: the frames.
        read: gives the RGB frames (H, W, 3) from one number to another.
        work: where the maps are kept.
    """

    def __init__(self, estimator: DepthEstimator, shot: Shot, read: FrameReader, work: WorkFolder) -> None:
        self._estimator = estimator
        self._shot = shot
        self._read = read
        self._work = work
        self._limits: NDArray[np.float64] | None = None
        self._stretches = _stretches(shot, estimator.chunk, estimator.overlap)

    def prepare(self, on_chunk: Callable[[int], None]) -> None:
        """Estimate the shot, as relative depth needs it, but for what an earlier run has done; tells how
        many frames each time."""
        for place, (start, stop) in enumerate(self._stretches):
            if not self._piece(start).exists():
                self._estimate(place)
            on_chunk(stop - start)
        if self._estimator.steady:
            ranges = self._records("range")
            self._limits = np.full((len(self._shot), 2), (ranges[0::2].min(), ranges[1::2].max()))
        else:
            self._limits = smooth(self._records("bounds"))

    def get(self, start: int, stop: int, frames: list[Pixels]) -> NDArray[np.float32]:
        """(T, h, w) in [0, 1], 0 = far, of film frames `start` to `stop` (excluded), which are `frames`."""
        if self._limits is None:
            return self._estimator(frames, start)
        needed = [begin for begin, end in self._stretches if begin < stop and end > start]
        maps = np.concatenate([self._load(begin) for begin in needed])[start - needed[0] : stop - needed[0]]
        first = self._shot.start
        return normalize(maps, self._limits[start - first : stop - first])

    def remove(self) -> None:
        """The shot is done: throw its maps away."""
        for start, _ in self._stretches:
            self._piece(start).unlink(missing_ok=True)

    def _estimate(self, place: int) -> None:
        start, stop = self._stretches[place]
        frames = self._read(start, min(stop + self._estimator.overlap, self._shot.stop))
        self._estimator.memory = self._memory(place)
        maps = self._estimator(frames[: stop - start], start, frames[stop - start :])
        low, high = float(maps.min()), float(maps.max())
        values = np.round((maps - low) / max(high - low, 1e-30) * 65535).astype(np.uint16)
        arrays = {"values": values, "range": np.array([low, high]), "bounds": bounds(maps)}
        if self._estimator.memory is not None:
            arrays["memory"] = self._estimator.memory
        save_arrays(self._piece(start), **arrays)

    def _memory(self, place: int) -> NDArray[np.float32] | None:
        """What the stretch before has left, maybe in an earlier run."""
        if not place or not self._estimator.overlap:
            return None
        with np.load(self._piece(self._stretches[place - 1][0])) as piece:
            return piece["memory"]

    def _records(self, name: str) -> NDArray[np.float64]:
        """One array of all pieces, joined."""
        parts = []
        for start, _ in self._stretches:
            with np.load(self._piece(start)) as piece:
                parts.append(piece[name])
        return np.concatenate(parts)

    def _load(self, start: int) -> NDArray[np.float32]:
        with np.load(self._piece(start)) as piece:
            low, high = piece["range"]
            return (piece["values"] * ((high - low) / 65535) + low).astype(np.float32)

    def _piece(self, start: int) -> Path:
        return self._work.file("depth", f"{start:08d}.npz")


def _stretches(shot: Shot, chunk: int, overlap: int) -> list[tuple[int, int]]:
    """Frames that are estimated and kept together; what would be the last is part of the one before it where
    that one sees it anyway."""
    starts = range(shot.start, max(shot.stop - overlap, shot.start + 1), chunk)
    return list(pairwise([*starts, shot.stop]))


def to_disparity(depth: NDArray[np.float32], height: int, width: int, max_disparity: float) -> Tensor:
    """Disparity (T, 1, H, W) in px: `max_disparity` times the inverse depth (T, h, w), at the film's size."""
    maps = torch.from_numpy(depth)[:, None]
    if maps.shape[-2:] != (height, width):
        maps = F.interpolate(maps, (height, width), mode="bilinear", align_corners=False)
    return maps * max_disparity
