"""Flat views as VR180 for headsets: a half sphere as a square, equirectangular picture.

Shapes: H W pixels of the flat view, S of a side of the square.
"""

from __future__ import annotations

import math
from fractions import Fraction

import cv2
import numpy as np

from m2svid.errors import UserError
from m2svid.video.hdr import Pixels
from m2svid.video.planes import interleaved


class HalfSphere:
    """Put flat views in the middle of a half sphere, black around.

    The square has as many pixels as keep the detail in the middle of the view.

    Args:
        width: W.
        height: H.
        fov: angle over the whole width of the flat view, degrees.
        aspect: width of its pixels over their height.

    Raises:
        UserError: the angle is none that a flat picture can have.
    """

    def __init__(self, width: int, height: int, fov: float, aspect: Fraction = Fraction(1)) -> None:
        if not 0 < fov < 180:
            raise UserError(f"--fov must be above 0 and below 180 degrees, not {fov:g}")
        focal = width / 2 / math.tan(math.radians(fov) / 2)  # px, along a row
        self.side = max(8, round(math.pi * focal / 8) * 8)
        angles = (((np.arange(self.side) + 0.5) / self.side - 0.5) * np.pi).astype(np.float32)
        rise = np.tan(angles)[:, None] / np.cos(angles)[None]  # of a direction, against the optical axis
        columns = np.tan(angles)[None].repeat(self.side, 0)
        self._columns = self._inside(columns * focal + (width - 1) / 2, width)
        self._rows = self._inside(rise * focal * float(aspect) + (height - 1) / 2, height)

    def __call__(self, rgb: Pixels) -> Pixels:
        """Frame (H, W, 3) -> (S, S, 3)."""
        return cv2.remap(
            interleaved(rgb), self._columns, self._rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT
        )

    @staticmethod
    def _inside(place: np.ndarray, length: int) -> np.ndarray:
        """Without the huge numbers near the poles, which would overflow; what lies outside stays outside."""
        return place.clip(-16, length + 16).astype(np.float32)
