"""Disparity of rectified pairs by semi-global matching, and what lies where nothing matches.

A pixel x of the left view is seen at x - d in the right view. Shapes: H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

# Chosen on three real scenes (Middlebury's Adirondack, a street, a forest) by the PSNR of the warped view.
# Blocks of 3 and lower penalties leave 7.5 instead of 8.6 % of Adirondack wrong by more than 2 px, but in the
# videos they are noisier: up to a third more holes.
_BLOCK = 5
_SMALL_STEP, _LARGE_STEP = 8, 64  # penalties for a step of 1 px and of more, for each pixel of the block
_UNIQUENESS = 10  # percent
_SPECKLE = 200  # smaller islands of one disparity, in pixels, count as mismatches
_LEFT_RIGHT_TOLERANCE = 1.0  # pixels
_MEDIAN = 5  # pixels
_FILLING_MEDIAN = 21  # pixels
_STEP = 16  # OpenCV wants multiples of this many disparities


@dataclass(frozen=True)
class DisparityRange:
    """The range in which disparities are looked for, both ends included, in pixels."""

    low: int
    high: int

    @property
    def num_disparities(self) -> int:
        return -(-(self.high - self.low + 1) // _STEP) * _STEP


def match(left: np.ndarray, right: np.ndarray, search: DisparityRange) -> tuple[np.ndarray, np.ndarray]:
    """Disparity of the left view, with a left-right check.

    OpenCV's three-way semi-global matching (H. Hirschmüller, "Stereo Processing by Semiglobal Matching and
    Mutual Information", PAMI 2008), once from each view. Borders are extended: all columns are searched.

    Args:
        left: (H, W) uint8.
        right: (H, W) uint8, row-aligned with left.
        search: the disparities tried.

    Returns:
        disparity: (H, W) float32 px, meaningless where not consistent.
        consistent: (H, W) bool, True where the right view's disparity leads back to within 1 px.
    """
    margin = max(abs(search.low), abs(search.low + search.num_disparities)) + _BLOCK
    width = left.shape[1]
    left, right = (
        cv2.copyMakeBorder(view, 0, 0, margin, margin, cv2.BORDER_REPLICATE) for view in (left, right)
    )
    matcher = _matcher(search)
    from_left = matcher.compute(left, right)
    # Seen in a mirror, the right view is a left view.
    from_right = matcher.compute(cv2.flip(right, 1), cv2.flip(left, 1))[:, ::-1]
    inside = slice(margin, margin + width)
    return _consistent(_pixels(from_left[:, inside]), _pixels(from_right[:, inside]), search.low)


def _matcher(search: DisparityRange) -> cv2.StereoSGBM:
    area = _BLOCK * _BLOCK
    return cv2.StereoSGBM_create(
        minDisparity=search.low,
        numDisparities=search.num_disparities,
        blockSize=_BLOCK,
        P1=_SMALL_STEP * area,
        P2=_LARGE_STEP * area,
        disp12MaxDiff=-1,  # OpenCV's own check knows one matching only
        preFilterCap=31,
        uniquenessRatio=_UNIQUENESS,
        mode=cv2.STEREO_SGBM_MODE_SGBM_3WAY,
    )


def _pixels(fixed_point: np.ndarray) -> np.ndarray:
    return fixed_point.astype(np.float32) / 16


def _consistent(from_left: np.ndarray, from_right: np.ndarray, low: int) -> tuple[np.ndarray, np.ndarray]:
    width = from_left.shape[1]
    target = np.rint(np.arange(width, dtype=np.float32) - from_left).astype(np.int32)
    back = np.take_along_axis(from_right, target.clip(0, width - 1), axis=1)
    found = (from_left >= low) & (back >= low) & (target >= 0) & (target < width)
    consistent = found & (np.abs(from_left - back) <= _LEFT_RIGHT_TOLERANCE)
    return from_left, consistent & ~_speckles(from_left, consistent)


def _speckles(disparity: np.ndarray, valid: np.ndarray) -> np.ndarray:
    nothing = np.iinfo(np.int16).min
    labelled = np.where(valid, disparity * 16, nothing).astype(np.int16)
    cleaned, _ = cv2.filterSpeckles(labelled, nothing, _SPECKLE, 16)
    return cleaned == nothing


def dense(disparity: np.ndarray, consistent: np.ndarray) -> np.ndarray:
    """Fill unmatched pixels from the background and smooth.

    What is found below 0, down to the search's low end, is infinitely far but for the error of matching: 0.

    Args:
        disparity: (H, W) float32 px.
        consistent: (H, W) bool, where it was matched.

    Returns:
        (H, W) float32 px >= 0.
    """
    filled = fill_from_background(disparity, consistent).clip(min=0)
    return cv2.medianBlur(_without_streaks(filled, consistent), _MEDIAN)


def _without_streaks(filled: np.ndarray, consistent: np.ndarray) -> np.ndarray:
    """Lowers what was filled to the median around it: rows that found a wrong neighbour stand out."""
    unit = max(float(filled.max()), 1.0) / 255  # a large median takes 8 bits
    coarse = cv2.medianBlur(np.rint(filled / unit).astype(np.uint8), _FILLING_MEDIAN) * np.float32(unit)
    return np.where(consistent, filled, np.minimum(filled, coarse))


def fill_from_background(disparity: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Give unknown pixels the disparity of the background beside them.

    What is seen by one eye only lies behind what covers it, so it gets the smaller of the nearest valid
    disparities to the left and to the right in its row. Rows without a valid pixel repeat the nearest row.

    Args:
        disparity: (H, W) float32.
        valid: (H, W) bool.

    Returns:
        (H, W) float32, equal to `disparity` where valid; zeros if nothing is valid.
    """
    if not valid.any():
        return np.zeros_like(disparity)
    known = np.where(valid, disparity, np.inf).astype(np.float32)
    nearest = np.minimum(_carry(known, valid), _carry(known[:, ::-1], valid[:, ::-1])[:, ::-1])
    filled = np.where(valid, disparity, nearest)
    rows = np.flatnonzero(valid.any(axis=1))
    closest = np.abs(np.arange(len(valid))[:, None] - rows).argmin(axis=1)
    return filled[rows[closest]]


def _carry(known: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Each pixel's nearest valid value to the left, infinity where there is none."""
    column = np.maximum.accumulate(np.where(valid, np.arange(valid.shape[1]), 0), axis=1)
    return np.take_along_axis(known, column, axis=1)
