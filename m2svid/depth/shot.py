"""Depth of a shot, window by window, in [0, 1]: kept, normalised over the shot, turned into disparity.

Shapes: T frames of a window, H W pixels of the film, h w of the depth maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from m2svid.depth.base import DepthEstimator
from m2svid.depth.normalize import Spread, bounds, limits, normalize, step
from m2svid.errors import UserError
from m2svid.files import save_arrays
from m2svid.inference.memory import ShorterWindowError
from m2svid.video.pictures import Pixels
from m2svid.video.read import Frame
from m2svid.video.shots import Shot

FrameReader = Callable[[int, int], list[Pixels]]

_STEP = 2.0**-14  # of inverse depth, to which a shot's percentiles are rounded


class ShotDepth:
    """Inverse depth of one shot, in [0, 1].

    An estimator's maps are kept in a folder until the shot is done, 16 bits a value, because the whole shot
    must be seen before its first frame can be normalised.

    Args:
        estimator: source of the depth.
        shot: the frames.
        read: gives the RGB frames (H, W, 3) from one number to another.
        folder: where the maps are kept.
        device: held while a model of depth is at work; None = nothing else works on its device.
    """

    def __init__(
        self,
        estimator: DepthEstimator,
        shot: Shot,
        read: FrameReader,
        folder: Path,
        device: AbstractContextManager[Any] | None = None,
    ) -> None:
        self._estimator, self._shot, self._read, self._folder = estimator, shot, read, folder
        self._device = device or nullcontext()
        self._limits: NDArray[np.float64] | None = None
        self._stretches = _stretches(shot, *estimator.begin_shot())

    def prepare(self, on_chunk: Callable[[int], None]) -> None:
        """Estimate and keep the shot, but for the stretches of an earlier run.

        Relative depth needs it, and so does `spread`.

        Args:
            on_chunk: called with the number of frames after each stretch, and with less than 0 when the shot
                begins again, with shorter stretches, because there was too little memory.
        """
        place = 0
        while place < len(self._stretches):
            start, stop = self._stretches[place]
            try:
                if not self._piece(place).exists():
                    self._estimate(place)
            except ShorterWindowError:
                on_chunk(self._shot.start - start)
                self.remove()
                self._stretches = _stretches(self._shot, *self._estimator.begin_shot())
                place = 0
                continue
            on_chunk(stop - start)
            place += 1
        if not self._estimator.relative:
            self._limits = np.tile((0.0, 1.0), (len(self._shot), 1))
        elif self._estimator.steady:
            ranges = self._records("range")
            self._limits = np.full((len(self._shot), 2), (ranges[0::2].min(), ranges[1::2].max()))
        else:
            self._limits = limits(self._records("bounds"), self._records("steps"))

    def get(self, start: int, stop: int, frames: list[Pixels]) -> NDArray[np.float32]:
        """(T, h, w) in [0, 1], 0 = far, of film frames `start` to `stop` (excluded), which are `frames`."""
        if self._limits is None:
            return self._estimator(frames, start)
        maps = np.concatenate(
            [
                self._load(place, max(begin, start), min(end, stop))
                for place, (begin, end) in enumerate(self._stretches)
                if begin < stop and end > start
            ]
        )
        return normalize(maps, self._limits[start - self._shot.start : stop - self._shot.start])

    def of(self, frames: Sequence[Frame]) -> NDArray[np.float32]:
        """(T, h, w) of frames of the shot that follow each other, as of `get`."""
        looks, start = self._limits is None and self._estimator.looks, frames[0].index
        seen = [frame.rgb() for frame in frames] if looks else _unseen(len(frames))
        return self.get(start, start + len(frames), seen)

    def maps(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """The shot once it is prepared, in stretches: number of the first frame, and its maps as of `get`."""
        for start, stop in self._stretches:
            yield start, self.get(start, stop, [])

    @cached_property
    def spread(self) -> tuple[float, float]:
        """Inverse depth of the prepared shot's far and near end: percentiles of all its values."""
        spread = Spread(0, 1, _STEP)
        for _, maps in self.maps():
            spread.add(maps[:, ::2, ::2])
        return spread.ends()

    def remove(self) -> None:
        """Throw the maps away: the shot is done."""
        for place in range(len(self._stretches)):
            self._piece(place).unlink(missing_ok=True)
            self._state(place).unlink(missing_ok=True)

    def _estimate(self, place: int) -> None:
        start, stop = self._stretches[place]
        seen = start, min(stop + self._estimator.overlap, self._shot.stop)
        frames = self._read(*seen) if self._estimator.looks else _unseen(seen[1] - start)
        ahead, before = frames[stop - start :], self._before(place)
        with self._device:
            maps, after = self._estimator.continued(frames[: stop - start], start, ahead, before)
        if not np.isfinite(maps).all():
            raise UserError(
                f"the depth of {self._estimator.name} has values that are no numbers between frames {start} "
                f"and {stop}: its weights are broken, or too large for --dtype float16"
            )
        low, high = float(maps.min()), float(maps.max())
        span = max(high - low, 1e-30)
        kept = {
            str(index): np.round((each - low) / span * 65535).astype(np.uint16)
            for index, each in enumerate(maps, start)
        }
        if after is not None:
            save_arrays(self._state(place), after=after)
        arrays = {"range": np.array([low, high])}
        if self._estimator.relative and not self._estimator.steady:
            last = [self._load(place - 1, start - 1, start)[0]] if place else [maps[0]]
            steps = [step(now, before) for before, now in pairwise([*last, *maps])]
            arrays |= {"bounds": bounds(maps), "steps": np.array(steps)}
        save_arrays(self._piece(place), **kept, **arrays)
        if place:
            self._state(place - 1).unlink(missing_ok=True)  # as large as many maps, and no longer needed

    def _before(self, place: int) -> NDArray[Any] | None:
        """State left by the stretch before, maybe in an earlier run."""
        if not place or not self._estimator.overlap:
            return None
        with np.load(self._state(place - 1)) as state:
            return state["after"]

    def _records(self, name: str) -> NDArray[np.float64]:
        """One array of all pieces, joined."""
        parts = []
        for place in range(len(self._stretches)):
            with np.load(self._piece(place)) as piece:
                parts.append(piece[name])
        return np.concatenate(parts)

    def _load(self, place: int, start: int, stop: int) -> NDArray[np.float32]:
        """(T, h, w) of frames of a stretch."""
        with np.load(self._piece(place)) as piece:
            low, high = piece["range"]
            values = np.stack([piece[str(index)] for index in range(start, stop)])
        return (values * ((high - low) / 65535) + low).astype(np.float32)

    def _piece(self, place: int) -> Path:
        start, stop = self._stretches[place]
        return self._folder / f"{start:08d}-{stop:08d}.npz"

    def _state(self, place: int) -> Path:
        return self._piece(place).with_suffix(".state.npz")


def _unseen(count: int) -> list[Any]:
    """Stand-ins for so many frames, for estimators that don't look at them."""
    return [None] * count


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
