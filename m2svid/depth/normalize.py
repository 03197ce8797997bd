"""Inverse depth of a shot -> [0, 1], robustly and without flicker.

Shapes: T frames, h w of the depth maps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (1.0, 99.0)
SMOOTHING = 12.0  # frames, standard deviation; about half a second
FLAT = 1e-4  # of the largest value; a smaller span is no depth but rounding
_ROWS = 128  # of a map that are looked at, about
_REFINEMENTS = 3
_INLIER = 2.0  # times the median deviation
_LARGEST_STEP = 2.0  # by which a frame's scale may differ from the one before


class Spread:
    """Far and near end of values that come in parts: their percentiles, in constant memory.

    Args:
        low: values below it count as it.
        high: values above it count as it.
        step: to which values are rounded.
    """

    def __init__(self, low: float, high: float, step: float) -> None:
        self._low, self._step = low, step
        self._counts = np.zeros(round((high - low) / step) + 1, np.int64)

    def add(self, values: NDArray[np.floating]) -> None:
        """Count values of any shape; none may be NaN."""
        places = np.rint((values.reshape(-1) - self._low) / self._step).astype(np.int64)
        places = places.clip(0, len(self._counts) - 1)
        self._counts += np.bincount(places, minlength=len(self._counts))

    @property
    def count(self) -> int:
        """Number of values."""
        return int(self._counts.sum())

    def ends(self) -> tuple[float, float]:
        """The first and the last of `PERCENTILES`."""
        shares = np.cumsum(self._counts) / self.count
        low, high = self._low + self._step * np.searchsorted(shares, np.array(PERCENTILES) / 100)
        return float(low), float(high)

    def share(self, low: float, high: float) -> float:
        """Share of the values from `low` to `high`."""
        values = self._low + self._step * np.arange(len(self._counts))
        return float(self._counts[(values >= low) & (values <= high)].sum() / max(self.count, 1))


def bounds(maps: NDArray[np.float32]) -> NDArray[np.float64]:
    """(T, 2): what counts as far and as near in each map (h, w) of T, blind to single wild values."""
    return np.percentile(maps[:, ::2, ::2].reshape(len(maps), -1), PERCENTILES, axis=1).T


def smooth(shot: NDArray[np.float64], sigma: float = SMOOTHING) -> NDArray[np.float64]:
    """The bounds (T, 2) of a whole shot, smoothed over time; at its ends only over the frames it has."""
    radius = int(4 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    inside = slice(radius, radius + len(shot))
    mass = np.convolve(np.ones(len(shot)), kernel)[inside]
    return np.stack([np.convolve(side, kernel)[inside] / mass for side in shot.T], axis=1)


def step(now: NDArray[np.float32], before: NDArray[np.float32]) -> tuple[float, float]:
    """Scale and shift that bring a map (h, w) to the one before, by what stands still in both.

    An estimator of single frames gives each another scale. Both spreads are made the same, which, unlike
    least squares, does not shrink the scale from frame to frame where there is noise; pixels that deviate by
    more than twice the median are taken for movement and left out.
    """
    every = max(1, min(now.shape) // _ROWS)
    x, y = (each[::every, ::every].astype(np.float64).ravel() for each in (now, before))
    kept = np.ones(len(x), bool)
    scale = shift = 0.0
    for _ in range(_REFINEMENTS):
        spreads = x[kept].std(), y[kept].std()
        if min(spreads) <= FLAT * max(np.abs(x).max(), np.abs(y).max()):
            return 1.0, 0.0
        scale = float(np.clip(spreads[1] / spreads[0], 1 / _LARGEST_STEP, _LARGEST_STEP))
        shift = float(y[kept].mean() - scale * x[kept].mean())
        deviation = np.abs(scale * x + shift - y)
        kept = deviation <= _INLIER * np.median(deviation)
    return scale, shift


def limits(bounds: NDArray[np.float64], steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, 2): far and near value of each map of a shot, so that neither its scale flickers nor the shot's.

    Args:
        bounds: (T, 2), of `bounds`.
        steps: (T, 2), of `step`, from each map to the one before; (1, 0) for the first.
    """
    scales = np.cumprod(steps[:, 0])  # to the first map
    before = np.concatenate([[1.0], scales[:-1]])
    shifts = np.cumsum(before * steps[:, 1])
    return (smooth(bounds * scales[:, None] + shifts[:, None]) - shifts[:, None]) / scales[:, None]


def normalize(maps: NDArray[np.float32], limits: NDArray[np.float64]) -> NDArray[np.float32]:
    """Maps (T, h, w) -> [0, 1], 0 = far; a map without depth is 0 all over.

    Args:
        maps: inverse depth of any scale.
        limits: (T, 2) far and near value of each.
    """
    low, high = (limits[:, side, None, None].astype(np.float32) for side in (0, 1))
    span = high - low
    flat = span <= FLAT * np.maximum(np.abs(high), np.abs(low))
    return np.where(flat, 0, (maps - low) / np.where(flat, 1, span)).clip(0, 1).astype(np.float32)
