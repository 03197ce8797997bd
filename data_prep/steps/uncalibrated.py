"""Row-align a camera pair that nobody calibrated, from points that both views have in common.

Two methods, of which the one wins that aligns the points better within limits of distortion: OpenCV's
uncalibrated rectification, as in the paper, which may stretch a view without end; and rotations of two
cameras whose focal length is guessed, which can't (A. Fusiello and L. Irsara, "Quasi-Euclidean Uncalibrated
Epipolar Rectification", ICPR 2008). Where all points are about equally far, or cover a part of the view only,
the first one is often torn.

Shapes: H W pixels of a view, N matches.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from data_prep.steps.points import Matches, PointMatcher
from data_prep.steps.rectification import (
    DEFAULT_LIMITS,
    Array,
    Limits,
    Rectification,
    UnrectifiableError,
    common_crop,
    transformed,
)
from data_prep.steps.video import Pair

RANSAC_THRESHOLD = 3.0  # px, paper's code
RANSAC_ROUNDS = 30  # each on the inliers of the one before
FEWEST_INLIERS = 100  # of all frames together
_CONFIDENCE, _ITERATIONS = 0.999, 10_000
_STEPS = 60
_LARGEST_TURN = 0.6  # rad


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
    limits: Limits = DEFAULT_LIMITS,
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
    return Rectification(left, right, common_crop((left, right), size))


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
        return (transformed(right, matches.right) - transformed(left, matches.left))[:, 1]

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
    moved = [transformed(homography, middle)[0] - middle[0] for homography in (left, right)]
    down = (moved[0][1] + moved[1][1]) / 2
    left, right = (
        np.array([[1, 0, -across], [0, 1, -down], [0, 0, 1]]) @ homography
        for homography, (across, _) in zip((left, right), moved, strict=True)
    )
    return Rectification(left, right, common_crop((left, right), size))
