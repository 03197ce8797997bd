"""Flat views out of equirectangular pictures, as Stereo4D's annotations describe them.

One map leads from a pixel of the view to the raw picture (Stereo4D's code looks up twice, with a lossy film
in between), and where the picture is finer than the view, several samples are averaged for a pixel.

Axes: x right, y down, z forward. Shapes: H W pixels of the view, h w of the picture of one eye.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_FULL_TURN = 360 - 1e-6


@dataclass(frozen=True)
class Sphere:
    """The part of the sphere that a picture covers; its outermost pixels lie on the bounds.

    Attributes:
        start_yaw: degrees, of the first column.
        end_yaw: degrees, of the last column; 360 more than the start for a full turn.
        start_tilt: degrees, of the first row; negative is up.
        end_tilt: degrees, of the last row.
        width: w.
        height: h.
    """

    start_yaw: float
    end_yaw: float
    start_tilt: float
    end_tilt: float
    width: int
    height: int

    def pixels(self, rays: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Columns and rows, index from 0, at which unit rays (..., 3) are seen."""
        yaw = np.degrees(np.arctan2(rays[..., 0], rays[..., 2])) - self.start_yaw
        span = self.end_yaw - self.start_yaw
        if span >= _FULL_TURN:
            yaw = yaw % 360
        tilt = np.degrees(np.arcsin(rays[..., 1].clip(-1, 1))) - self.start_tilt
        return (
            yaw / span * (self.width - 1),
            tilt / (self.end_tilt - self.start_tilt) * (self.height - 1),
        )

    def detail(self, focal: float) -> tuple[float, float]:
        """Pixels of the picture for one pixel in the middle of a view, along a row and along a column."""
        return (
            (self.width - 1) / math.radians(self.end_yaw - self.start_yaw) / focal,
            (self.height - 1) / math.radians(self.end_tilt - self.start_tilt) / focal,
        )


def focal_length(width: int, fov: float) -> float:
    """Pixels, of a view that many pixels wide with that angle over its width, degrees."""
    return width / 2 / math.tan(math.radians(fov) / 2)


def view_rays(width: int, height: int, fov: float, samples: tuple[int, int] = (1, 1)) -> NDArray[np.float64]:
    """Unit rays (H·ky, W·kx, 3) of a pinhole view; pixel centres lie at index + 0.5.

    Args:
        width: W.
        height: H.
        fov: angle over the width, degrees.
        samples: (kx, ky), rays for one pixel along a row and along a column.
    """
    focal = focal_length(width, fov)
    x = (np.arange(width * samples[0]) + 0.5) / samples[0] - width / 2
    y = (np.arange(height * samples[1]) + 0.5) / samples[1] - height / 2
    rays = np.stack(np.broadcast_arrays(x[None] / focal, y[:, None] / focal, 1.0), axis=-1)
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


class Perspective:
    """Render a flat view from one eye's picture.

    Args:
        sphere: what the picture covers.
        rotation: (3, 3), from the view's axes to the picture's.
        size: (W, H).
        fov: angle over the width, degrees.

    Attributes:
        outside: share of the view that the picture doesn't cover; it stays black.
    """

    def __init__(
        self, sphere: Sphere, rotation: NDArray[np.float64], size: tuple[int, int], fov: float
    ) -> None:
        self._size = size
        columns, rows = sphere.pixels(view_rays(*size, fov) @ rotation.T)
        inside = (columns >= 0) & (columns <= sphere.width - 1) & (rows >= 0) & (rows <= sphere.height - 1)
        self.outside = float(1 - inside.mean())
        self.samples = _samples(columns, rows, sphere.width)
        if self.samples != (1, 1):
            columns, rows = sphere.pixels(view_rays(*size, fov, self.samples) @ rotation.T)
        self._maps = cv2.convertMaps(columns.astype(np.float32), rows.astype(np.float32), cv2.CV_16SC2)

    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(h, w, 3) -> (H, W, 3)."""
        view = cv2.remap(picture, *self._maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        if self.samples == (1, 1):
            return view
        return cv2.resize(view, self._size, interpolation=cv2.INTER_AREA)


def _samples(columns: NDArray[np.float64], rows: NDArray[np.float64], width: int) -> tuple[int, int]:
    """So many samples a pixel, along a row and along a column, that no two are a source pixel apart."""

    def longest(axis: int) -> float:
        along = np.abs(np.diff(columns, axis=axis))
        along = np.minimum(along, width - along)  # over the seam of a full turn
        return float(np.hypot(along, np.diff(rows, axis=axis)).max())

    return max(1, math.ceil(longest(1) - 0.05)), max(1, math.ceil(longest(0) - 0.05))
