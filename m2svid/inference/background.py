"""Warped view -> right view, window by window: what all ways share, and the plain baseline.

Shapes: T frames of a window, H W pixels, h w latent. Videos are (T, 3, H, W), uint8 or float in [0, 1].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from m2svid.inference.windows import WITHOUT_MODEL
from m2svid.warping.fill import fill_from_background
from m2svid.warping.mask import dilate

_SOFT = 5  # px beside a hole over which original and refined pixels are joined


class Refiner(ABC):
    """Attributes:
    length: frames of a window.
    overlap: frames that neighbouring windows of a shot share.
    description: one line for the user.
    settings: what was chosen for it and changes the result.
    """

    length: int
    overlap: int
    description: str
    settings: Mapping[str, int | str] = MappingProxyType({})

    @abstractmethod
    def __call__(
        self, left: Tensor, warped: Tensor, hole: Tensor, fps: float, known: Tensor | None
    ) -> Tensor:
        """The right view of a window.

        Args:
            left: (T, 3, H, W).
            warped: the left view warped to the right eye, black in holes.
            hole: (T, 1, H, W) bool, closed.
            fps: frames per second.
            known: (K, 3, H, W) in [0, 1], right frames 0 to K - 1, made before; None = none.

        Returns:
            (T, 3, H, W), of the dtype of `left` or float in [0, 1].
        """


class BackgroundFill(Refiner):
    """The plain baseline: holes take the colour of the background beside them; nothing else changes."""

    length, overlap = WITHOUT_MODEL, 0
    description = "holes filled from the background side (no model)"

    def __call__(
        self, left: Tensor, warped: Tensor, hole: Tensor, fps: float, known: Tensor | None
    ) -> Tensor:
        return fill_from_background(warped, hole)


def keep_outside(right: Tensor, warped: Tensor, hole: Tensor) -> Tensor:
    """The warped view's own pixels outside holes, softly joined with the refined ones inside.

    Args:
        right: (T, 3, H, W) refined.
        warped: (T, 3, H, W), of the same dtype and range.
        hole: (T, 1, H, W) bool.
    """
    grown = dilate(hole, 2 * _SOFT + 1).float()
    soft = F.avg_pool2d(F.pad(grown, (_SOFT,) * 4, mode="replicate"), 2 * _SOFT + 1, stride=1)
    alpha = torch.where(hole, 1.0, soft)
    return warped + (right - warped) * alpha


def match_color(right: Tensor, warped: Tensor, hole: Tensor) -> Tensor:
    """The refined view with the colours of the left one, whose pixels the warped view shows.

    One gain and one offset a channel for the whole window, so that nothing flickers; from the mean and the
    spread of what both views show outside the holes.

    Args:
        right: (T, 3, H, W) in [0, 1], refined.
        warped: (T, 3, H, W) in [0, 1].
        hole: (T, 1, H, W) bool.
    """
    seen = ~hole
    count = seen.sum().clamp(min=1)

    def moments(video: Tensor) -> tuple[Tensor, Tensor]:
        mean = (video * seen).sum((0, 2, 3), keepdim=True) / count
        variance = (((video - mean) * seen) ** 2).sum((0, 2, 3), keepdim=True) / count
        return mean, variance.sqrt()

    mean, spread = moments(right)
    wanted_mean, wanted_spread = moments(warped)
    gain = (wanted_spread / spread.clamp(min=1e-4)).clamp(0.5, 2)
    return ((right - mean) * gain + wanted_mean).clamp(0, 1)


def unit(video: Tensor) -> Tensor:
    """uint8 or float in [0, 1] -> float in [0, 1]."""
    return video.float() / 255 if video.dtype == torch.uint8 else video
