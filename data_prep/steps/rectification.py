"""Homographies and crop that row-align both views of a video, their limits, and the published file format.

Shapes: H W pixels of a view, N points.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from data_prep.steps.points import Matches
from data_prep.steps.video import Pair
from m2svid.errors import UserError

Array = NDArray[np.float64]


class UnrectifiableError(Exception):
    """Two views that can't be row-aligned; says why."""


@dataclass(frozen=True)
class Limits:
    """Limits that rectified views must keep.

    Attributes:
        stretch: largest ratio between the scales at any two places and directions of the crop.
        crop: smallest share of a view that the crop keeps.
        vertical: three quarters of the inliers must be at most this far apart vertically, px.
    """

    stretch: float = 2.0
    crop: float = 0.25
    vertical: float = 2.0


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Rectification:
    """Homographies that row-align the views of a video.

    Attributes:
        left: (3, 3) homography of the left view, from its pixels to those of the rectified one.
        right: (3, 3), of the right view.
        crop: first column, first row, end column and end row of what both rectified views have.
    """

    left: Array
    right: Array
    crop: tuple[int, int, int, int]

    def apply(self, pair: Pair) -> Pair:
        """Rectify two views of (H, W, 3) uint8; the result has the even size of the crop."""
        first, top, end, bottom = self.crop
        to_crop = np.array([[1, 0, -first], [0, 1, -top], [0, 0, 1]], np.float64)
        size = (end - first, bottom - top)
        left, right = (
            cv2.warpPerspective(view, to_crop @ homography, size, flags=cv2.INTER_LINEAR)
            for view, homography in zip(pair, (self.left, self.right), strict=True)
        )
        return left, right

    def of_points(self, matches: Matches) -> Matches:
        """The matches in the rectified views, before these are cropped."""
        return Matches(transformed(self.left, matches.left), transformed(self.right, matches.right))

    def to_json(self) -> dict[str, list[list[float]] | list[int]]:
        """The published format; `croping` is its spelling."""
        return {
            "homography_left": self.left.tolist(),
            "homography_right": self.right.tolist(),
            "croping": list(self.crop),
        }

    @classmethod
    def from_json(cls, values: dict[str, list[list[float]] | list[int]], name: str) -> Rectification:
        """Read the published format.

        Args:
            values: parsed.
            name: of the file, for messages.

        Raises:
            UserError: a field is missing or makes no sense.
        """
        try:
            left, right = (np.array(values[f"homography_{eye}"], np.float64) for eye in ("left", "right"))
            first, top, end, bottom = (int(edge) for edge in values["croping"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{name} is no rectification: it needs homography_left, homography_right (3 × 3) and croping "
                "(4 numbers)"
            ) from error
        for homography in (left, right):
            if homography.shape != (3, 3) or abs(np.linalg.det(homography)) < 1e-30:
                raise UserError(f"{name} holds a homography that is not an invertible 3 × 3 matrix")
        return cls(left, right, (first, top, end - (end - first) % 2, bottom - (bottom - top) % 2))

    @classmethod
    def load(cls, path: Path) -> Rectification:
        """Read a JSON file; a UserError names the file and what is wrong."""
        try:
            return cls.from_json(json.loads(path.read_text()), str(path))
        except (OSError, json.JSONDecodeError) as error:
            raise UserError(f"{path} can't be read as JSON ({error})") from error

    def check(self, size: tuple[int, int], limits: Limits) -> None:
        """Raise an UnrectifiableError where a view is turned over, torn or stretched, or too little is left.

        Args:
            size: (width, height) of a view.
            limits: what is allowed.
        """
        first, top, end, bottom = self.crop
        width, height = size
        share = max(end - first, 0) * max(bottom - top, 0) / (width * height)
        if share < limits.crop:
            raise UnrectifiableError(
                f"crop too small: both views share {share:.0%} of a view where {limits.crop:.0%} is the least"
            )
        stretch = max(_stretch(homography, self.crop) for homography in (self.left, self.right))
        if stretch > limits.stretch:
            raise UnrectifiableError(
                f"overstretched: scales within a view differ by a factor of {stretch:.1f} where "
                f"{limits.stretch:g} is the most"
            )


def common_crop(homographies: Sequence[Array], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Largest upright rectangle, of even size, within the moved corners of both views and the picture
    itself."""
    width, height = size
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    first, top, end, bottom = 0.0, 0.0, float(width), float(height)
    for homography in homographies:
        if not _keeps_sides(homography, corners):
            raise UnrectifiableError("torn: a view is turned over or its horizon lies within the picture")
        (a, b, c, d) = transformed(homography, corners)
        first, end = max(first, a[0], d[0]), min(end, b[0], c[0])
        top, bottom = max(top, a[1], b[1]), min(bottom, c[1], d[1])
    if not (end - first >= 2 and bottom - top >= 2):
        raise UnrectifiableError("empty crop: the rectified views have no part in common")
    left, upper = int(np.ceil(first)), int(np.ceil(top))
    columns, rows = int(np.floor(end)) - left, int(np.floor(bottom)) - upper
    return left, upper, left + columns - columns % 2, upper + rows - rows % 2


def _keeps_sides(homography: Array, corners: Array) -> bool:
    """True if no corner is sent through infinity, and neither axis is turned over."""
    depth = corners @ homography[2, :2] + homography[2, 2]
    if not ((depth > 0).all() or (depth < 0).all()):
        return False
    a, b, c, d = transformed(homography, corners)
    return bool(a[0] < b[0] and d[0] < c[0] and a[1] < d[1] and b[1] < c[1])


def transformed(homography: Array, points: Array) -> Array:
    """Points (N, 2) mapped by a homography (3, 3)."""
    x = points @ homography[:, :2].T + homography[:, 2]
    return x[:, :2] / x[:, 2:]


def _stretch(homography: Array, crop: tuple[int, int, int, int]) -> float:
    """Largest over smallest scale among the corners and the centre of a crop, over all directions."""
    first, top, end, bottom = crop
    places = np.array(
        [[first, top], [end, top], [end, bottom], [first, bottom], [(first + end) / 2, (top + bottom) / 2]]
    )
    back = np.linalg.inv(homography)
    scales = []
    for place in places:
        around = transformed(back, place + np.array([[0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5]]))
        jacobian = np.stack([around[0] - around[1], around[2] - around[3]])
        scales.append(np.linalg.svd(jacobian, compute_uv=False))
    return float(np.max(scales) / max(np.min(scales), 1e-12))
