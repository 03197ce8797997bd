"""Whether the borders of windows show in a film that was made window by window.

Shapes: T frames, H W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2svid.errors import UserError
from m2svid.inference.windows import plan
from m2svid.video.read import Video
from m2svid.video.shots import survey


def run(right: Path, reference: Path, window: int = 25, overlap: int = 3) -> dict[str, float | int | str]:
    """The seam figure: change between neighbouring frames at window borders over that inside windows.

    It is divided by the same ratio of a reference, so that 1.00 is a film without seams whatever happens at
    the borders; a film whose borders flash has more, a film that freezes there has less. The control is the
    same figure at as many places halfway between the borders, where no window begins: how far the figure of
    a film without seams may be from 1.00 by chance.

    Args:
        right: right view, as `convert --layout right` writes it.
        reference: the true right view or, without one, the warped one, as `warp` writes it.
        window: frames of a window.
        overlap: frames that neighbouring windows share.

    Raises:
        UserError: the films are of different length, or shorter than two windows.
    """
    video = Video(right)
    film = survey(Video(reference))
    windows = plan(film.shots, window, overlap)
    cuts = {shot.start for shot in film.shots}
    later = [w for w in windows if w.emit_start not in cuts]
    # from where a window's own frames first come in to where the window before is last seen
    borders = {at for w in later for at in range(w.emit_start, w.emit_start + w.fade + 1)}
    if not later:
        raise UserError(
            f"{reference} has no shot longer than a window of {window} frames: nothing to measure"
        )
    between = {at - (window - overlap) // 2 for at in borders} - borders
    ours, base = _changes(video), _changes(Video(reference))
    if len(ours) != len(base):
        raise UserError(f"{right} has {len(ours) + 1} frames, {reference} {len(base) + 1}")
    figures = [_ratio(changes, borders, cuts) for changes in (ours, base)]
    control = [_ratio(changes, between, cuts | borders) for changes in (ours, base)]
    return {
        "borders": len(later),
        "right_ratio": round(figures[0], 4),
        "reference": str(reference),
        "reference_ratio": round(figures[1], 4),
        "seam": round(figures[0] / figures[1], 4),
        "control": round(control[0] / control[1], 4),
    }


def _changes(video: Video) -> NDArray[np.float64]:
    """(T - 1,) mean absolute change to each frame from the one before, of 255."""
    return np.array([np.abs(new - old).mean() for old, new in pairwise(_frames(video))])


def _frames(video: Video) -> Iterator[NDArray[np.float32]]:
    for frame in video.frames():
        yield frame.rgb().astype(np.float32)


def _ratio(changes: NDArray[np.float64], places: set[int], left_out: set[int]) -> float:
    """Mean change to the frames of `places` over that to all others but `left_out`."""
    frames = set(range(1, len(changes) + 1)) - left_out
    at, elsewhere = frames & places, frames - places
    return float(np.mean([changes[f - 1] for f in at]) / np.mean([changes[f - 1] for f in elsewhere]))
