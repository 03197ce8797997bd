"""Row-aligns a camera pair that nobody calibrated, from points that both views have in common.

Two methods, of which the one wins that aligns the points better within limits of distortion: OpenCV's
uncalibrated rectification, as in the paper, which may stretch a view without end; and rotations of two
cameras whose focal length is guessed, which can't (A. Fusiello and L. Irsara, "Quasi-Euclidean Uncalibrated
Epipolar Rectification", ICPR 2008). Where all points are about equally far, or cover a part of the view only,
the first one is often torn.

Shapes: H W pixels of a view, N matches.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from data_prep.steps.points import Matches, PointMatcher
from data_prep.steps.video import Pair
from m2svid.errors import UserError

Array = NDArray[np.float64]

RANSAC_THRESHOLD = 3.0  # px, paper's code
RANSAC_ROUNDS = 30  # each on the inliers of the one before
FEWEST_INLIERS = 100  # of all frames together
_CONFIDENCE, _ITERATIONS = 0.999, 10_000
_STEPS = 60
_LARGEST_TURN = 0.6  # rad


class UnrectifiableError(Exception):
    """Two views that can't be row-aligned; says why."""


@dataclass(frozen=True)
class Limits:
    """What rectified views must be like.

    Attributes:
        stretch: largest ratio between the scales at any two places and directions of the crop.
        crop: smallest share of a view that the crop keeps.
        vertical: three quarters of the inliers must be at most this far apart vertically, px.
    """

    stretch: float = 2.0
    crop: float = 0.25
    vertical: float = 2.0


@dataclass(frozen=True)
class Rectification:
    """How both views of a video are row-aligned.

    Attributes:
        left: (3, 3) homography of the left view, from its pixels to those of the rectified one.
        right: (3, 3), likewise.
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
        """Where the matches lie in the rectified views, before they are cropped."""
        return Matches(_transformed(self.left, matches.left), _transformed(self.right, matches.right))

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


def pooled_inliers(matcher: PointMatcher, pairs: Sequence[Pair]) -> tuple[Matches, Array]:
    """Match all pairs and keep what obeys one epipolar geometry.

    Returns:
        The inliers of all pairs together, and their (3, 3) fundamental matrix.

    Raises:
        UnrectifiableError: too few.
    """
    return inliers(Matches.join([matcher(pair) for pair in pairs]))


def inliers(matches: Matches) -> tuple[Matches, Array]:
    """RANSAC, repeated on its own inliers until none leaves; see `pooled_inliers`."""
    given = len(matches)
    fundamental = np.zeros((0, 0))
    for _ in range(RANSAC_ROUNDS):
        if len(matches) < FEWEST_INLIERS:
            raise UnrectifiableError(
                f"too few inliers: {len(matches)} of {given} matches obey one geometry, {FEWEST_INLIERS} are "
                "the least"
            )
        fundamental, mask = cv2.findFundamentalMat(
            matches.left, matches.right, cv2.FM_RANSAC, RANSAC_THRESHOLD, _CONFIDENCE, _ITERATIONS
        )
        if fundamental is None or fundamental.shape != (3, 3):
            raise UnrectifiableError(f"no geometry: RANSAC finds none in {len(matches)} matches")
        kept = mask.ravel() > 0
        matches = matches[kept]
        if kept.all():
            break
    return matches, fundamental


def rectify(
    matches: Matches,
    fundamental: Array,
    size: tuple[int, int],
    limits: Limits = Limits(),
) -> tuple[Rectification, str]:
    """Find the homographies that row-align inliers best without breaking the limits.

    Args:
        matches: inliers of all frames.
        fundamental: (3, 3), their geometry.
        size: (width, height) of a view.
        limits: what the result must be like.

    Returns:
        The rectification and its method: "uncalibrated" or "rotations".

    Raises:
        UnrectifiableError: neither method keeps the limits; gives the reason of both.
    """
    found: list[tuple[float, Rectification, str]] = []
    reasons: list[str] = []
    for name, method in (("uncalibrated", _uncalibrated), ("rotations", _rotations)):
        try:
            tried = method(matches, fundamental, size)
            tried.check(size, limits)
            apart = float(np.quantile(np.abs(tried.of_points(matches).vertical), 0.75))
            if not apart <= limits.vertical:
                raise UnrectifiableError(
                    f"not row-aligned: a quarter of the matches is more than {apart:.1f} px apart vertically "
                    f"where {limits.vertical:g} is the most"
                )
            found.append((apart, tried, name))
        except UnrectifiableError as error:
            reasons.append(f"{name}: {error}")
    if not found:
        raise UnrectifiableError("no rectification; " + "; ".join(reasons))
    _, best, name = min(found, key=lambda result: result[0])
    return best, name


def _uncalibrated(matches: Matches, fundamental: Array, size: tuple[int, int]) -> Rectification:
    """R. Hartley's method in OpenCV, which moves the matches as little as possible."""
    found, left, right = cv2.stereoRectifyUncalibrated(matches.left, matches.right, fundamental, size)
    if not found:
        raise UnrectifiableError("OpenCV finds no homographies")
    return Rectification(left, right, _common_crop((left, right), size))


def _rotations(matches: Matches, _: Array, size: tuple[int, int]) -> Rectification:
    """Turn both cameras until the rows agree: five angles and the focal length.

    Least squares by Levenberg and Marquardt; Huber weights keep single mismatches from pulling.
    """
    width, height = size
    centre = np.array([(width - 1) / 2, (height - 1) / 2])

    def homographies(values: Array) -> tuple[Array, Array]:
        """Of the left camera's angles about y and z, the right one's about x, y and z, and log2 of the focal
        length over the width; angles in rad."""
        camera = np.array(
            [[width * 2 ** values[5], 0, centre[0]], [0, width * 2 ** values[5], centre[1]], [0, 0, 1]]
        )
        turns = (np.array([0, *values[:2]]), values[2:5])
        left, right = (camera @ cv2.Rodrigues(turn)[0] @ np.linalg.inv(camera) for turn in turns)
        return left, right

    def vertical(values: Array) -> Array:
        left, right = homographies(values)
        return (_transformed(right, matches.right) - _transformed(left, matches.left))[:, 1]

    # How far both cameras turn to the side, and the focal length, are known badly where little perspective is
    # seen: weak springs hold them.
    spring = np.array([0, 0.1, 0, 0, 0.1, 0.1]) * np.sqrt(len(matches))

    def cost(values: Array) -> float:
        apart = np.abs(vertical(values))
        return float(np.where(apart < 1, apart**2, 2 * apart - 1).sum() + ((spring * values) ** 2).sum())

    values = np.zeros(6)
    damping, lowest = 1e-3, cost(values)
    for _ in range(_STEPS):
        apart = vertical(values)
        slope = np.stack(
            [(vertical(values + step) - vertical(values - step)) / 2e-5 for step in 1e-5 * np.eye(6)], axis=1
        )
        weight = 1 / np.maximum(np.abs(apart), 1)
        normal = slope.T @ (weight[:, None] * slope) + np.diag(spring**2)
        downhill = slope.T @ (weight * apart) + spring**2 * values
        tried = values - np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-9), downhill)
        reached = cost(tried) if np.abs(tried[:5]).max() < _LARGEST_TURN else np.inf
        if reached < lowest:
            settled = lowest - reached < 1e-6 * lowest
            values, lowest, damping = tried, reached, damping / 5
            if settled:
                break
        else:
            damping *= 5
    left, right = homographies(values)
    return _centred(left, right, size)


def _centred(left: Array, right: Array, size: tuple[int, int]) -> Rectification:
    """Moved so that both views' centres stay inside the picture: rows by the same, columns each on its
    own."""
    middle = np.array([[(size[0] - 1) / 2, (size[1] - 1) / 2]])
    moved = [_transformed(homography, middle)[0] - middle[0] for homography in (left, right)]
    down = (moved[0][1] + moved[1][1]) / 2
    left, right = (
        np.array([[1, 0, -across], [0, 1, -down], [0, 0, 1]]) @ homography
        for homography, (across, _) in zip((left, right), moved, strict=True)
    )
    return Rectification(left, right, _common_crop((left, right), size))


def _common_crop(homographies: Sequence[Array], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Largest upright rectangle, of even size, within the moved corners of both views and the picture
    itself."""
    width, height = size
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    first, top, end, bottom = 0.0, 0.0, float(width), float(height)
    for homography in homographies:
        if not _keeps_sides(homography, corners):
            raise UnrectifiableError("torn: a view is turned over or its horizon lies within the picture")
        (a, b, c, d) = _transformed(homography, corners)
        first, end = max(first, a[0], d[0]), min(end, b[0], c[0])
        top, bottom = max(top, a[1], b[1]), min(bottom, c[1], d[1])
    if not (end - first >= 2 and bottom - top >= 2):
        raise UnrectifiableError("empty crop: the rectified views have no part in common")
    left, upper = int(np.ceil(first)), int(np.ceil(top))
    columns, rows = int(np.floor(end)) - left, int(np.floor(bottom)) - upper
    return left, upper, left + columns - columns % 2, upper + rows - rows % 2


def _keeps_sides(homography: Array, corners: Array) -> bool:
    """Whether no corner is sent through infinity, and neither axis is turned over."""
    depth = corners @ homography[2, :2] + homography[2, 2]
    if not ((depth > 0).all() or (depth < 0).all()):
        return False
    a, b, c, d = _transformed(homography, corners)
    return bool(a[0] < b[0] and d[0] < c[0] and a[1] < d[1] and b[1] < c[1])


def _transformed(homography: Array, points: Array) -> Array:
    """(N, 2) -> (N, 2)."""
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
        around = _transformed(back, place + np.array([[0.5, 0], [-0.5, 0], [0, 0.5], [0, -0.5]]))
        jacobian = np.stack([around[0] - around[1], around[2] - around[3]])
        scales.append(np.linalg.svd(jacobian, compute_uv=False))
    return float(np.max(scales) / max(np.min(scales), 1e-12))
