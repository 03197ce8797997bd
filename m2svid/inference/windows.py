"""Windows over time: a shot of any length cut into the clips that a model takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from m2svid.errors import UserError
from m2svid.video.shots import Shot


@dataclass(frozen=True)
class Window:
    """Frames `start` to `stop` (excluded) that are refined together, never across a cut.

    The first frames are shared with the window before. What that has made of the first `known` of them is
    given to the model as known right frames (paper, Appendix E). The next `fade` frames both windows make,
    each from the warped view, and the one is cross-faded into the other. (Known frames that the model has
    seen and made once more differ from all others; fading those in was seen as a jump at every border.)

    Attributes:
        index: number of the window in the film.
        shot: number of its shot.
        start: number of its first frame in the film.
        stop: number of the frame after its last.
        known: frames that are taken over from the window before, and shown to the model.
        fade: frames after those that are cross-faded.
        emit_stop: the window delivers the frames from `emit_start` to here (excluded); those after are
            still to be cross-faded.
    """

    index: int
    shot: int
    start: int
    stop: int
    known: int
    fade: int
    emit_stop: int

    @property
    def shared(self) -> int:
        """Frames that the window before has made, too."""
        return self.known + self.fade

    @property
    def emit_start(self) -> int:
        return self.start + self.known

    @property
    def num_emitted(self) -> int:
        return self.emit_stop - self.emit_start

    @property
    def num_frames(self) -> int:
        return self.stop - self.start

    def share(self) -> Tensor:
        """(shared,): the share of this window in each frame that the window before has made, too; 0 in known
        ones, then growing linearly."""
        return (torch.arange(self.shared) - self.known + 1).clamp(min=0) / (self.fade + 1)


def plan_windows(shots: Sequence[Shot], length: int, overlap: int) -> list[Window]:
    """Cut shots into windows.

    All windows have `length` frames, but for shots that are shorter. Of the frames they share, the first
    half is known and the rest is cross-faded. The last window of a shot begins early enough to be full: it
    knows more frames from the window before. Without an overlap it is as short as what is left.

    Args:
        shots: in order.
        length: frames a window.
        overlap: frames that neighbouring windows of a shot share.

    Raises:
        UserError: no frame would be left for a window to add.
    """
    if not 0 <= overlap < length:
        raise UserError(f"--overlap must be from 0 to --window - 1 = {length - 1}, not {overlap}")
    fade = overlap - overlap // 2
    windows: list[Window] = []
    for shot in shots:
        bounds = _bounds(shot, length, overlap)
        for place, (start, stop) in enumerate(bounds):
            known = bounds[place - 1][1] - fade - start if place else 0
            emit_stop = stop if place == len(bounds) - 1 else stop - fade
            windows.append(
                Window(len(windows), shot.index, start, stop, known, fade if place else 0, emit_stop)
            )
    return windows


def _bounds(shot: Shot, length: int, overlap: int) -> list[tuple[int, int]]:
    bounds = [(shot.start, min(shot.start + length, shot.stop))]
    while bounds[-1][1] < shot.stop:
        stop = min(bounds[-1][1] - overlap + length, shot.stop)
        bounds.append((stop - length if overlap else bounds[-1][1], stop))
    return bounds


def window_borders(shots: Sequence[Shot], length: int, overlap: int) -> tuple[int, set[int]]:
    """Count the windows that follow another in their shot, and find the frames that they bring in.

    Those are the frames from where a window's own ones first come in to where the window before is last seen;
    arguments as of `plan`.
    """
    cuts = {shot.start for shot in shots}
    later = [window for window in plan_windows(shots, length, overlap) if window.emit_start not in cuts]
    return len(later), {at for w in later for at in range(w.emit_start, w.emit_start + w.fade + 1)}
