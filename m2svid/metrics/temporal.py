"""Metrics of how a video changes over time.

Shapes: T frames, H W pixels. Videos are (T, H, W, 3) float32 in [0, 1], masks (T, H, W) bool.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from m2svid.metrics.regions import require_side

SMALLEST_SIDE = 12  # pixels; OpenCV's DIS takes no smaller frames


class Flow(NamedTuple):
    """From a frame to the next one.

    Attributes:
        offset: (H, W, 2) float32, x and y in pixels.
        visible: (H, W) bool, False where the next frame doesn't show the pixel or the flow is unsure.
    """

    offset: NDArray[np.float32]
    visible: NDArray[np.bool_]


def flows(video: NDArray[np.float32]) -> list[Flow]:
    """The T - 1 optical flows of a video, by OpenCV's DIS.

    Visible is what the flow forth and back agree on, away from motion borders, as in
    phoenix104104/fast_blind_video_consistency (there with FlowNet2), and what stays inside the frame.

    Raises:
        UserError: the frames are too small.
    """
    require_side("warping_error", SMALLEST_SIDE, *video.shape[1:3])
    grays = [cv2.cvtColor((frame * 255).round().astype(np.uint8), cv2.COLOR_RGB2GRAY) for frame in video]
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found = []
    for now, following in pairwise(grays):
        forth, back = dis.calc(now, following, None), dis.calc(following, now, None)
        found.append(Flow(forth, visible(forth, back)))
    return found


def visible(forth: NDArray[np.float32], back: NDArray[np.float32]) -> NDArray[np.bool_]:
    """True where |f + b|² <= .01 (|f|² + |b|²) + .5 and |grad f|² <= .01 |f|² + .002; b is taken at
    the place that f leads to.

    Args:
        forth, back: (H, W, 2) px.

    Returns:
        (H, W) bool.
    """
    height, width = forth.shape[:2]
    target = forth + np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
    inside = ((target >= 0) & (target <= (width - 1, height - 1))).all(-1)
    returned = follow(back, forth)
    agrees = _square(forth + returned) <= 0.01 * (_square(forth) + _square(returned)) + 0.5
    gradient = np.zeros((height, width), np.float32)
    gradient[:, :-1] += _square(np.diff(forth, axis=1))
    gradient[:-1] += _square(np.diff(forth, axis=0))
    return inside & agrees & (gradient <= 0.01 * _square(forth) + 0.002)


def follow(image: NDArray[np.float32], offset: NDArray[np.float32]) -> NDArray[np.float32]:
    """The values of an image (H, W, C) where each pixel's offset leads, bilinear; borders are repeated."""
    height, width = offset.shape[:2]
    x = offset[..., 0] + np.arange(width, dtype=np.float32)
    y = offset[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _square(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.square(vectors).sum(-1)


def warping_error(
    video: NDArray[np.float32], flows: Sequence[Flow], mask: NDArray[np.bool_] | None = None
) -> float | None:
    """Squared change along the flow: mean over the visible pixels of a pair of frames, then over pairs.

    Source: Lai et al., "Learning blind video temporal consistency", 2018, where all three channels count. The
    flow is the truth's, and has errors: compare with the value of the truth itself.

    Args:
        mask: only pixels of the earlier frame that are in it count.

    Returns:
        0 to 1; None if no pixel counts in any pair.
    """
    values = []
    for index, (offset, seen) in enumerate(flows):
        counts = seen if mask is None else seen & mask[index]
        if counts.any():
            change = follow(video[index + 1], offset) - video[index]
            values.append(np.square(change)[counts].mean(dtype=np.float64))
    return float(np.mean(values)) if values else None


def flicker(video: NDArray[np.float32], mask: NDArray[np.bool_] | None = None) -> float | None:
    """Mean absolute change between neighbouring frames, 0 to 1 (VBench's temporal flickering is 1 - this).

    Movement counts too: compare with the value of the truth.

    Args:
        mask: only pixels that are in it in both frames count.

    Returns:
        None if no pixel counts in any pair.
    """
    values = []
    for index, (now, following) in enumerate(pairwise(video)):
        counts = slice(None) if mask is None else mask[index] & mask[index + 1]
        change = np.abs(following - now)[counts]
        if change.size:
            values.append(change.mean(dtype=np.float64))
    return float(np.mean(values)) if values else None


def changes(video: Iterable[NDArray[np.float32]]) -> NDArray[np.float64]:
    """(T - 1,) mean absolute change to each frame (H, W, 3) from the one before."""
    return np.array([np.abs(new - old).mean(dtype=np.float64) for old, new in pairwise(video)])


def border_ratio(
    changes: NDArray[np.float64], borders: Collection[int], left_out: Collection[int] = ()
) -> float | None:
    """Mean change to the frames at window borders over that to all others.

    A film without seams has what its truth has, so divide by the truth's ratio.

    Args:
        changes: (T - 1,), of `changes`.
        borders: numbers of frames, from 1 on, that a new window brings in.
        left_out: frames that count for neither, for instance the first ones of shots.

    Returns:
        None if either has no frame or nothing changes elsewhere.
    """
    frames = set(range(1, len(changes) + 1)) - set(left_out)
    at = [changes[frame - 1] for frame in sorted(frames & set(borders))]
    elsewhere = [changes[frame - 1] for frame in sorted(frames - set(borders))]
    if not at or not elsewhere or not np.any(elsewhere):
        return None
    return float(np.mean(at) / np.mean(elsewhere))
