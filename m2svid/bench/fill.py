"""Right views made without a model, against the true ones of a stereo film.

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m2svid.depth.files import DepthFile
from m2svid.depth.shot import to_disparity
from m2svid.errors import UserError
from m2svid.evaluation.films import Eye, ViewFilm, ViewLayout
from m2svid.metrics.binocular import search_range
from m2svid.metrics.temporal import flicker
from m2svid.video.pictures import Pixels, to_pixels, to_tensor
from m2svid.warping.edges import clean_edges
from m2svid.warping.fill import fill_from_background, fill_smoothly
from m2svid.warping.mask import close_hole
from m2svid.warping.matching import dense, match
from m2svid.warping.splat import warp
from m2svid.warping.surface import warp_surfaces
from m2svid.warping.view import warp_view

WAYS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "side_closed": lambda left, disparity: fill_from_background(*warp_view(left, disparity)),
    "side": lambda left, disparity: fill_from_background(*warp(left, disparity)),
    "smooth": lambda left, disparity: fill_smoothly(*warp(left, disparity)),
    "surfaces": lambda left, disparity: fill_smoothly(*warp_surfaces(left, clean_edges(disparity))),
}
"""Name -> left view and disparity to the right view; "surfaces" is what `convert --refine none` does, and
"side_closed", which it did before, the reference."""


def run(
    film: Path,
    right: Path | None = None,
    layout: ViewLayout = "sbs",
    depth: Path | None = None,
    max_disparity: float = 0.05,
    frames: int = 16,
) -> dict[str, int | dict[str, float | None]]:
    """Warp and fill the left view in every way, and measure the right view where the holes are.

    All ways are measured in the same pixels. A hole is where the plain warp lands no source; the closed holes
    are those that a model would fill, of which those that reach the right border, beyond what the left eye
    sees, count apart. Outside is the rest. PSNR is of the mean squared error of all pixels of a region in all
    frames, None where nothing is wrong. Flicker is the mean change between frames of the pixels that are in
    a closed hole in both, divided by that of the true view.

    Args:
        film: both views, or the left one if `right` is given.
        right: the true right view, if it has a file of its own.
        layout: how both views lie in the pictures of `film`.
        depth: inverse depth of the left view, as `convert --depth` takes it; without it, the views are
            matched, and what is matched nowhere lies in the background.
        max_disparity: where that depth is 1, as a share of the width.
        frames: how many are measured, from the first on.

    Raises:
        UserError: a film can't be read, or the views are of different size.
    """
    views = [_frames(film, "left", "single" if right else layout, frames)]
    views.append(_frames(right or film, "right", "single" if right else layout, frames))
    if [view.shape for view in views[0]] != [view.shape for view in views[1]]:
        raise UserError(f"{film} and {right} differ in size or end within {frames} frames")
    left = to_tensor(views[0])
    if depth is None:
        disparity = torch.from_numpy(np.stack([_matched(*pair) for pair in zip(*views, strict=True)]))[
            :, None
        ]
    else:
        maps = DepthFile(depth, "inverse")(views[0], 0)
        disparity = to_disparity(maps, *left.shape[-2:], max_disparity * left.shape[-1])
    regions = _regions(warp(left, disparity)[1])
    truth = np.stack(views[1]).astype(np.float32) / 255
    result: dict[str, int | dict[str, float | None]] = {
        "frames": len(left),
        "share": {name: round(float(mask.mean()), 4) for name, mask in regions.items()},
    }
    still = flicker(truth, regions["closed"])
    for name, way in WAYS.items():
        start = time.perf_counter()
        made = way(left, disparity)
        milliseconds = 1000 * (time.perf_counter() - start) / len(left)
        view = np.stack(list(to_pixels(made, 8))).astype(np.float32) / 255
        moved = flicker(view, regions["closed"])
        result[name] = {
            **{f"psnr_{region}": _psnr(view, truth, mask) for region, mask in regions.items()},
            "flicker": round(moved / still, 3) if moved is not None and still else None,
            "ms": round(milliseconds, 1),
        }
    return result


def _regions(hole: Tensor) -> dict[str, NDArray[np.bool_]]:
    """Name -> (T, H, W)."""
    closed = close_hole(hole)
    raw, holes = (mask[:, 0].numpy() for mask in (hole, closed))
    border = np.logical_and.accumulate(holes[..., ::-1], axis=-1)[..., ::-1]
    return {"hole": raw & ~border, "closed": holes & ~border, "border": border, "outside": ~holes}


def _frames(path: Path, eye: Eye, layout: ViewLayout, count: int) -> list[Pixels]:
    return list(islice(ViewFilm(path, layout, eye).frames(), count))


def _matched(left: Pixels, right: Pixels) -> NDArray[np.float32]:
    grays = [cv2.cvtColor(view, cv2.COLOR_RGB2GRAY) for view in (left, right)]
    return dense(*match(*grays, search_range(left.shape[1])))


def _psnr(view: NDArray[np.float32], truth: NDArray[np.float32], mask: NDArray[np.bool_]) -> float | None:
    error = np.square(view - truth).mean(-1)[mask]
    return round(-10 * math.log10(error.mean(dtype=np.float64)), 3) if error.any() else None
