"""Stretches of a film that teach nothing: still, black, letterboxed, or text on a plain ground.

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

_WIDTH = 256  # px to which frames are reduced
_SAMPLES = 8  # frames looked at

_BLACK = 24  # of 255; video black is 16 where its range was not told
_BRIGHT_SHARE = 0.01  # of a picture that is not black
_STILL = 0.75  # of 255, mean difference from the first sample; a codec's noise is about 0.3
_BAR = 0.02  # of the height or width
_PLAIN = 8  # of 255 around the commonest brightness
_TEXTURE = 2.0  # of 255 from the mean around a pixel
_PLAIN_SHARE = 0.6  # of a picture that is a plain ground


def reject_stretch(frames: Sequence[NDArray[np.uint8]]) -> str | None:
    """Say why a stretch of (H, W, 3) frames is no training clip, or None where it is one."""
    gray = _small_gray(frames)
    if np.quantile(gray, 1 - _BRIGHT_SHARE) < _BLACK:
        return "black"
    if all(_plain_share(picture) >= _PLAIN_SHARE for picture in gray):
        return "text or nothing on a plain ground"
    bars = _bars(gray)
    if bars is not None:
        return bars
    if len(gray) > 1 and np.abs(gray[1:] - gray[0]).mean(axis=(1, 2)).max() < _STILL:
        return "still"
    return None


def _small_gray(frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    height, width = frames[0].shape[:2]
    size = (_WIDTH, max(1, round(height * _WIDTH / width)))
    chosen = np.linspace(0, len(frames) - 1, min(len(frames), _SAMPLES)).round().astype(int)
    small = [cv2.resize(frames[index], size, interpolation=cv2.INTER_AREA) for index in chosen]
    return np.stack([cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in small]).astype(np.float32)


def _bars(gray: NDArray[np.float32]) -> str | None:
    """Dark on both sides in all pictures, with an edge where the film begins."""
    brightest = gray.max(axis=0)
    for axis, name in ((1, "above and below"), (0, "left and right")):
        dark = brightest.max(axis=axis) < _BLACK
        if dark.all():
            continue
        before, after = int(dark.argmin()), int(dark[::-1].argmin())
        if min(before, after) >= max(2, _BAR * len(dark)):
            share = (before + after) / len(dark)
            return f"letterboxed: black bars {name} take {share:.0%} of the picture; crop the film first"
    return None


def _plain_share(picture: NDArray[np.float32]) -> float:
    """Share of the pixels that have the commonest brightness and no texture."""
    counts = np.bincount(picture.astype(int).ravel(), minlength=256)
    commonest = np.convolve(counts, np.ones(2 * _PLAIN + 1), "same").argmax()
    smooth = np.abs(picture - cv2.GaussianBlur(picture, (0, 0), 2)) < _TEXTURE
    return float((smooth & (np.abs(picture - commonest) <= _PLAIN)).mean())
