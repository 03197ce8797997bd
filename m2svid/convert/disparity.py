"""Depth of a film, window by window, in [0, 1]: kept, normalised over each shot, turned into disparity.

Shapes: T frames of a window, H W pixels of the film, h w of the depth maps.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from m2svid.convert.resume import WorkFolder
from m2svid.convert.shots import Shot
from m2svid.convert.views import Pixels
from m2svid.convert.write import save_arrays
from m2svid.depth.base import DepthEstimator
from m2svid.depth.normalize import bounds, normalize, smooth

CHUNK = 25  # frames estimated and kept together

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

    def prepare(self, on_chunk: Callable[[int], None] | None = None) -> None:
        """Estimate the shot, but for what an earlier run has done; tells how many frames each time."""
        if not self._estimator.relative:
            return
        limits = []
        for start in range(self._shot.start, self._shot.stop, CHUNK):
            stop = min(start + CHUNK, self._shot.stop)
            if not self._piece(start).exists():
                self._estimate(start, stop)
            with np.load(self._piece(start)) as piece:
                limits.append(piece["bounds"])
            if on_chunk is not None:
                on_chunk(stop - start)
        self._limits = smooth(np.concatenate(limits))

    def get(self, start: int, stop: int, frames: list[Pixels]) -> NDArray[np.float32]:
        """(T, h, w) in [0, 1], 0 = far, of film frames `start` to `stop` (excluded), which are `frames`."""
        if self._limits is None:
            return self._estimator(frames, start)
        first = self._shot.start
        chunks = range((start - first) // CHUNK * CHUNK + first, stop, CHUNK)
        maps = np.concatenate([self._load(chunk) for chunk in chunks])[start - chunks[0] : stop - chunks[0]]
        return normalize(maps, self._limits[start - first : stop - first])

    def remove(self) -> None:
        """The shot is done: throw its maps away."""
        for start in range(self._shot.start, self._shot.stop, CHUNK):
            self._piece(start).unlink(missing_ok=True)

    def _estimate(self, start: int, stop: int) -> None:
        maps = self._estimator(self._read(start, stop), start)
        low, high = float(maps.min()), float(maps.max())
        values = np.round((maps - low) / max(high - low, 1e-30) * 65535).astype(np.uint16)
        save_arrays(self._piece(start), values=values, range=np.array([low, high]), bounds=bounds(maps))

    def _load(self, start: int) -> NDArray[np.float32]:
        with np.load(self._piece(start)) as piece:
            low, high = piece["range"]
            return (piece["values"] * ((high - low) / 65535) + low).astype(np.float32)

    def _piece(self, start: int) -> Path:
        return self._work.file("depth", f"{start:08d}.npz")


def to_disparity(depth: NDArray[np.float32], height: int, width: int, max_disparity: float) -> Tensor:
    """Disparity (T, 1, H, W) in px: `max_disparity` times the inverse depth (T, h, w), at the film's size."""
    maps = torch.from_numpy(depth)[:, None]
    if maps.shape[-2:] != (height, width):
        maps = F.interpolate(maps, (height, width), mode="bilinear", align_corners=False)
    return maps * max_disparity
