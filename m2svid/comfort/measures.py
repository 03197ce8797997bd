"""Parallax of frames and shots as numbers; signs as in `profiles`.

Shapes: h w pixels of a parallax map, % of the picture's width; NaN = not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2svid.depth.normalize import PERCENTILES, Spread
from m2svid.video.shots import Shot
from m2svid.warping.matching import fill_from_background

BORDER = 0.02  # of the width, on either side, where things in front of the screen violate the window
IN_FRONT = -0.3  # %, from which on something is clearly in front of the screen
SAMPLES = 4  # frames a second that are measured
_KNOWN = 0.05  # of a frame; where less is known, the frame has no numbers
_LAG = 0.5  # s, over which speed is measured
_SCALE = -50.0, 50.0, 0.01  # %


@dataclass(frozen=True)
class FrameParallax:
    """One frame, % of the width.

    Attributes:
        time: when it is shown, s.
        near: 1st percentile.
        far: 99th percentile.
        centre: median of the middle, half of the width and of the height.
        left: share of the left border that is in front of the screen.
        right: share of the right border.
    """

    time: float
    near: float
    far: float
    centre: float
    left: float
    right: float


@dataclass(frozen=True)
class ShotParallax:
    """One shot, % of the width.

    Attributes:
        shot: its frames.
        begin: s.
        end: s.
        frames: those that were measured and are known.
        spread: of all their pixels.
    """

    shot: Shot
    begin: float
    end: float
    frames: Sequence[FrameParallax]
    spread: Spread

    @property
    def ends(self) -> tuple[float, float] | None:
        """1st and 99th percentile of all pixels; None where nothing is known."""
        return self.spread.ends() if self.frames else None

    @property
    def window(self) -> tuple[float, float]:
        """Share of the left and of the right border that is in front of the screen."""
        if not self.frames:
            return 0.0, 0.0
        left, right = (float(np.mean([getattr(f, side) for f in self.frames])) for side in ("left", "right"))
        return left, right

    @property
    def speed(self) -> float:
        """Largest change of near or far, % of the width a second, over half a second or a shorter shot."""
        times = np.array([frame.time for frame in self.frames])
        if len(times) < 2:
            return 0.0
        later = np.searchsorted(times, times + _LAG - 1e-6).clip(max=len(times) - 1)
        pairs = [(a, b) for a, b in enumerate(later) if times[b] - times[a] >= _LAG - 1e-6]
        change = 0.0
        for a, b in pairs or [(0, len(times) - 1)]:
            for side in ("near", "far"):
                moved = abs(getattr(self.frames[b], side) - getattr(self.frames[a], side))
                change = max(change, moved / (times[b] - times[a]))
        return change

    def jump(self, before: ShotParallax | None) -> float | None:
        """Change of the centre at the cut from the shot before; None where there is none."""
        if before is None or not (before.frames and self.frames):
            return None
        return self.frames[0].centre - before.frames[-1].centre


class ShotMeter:
    """Measure a shot, frame by frame.

    Args:
        shot: its frames.
        begin: s.
        end: s.
    """

    def __init__(self, shot: Shot, begin: float, end: float) -> None:
        self._shot, self._begin, self._end = shot, begin, end
        self._frames: list[FrameParallax] = []
        self._spread = Spread(*_SCALE)

    def add(self, parallax: NDArray[np.float32], time: float) -> None:
        """Measure a map (h, w)."""
        known = np.isfinite(parallax)
        if known.mean() < _KNOWN:
            return
        values = parallax[known]
        self._spread.add(values)
        near, far = np.percentile(values, PERCENTILES)
        h, w = parallax.shape
        middle = parallax[h // 4 : h - h // 4, w // 4 : w - w // 4]
        # what only one eye sees, as at the borders, is as far as what lies behind it
        whole = parallax if known.all() else -fill_from_background(np.nan_to_num(-parallax), known)
        strip = max(1, round(w * BORDER))
        left, right = (float((side < IN_FRONT).mean()) for side in (whole[:, :strip], whole[:, -strip:]))
        centre = np.nanmedian(middle) if np.isfinite(middle).any() else np.median(values)
        self._frames.append(FrameParallax(time, float(near), float(far), float(centre), left, right))

    def result(self) -> ShotParallax:
        """The measurements of the shot."""
        return ShotParallax(self._shot, self._begin, self._end, tuple(self._frames), self._spread)


def sampled(shot: Shot, rate: float) -> list[int]:
    """Numbers of the frames that are measured: some every second, and both that lie at a cut."""
    return sorted({*range(shot.start, shot.stop, max(1, round(rate / SAMPLES))), shot.stop - 1})
