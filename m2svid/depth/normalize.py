"""Inverse depth of a shot -> [0, 1], robustly and without flicker.

Shapes: T frames, h w of the depth maps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (1.0, 99.0)
SMOOTHING = 12.0  # frames, standard deviation; about half a second
FLAT = 1e-4  # of the largest value; a smaller span is no depth but rounding


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
