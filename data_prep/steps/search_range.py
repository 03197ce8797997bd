"""Which disparities occur in a video, from a few small pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from data_prep.steps.disparity import DisparityRange, match
from data_prep.steps.video import Pair, gray

_WIDTH = 512  # pixels; wider views are made smaller
_LARGEST = 0.25  # of the width: larger disparities are not looked for
_RARE = 0.002  # share of the pixels at either end that may be mismatches
_TEXTURE = 24  # Sobel gradient; 3 of 255 from a pixel to the next
_MARGIN = 0.05  # of the extent, for what the samples miss
_SHIFT_MULTIPLE = 4


@dataclass(frozen=True)
class Disparities:
    """Statistics of the samples.

    Attributes:
        low: smallest disparity but for rare mismatches, pixels of a view.
        high: largest disparity, pixels.
        consistent: share of the pixels that pass the left-right check.
    """

    low: float
    high: float
    consistent: float

    @property
    def search(self) -> DisparityRange:
        """The range to match in, with a margin on both sides."""
        margin = 2 + _MARGIN * (self.high - self.low)
        return DisparityRange(math.floor(self.low - margin), math.ceil(self.high + margin))

    @property
    def shift(self) -> int:
        """Pixels to add to all disparities to make them positive; 0 if they are but for a pixel of noise.

        A multiple of 4, which leaves at least 1 px for the farthest points.
        """
        if self.low >= -1:
            return 0
        return math.ceil((1 - self.low) / _SHIFT_MULTIPLE) * _SHIFT_MULTIPLE

    def shifted(self) -> Disparities:
        return Disparities(self.low + self.shift, self.high + self.shift, self.consistent)


def find_disparities(pairs: Sequence[Pair]) -> Disparities:
    """Matches pairs of (H, W, 3) uint8 views at reduced size, both ways up to a quarter of the width."""
    width = pairs[0][0].shape[1]
    scale = min(1.0, _WIDTH / width)
    extent = round(_LARGEST * width * scale)
    search = DisparityRange(-extent, extent)
    found, shares = [], []
    for pair in pairs:
        small = [_smaller(gray(view), scale) for view in pair]
        disparity, consistent = match(*small, search)
        found.append(disparity[_reliable(small[0], consistent)])
        shares.append(consistent.mean())
    values = np.concatenate(found)
    low, high = np.quantile(values, [_RARE, 1 - _RARE]) / scale if len(values) else (0.0, 0.0)
    return Disparities(float(low), float(high), float(np.mean(shares)))


def _reliable(left: np.ndarray, consistent: np.ndarray) -> np.ndarray:
    """Matches on texture and away from where matching failed: skies and occlusions agree on anything."""
    inner = cv2.erode(consistent.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return inner & (np.abs(cv2.Sobel(left, cv2.CV_32F, 1, 0)) > _TEXTURE)


def _smaller(image: np.ndarray, scale: float) -> np.ndarray:
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
