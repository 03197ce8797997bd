"""A warped view becomes the other eye's view: filled or refined, coloured, and joined to the window before.

Shapes: T frames of a window, K of them shared with the window before, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from m2svid.inference.blending import around_holes, cross_fade, keep_outside, match_color
from m2svid.inference.inpainter import Inpainter, unit
from m2svid.inference.windows import Window
from m2svid.video.pictures import Pixels, to_pixels, to_tensor


@dataclass(frozen=True)
class RightView:
    """Make the right view of a window.

    Attributes:
        inpainter: fills and repairs the warped view.
        blend: "full" takes all of its view, "holes" only what it puts into holes.
        match: give the view the colours of the left one.
        fps: of the film.
        bits: of the result: 8, or 16 for finer ones.
    """

    inpainter: Inpainter
    blend: Literal["full", "holes"]
    match: bool
    fps: float
    bits: Literal[8, 16]

    def __call__(
        self,
        window: Window,
        left: Tensor,
        warped: Tensor,
        hole: Tensor,
        shared: Pixels | None,
        outside: tuple[Tensor, Tensor] | None = None,
    ) -> Pixels:
        """Make the view, (T, H, W, 3).

        Args:
            window: says which of its frames the window before has made, too.
            left: (T, 3, H, W).
            warped: (T, 3, H, W), black in holes.
            hole: (T, 1, H, W), as the inpainter takes it.
            shared: (K, H, W, 3), those frames as the window before made them; None = there are none.
            outside: warped view and hole, the share of each pixel, for what is kept outside holes;
                None = the ones above.
        """
        before = None if shared is None else to_tensor(list(shared))
        known = None if before is None or not window.known else before[: window.known]
        kept, gone = outside or (warped, hole)
        needed = None
        if self.blend == "holes" and not self.match:  # colours are matched by the whole view
            needed = around_holes((gone > 0)[window.known if known is not None else 0 :].any(0)[0])
        right = self.inpainter(left, warped, hole, self.fps, known, needed=needed)
        if self.match:
            right = match_color(unit(right), unit(warped), hole > 0)
        if self.blend == "holes":
            right = keep_outside(unit(right), unit(kept), gone > 0)
        if before is not None:
            right = cross_fade(unit(before), unit(right), window.share())
        return to_pixels(right, self.bits)
