"""Left view and depth of a window -> the views of both eyes.

Shapes: T frames of a window, V views that are made (1 or 2), H W pixels, h w of the depth maps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m2svid.depth.shot import to_disparity
from m2svid.inference.background import Refiner, keep_outside, match_color, unit
from m2svid.inference.windows import Window
from m2svid.video.pictures import Pixels, to_pixels, to_tensor
from m2svid.warping.view import warp_view


@dataclass(frozen=True)
class StereoMaker:
    """Warps and refines.

    Attributes:
        refiner: what repairs the warped views.
        max_disparity: between the eyes where the depth is 1, px.
        eyes: "right" makes the right view; "both" each view from half of the disparity.
        blend: "full" or "holes": what is taken from the refined view.
        match: give the refined view the colours of the left one.
        fps: of the film.
        bits: of the result: 8, or 16 for finer ones.
    """

    refiner: Refiner
    max_disparity: float
    eyes: Literal["right", "both"]
    blend: Literal["full", "holes"]
    match: bool
    fps: float
    bits: Literal[8, 16]

    def __call__(
        self, window: Window, frames: list[Pixels], depth: NDArray[np.float32], shared: Pixels | None
    ) -> Pixels:
        """The views of a window, (V, T, H, W, 3): the right one, or left and right.

        Args:
            window: which of its frames the window before has made, too.
            frames: T of (H, W, 3).
            depth: (T, h, w) in [0, 1].
            shared: (V, K, H, W, 3), those frames as it made them; None = there are none.
        """
        left = to_tensor(frames)
        share = 1.0 if self.eyes == "right" else 0.5
        disparity = to_disparity(depth, *left.shape[-2:], self.max_disparity * share)
        views = []
        if self.eyes == "both":  # the left eye's view of a film is the right eye's of its mirror image
            mirrored = None if shared is None else shared[0, :, :, ::-1]
            made = self._right(window, left.flip(-1), disparity.flip(-1), mirrored)
            views.append(made[:, :, ::-1])
        views.append(self._right(window, left, disparity, None if shared is None else shared[-1]))
        return np.stack(views)

    def _right(self, window: Window, left: Tensor, disparity: Tensor, shared: Pixels | None) -> Pixels:
        return self.refine(window, left, *warp_view(left, disparity), shared)

    def refine(
        self, window: Window, left: Tensor, warped: Tensor, hole: Tensor, shared: Pixels | None
    ) -> Pixels:
        """The right view (T, H, W, 3).

        Args:
            window: which of its frames the window before has made, too.
            left: (T, 3, H, W).
            warped: (T, 3, H, W), black in holes.
            hole: (T, 1, H, W) bool, closed.
            shared: (K, H, W, 3), those frames as it made them; None = there are none.
        """
        before = None if shared is None else unit(to_tensor(list(shared)))
        known = None if before is None or not window.known else before[: window.known]
        right = self.refiner(left, warped, hole, self.fps, known)
        if self.match:
            right = match_color(unit(right), unit(warped), hole)
        if self.blend == "holes":
            right = keep_outside(unit(right), unit(warped), hole)
        if before is not None:
            right = cross_fade(unit(right), before, window.fade)
        return to_pixels(right, self.bits)


def cross_fade(right: Tensor, before: Tensor, fade: int) -> Tensor:
    """A window's views after those of the window before.

    Args:
        right: (T, 3, H, W) of this window.
        before: (K, 3, H, W), the same frames 0 to K - 1 as the window before has made them.
        fade: over the last `fade` of those, `right` comes in linearly; the others stay as they were.
    """
    count = len(before)
    alpha = (torch.arange(count, device=right.device) - (count - fade) + 1).clamp(min=0) / (fade + 1)
    alpha = alpha[:, None, None, None]
    return torch.cat([before + (right[:count] - before) * alpha, right[count:]])
