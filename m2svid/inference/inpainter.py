"""The interface of everything that makes a right view of a warped one, and its plain baseline.

Shapes: T frames of a window, H W pixels. Videos are (T, 3, H, W), uint8 or float in [0, 1].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from m2svid.inference.memory import MemoryPlan
from m2svid.warping.fill import fill_smoothly
from m2svid.warping.surface import warp_surfaces
from m2svid.warping.view import warp_view


class Inpainter(ABC):
    """Fills the holes of a warped view and may repair the rest.

    Attributes:
        window: frames that it takes at a time.
        overlap: frames that neighbouring windows of a shot share.
        together: True where it looks at the frames of a window together, False where at each alone.
        settings: choices that change the result, apart from the user's options.
        memory: plan of its model; None = it needs none.
        description: one line for the user.
    """

    window: int
    overlap: int
    together: bool = True
    settings: Mapping[str, int | str] = MappingProxyType({})
    memory: MemoryPlan | None = None
    description: str

    def warp(self, left: Tensor, disparity: Tensor) -> tuple[Tensor, Tensor]:
        """Warp the left view as the inpainter is best served: for a model, see `warp_view`.

        Args:
            left: (T, 3, H, W).
            disparity: (T, 1, H, W) px, >= 0.

        Returns:
            warped and hole, as `__call__` takes them.
        """
        return warp_view(left, disparity)

    @abstractmethod
    def __call__(
        self,
        left: Tensor,
        warped: Tensor,
        hole: Tensor,
        fps: float,
        known: Tensor | None = None,
        *,
        needed: Tensor | None = None,
    ) -> Tensor:
        """Make the right view of a window.

        Args:
            left: (T, 3, H, W).
            warped: (T, 3, H, W), the left view warped to the right eye.
            hole: (T, 1, H, W) bool, True where no source pixel landed.
            fps: frames per second.
            known: (K, 3, H, W), right frames 0 to K - 1, made before; None = none.
            needed: (H, W) bool, pixels of the result that will be used; the others may be anything finite.
                None = all.

        Returns:
            (T, 3, H, W), of the dtype of `warped` or float in [0, 1].
        """


class BackgroundFill(Inpainter):
    """No model: holes take the colours of the background next to them and around; nothing else changes.

    The hole may also be the share of each pixel that is to be filled, float32 in [0, 1].
    """

    window, overlap, together = 1, 0, False
    description = "holes filled from the background around them (no model)"

    def warp(self, left: Tensor, disparity: Tensor) -> tuple[Tensor, Tensor]:
        """Warp the left view as it is to be seen: see `warp_surfaces`."""
        return warp_surfaces(left, disparity)

    def __call__(
        self,
        left: Tensor,
        warped: Tensor,
        hole: Tensor,
        fps: float,
        known: Tensor | None = None,
        *,
        needed: Tensor | None = None,
    ) -> Tensor:
        return fill_smoothly(warped, hole)


def unit(video: Tensor) -> Tensor:
    """uint8 or float in [0, 1] -> float in [0, 1]."""
    return video.float() / 255 if video.dtype == torch.uint8 else video
