"""The seam figure of a film made window by window: change at the borders of windows over change inside them.

Shapes: T frames, H W pixels, C channels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2svid.errors import UserError
from m2svid.inference.windows import window_borders
from m2svid.metrics.temporal import border_ratio, changes
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
    cuts = {shot.start for shot in film.shots}
    count, borders = window_borders(film.shots, window, overlap)
    if not borders:
        raise UserError(
            f"{reference} has no shot longer than a window of {window} frames: nothing to measure"
        )
    between = {at - (window - overlap) // 2 for at in borders} - borders
    ours, base = _changes(video), _changes(Video(reference))
    if len(ours) != len(base):
        raise UserError(f"{right} has {len(ours) + 1} frames, {reference} {len(base) + 1}")
    figures = [border_ratio(film_changes, borders, cuts) for film_changes in (ours, base)]
    control = [border_ratio(film_changes, between, cuts | borders) for film_changes in (ours, base)]
    if not all([*figures, *control]):
        raise UserError(
            f"{right} or {reference} stands still where the seam figure compares: nothing to measure"
        )
    return {
        "borders": count,
        "right_ratio": round(figures[0], 4),
        "reference": str(reference),
        "reference_ratio": round(figures[1], 4),
        "seam": round(figures[0] / figures[1], 4),
        "control": round(control[0] / control[1], 4),
    }


def _changes(video: Video) -> NDArray[np.float64]:
    """(T - 1,) mean absolute change to each frame from the one before, of 1."""
    return changes(frame.rgb().astype(np.float32) / 255 for frame in video.frames())
