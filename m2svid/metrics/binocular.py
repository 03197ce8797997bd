"""Metrics of a generated right view that look at it together with the left one.

Shapes: T frames, H W pixels. Views are (T, H, W, 3) uint8 RGB, row-aligned.
"""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from m2svid.warping.matching import DisparityRange, match

Frames: TypeAlias = NDArray[np.uint8]

_CANNY = 100, 200
_CHANGED = 5  # of 255; smaller differences between the views don't count as different
_EDGE_WEIGHT, _DIFFERENCE_WEIGHT = 0.75, 0.25

_LONG_SIDE = 768  # pixels, at which keypoints are matched
_LEFT_POINTS, _RIGHT_POINTS = 5000, 10000
_RATIO = 0.8  # of the best match's distance to the second best's (Lowe)
_SAME_ROW = 2  # pixels at that size

_D1_PIXELS, _D1_SHARE = 3.0, 0.05  # KITTI 2015: an outlier is off by more than both


def siou(prediction: Frames, truth: Frames, left: Frames, wrapped: bool = False) -> float:
    """Stereo IoU: do edges stand, and do the views differ, where they do in the truth? Mean over frames.

    0.75 IoU of the edges of both right views + 0.25 IoU of the pixels in which either differs from the left
    view; an IoU of nothing is 0, so that even the truth has less than 1 where it has no edge, or equals left.
    Source: Mono2Stereo (song2yu/Mono2Stereo, utils_depth/metrics.py).

    Args:
        wrapped: take the differences modulo 256, as the published code did until April 2026: published values
            may have been measured so.

    Returns:
        0 to 1, higher is better.
    """
    values = []
    for ours, true, other in zip(prediction, truth, left, strict=True):
        edges = _iou(_edges(ours), _edges(true))
        differences = _iou(_differs(ours, other, wrapped), _differs(true, other, wrapped))
        values.append(_EDGE_WEIGHT * edges + _DIFFERENCE_WEIGHT * differences)
    return float(np.mean(values))


def _edges(frame: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return cv2.Canny(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), *_CANNY) > 0


def _differs(frame: NDArray[np.uint8], left: NDArray[np.uint8], wrapped: bool) -> NDArray[np.bool_]:
    difference = frame - left if wrapped else cv2.absdiff(frame, left)  # uint8 wraps round
    return cv2.cvtColor(difference, cv2.COLOR_RGB2GRAY) > _CHANGED


def _iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 0.0


def ematch_sift(prediction: Frames, truth: Frames, left: Frames) -> float | None:
    """Matchability error with SIFT features, in percent: which keypoints of the left view find a match?

    100 (1 - |M_truth and M| / |M_truth or M|) with M the keypoints of the left view that have a mutual match
    in the row (2 px at 768 px) of the prediction, and M_truth those of the true right view; mean over frames.
    Source: Elastic3D, Eq. 4, as nandometzger/Matchability specifies it (docs/metric.md), whose default are
    DeDoDe v2 features: its published values and these are **not** comparable.

    Returns:
        0 to 100, lower is better; None if no keypoint of any frame has a match.
    """
    values = []
    for frames in zip(left, truth, prediction, strict=True):
        source, true, ours = (_keypoints(frame, count) for frame, count in zip(frames, _POINTS, strict=True))
        in_truth, in_ours = _matched(source, true), _matched(source, ours)
        union = np.count_nonzero(in_truth | in_ours)
        if union:
            values.append(100 * (1 - np.count_nonzero(in_truth & in_ours) / union))
    return float(np.mean(values)) if values else None


_POINTS = _LEFT_POINTS, _RIGHT_POINTS, _RIGHT_POINTS
_Keypoints: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]  # (N,) rows, (N, 128) descriptors


def _keypoints(frame: NDArray[np.uint8], count: int) -> _Keypoints:
    scale = _LONG_SIDE / max(frame.shape[:2])
    size = (round(frame.shape[1] * scale), round(frame.shape[0] * scale))
    resized = cv2.resize(frame, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    gray = cv2.cvtColor(resized, cv2.COLOR_RGB2GRAY)
    found, descriptors = cv2.SIFT_create(nfeatures=count).detectAndCompute(gray, None)
    if descriptors is None:
        return np.zeros(0, np.float32), np.zeros((0, 128), np.float32)
    return np.array([point.pt[1] for point in found], np.float32), descriptors


def _matched(source: _Keypoints, target: _Keypoints) -> NDArray[np.bool_]:
    """(N,) bool: which keypoints of `source` have a mutual, distinct match in their row of `target`."""
    rows, descriptors = source
    matched = np.zeros(len(rows), bool)
    if not len(rows) or not len(target[0]):
        return matched
    matcher = cv2.BFMatcher(cv2.NORM_L2)
    back = {pair.queryIdx: pair.trainIdx for pair in matcher.match(target[1], descriptors)}
    for best, *others in matcher.knnMatch(descriptors, target[1], k=2):
        distinct = all(best.distance < _RATIO * other.distance for other in others)
        same_row = abs(rows[best.queryIdx] - target[0][best.trainIdx]) <= _SAME_ROW
        matched[best.queryIdx] = distinct and same_row and back[best.trainIdx] == best.queryIdx
    return matched


def disparity_errors(prediction: Frames, truth: Frames, left: Frames) -> dict[str, float | None]:
    """Disparity of (left, prediction) against that of (left, truth), by semi-global matching (SGBM).

    Pixels count that have a left-right consistent match in both; disparities from -W/32 to W/8, rounded up to
    multiples of 16 px, are looked for. After StereoWorld, which matches with a network: values that another
    matcher measured are not comparable.

    Returns:
        epe: end-point error, the mean absolute difference, px of the frames; lower is better.
        d1: share of the pixels that are off by more than 3 px and by more than 5 %, 0 to 1.
        matched: share of the truth's consistent pixels that are consistent in the prediction too, 0 to 1: a
            low one says that the errors tell little.
        All None if the truth has no consistent pixel, `epe` and `d1` if they share none.
    """
    search = search_range(left.shape[2])
    errors, limits, comparable = [], [], 0
    for frames in zip(left, truth, prediction, strict=True):
        gray, true, ours = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames)
        (expected, known), (found, sure) = match(gray, true, search), match(gray, ours, search)
        both = known & sure
        errors.append(np.abs(found - expected)[both])
        limits.append(np.maximum(_D1_PIXELS, _D1_SHARE * np.abs(expected))[both])
        comparable += np.count_nonzero(known)
    error, limit = np.concatenate(errors), np.concatenate(limits)
    return {
        "epe": float(error.mean(dtype=np.float64)) if error.size else None,
        "d1": float((error > limit).mean()) if error.size else None,
        "matched": error.size / comparable if comparable else None,
    }


def search_range(width: int) -> DisparityRange:
    """The disparities looked for in views of a width, px: -W/32 to W/8, rounded up to multiples of 16."""
    return DisparityRange(-16 * -(-width // 512), 16 * -(-width // 128) - 1)


def color_difference(view: Frames, left: Frames) -> float:
    """CIE76 distance between the mean CIELAB colours (sRGB, D65) of the two views, mean over frames.

    It sees casts and flashing of a whole view; about 2 can be seen. A true pair is not quite at 0: its eyes
    see different borders.
    """
    return float(
        np.mean([np.linalg.norm(_mean_lab(a) - _mean_lab(b)) for a, b in zip(view, left, strict=True)])
    )


def _mean_lab(frame: NDArray[np.uint8]) -> NDArray[np.float64]:
    return cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2Lab).mean((0, 1), dtype=np.float64)
