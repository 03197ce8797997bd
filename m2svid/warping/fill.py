"""Filling holes without a model: from the background beside them, alone or smoothed over their surroundings.

Shapes: ... any leading dimensions, H W pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from m2svid.warping.frames import each_frame, interleaved_like

# What a pixel counts in the mean of its surroundings, where one that is seen counts 1. Chosen on a street, a
# forest and the procedural world by the PSNR in holes.
_SIDE, _OCCLUDER = 0.1, 0.1
_SATURATION = 2  # times its weight is the share that a pixel, or a mean of some, has in what is filled there
_REACH = 16  # the occluder is looked for up to the width over this from a hole
_SMALLEST = 2  # pixels a side of the coarsest mean


def fill_from_background(warped: Tensor, hole: Tensor) -> Tensor:
    """Give each hole pixel the colour of the nearest valid pixel on the background's side, in its row.

    Near content moves farther to the left than what is behind it, so a hole has the occluder to its left and
    the background to its right. Where nothing valid follows up to the right border, the nearest pixel to the
    left is taken; a row that is a hole from end to end stays as it is.

    Args:
        warped: (..., 3, H, W), any dtype.
        hole: (..., 1, H, W) bool.

    Returns:
        Like `warped`.
    """
    pixels = hole.shape[-2] * hole.shape[-1]
    place, source = _beside(hole)
    filled = warped.clone(memory_format=torch.contiguous_format)
    colors = filled.view(-1, 3, pixels).movedim(1, 0)
    frame = place // pixels
    colors[:, frame, place % pixels] = colors[:, frame, source % pixels]
    return filled


def _beside(hole: Tensor) -> tuple[Tensor, Tensor]:
    """(M,) each, for every hole pixel: its place, all rows one after the other, and that of its source."""
    width = hole.shape[-1]
    place, start, stop = _runs(hole)
    return place, torch.where(stop % width > 0, stop, torch.where(start % width > 0, start - 1, place))


def _runs(hole: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(M,) each, for every hole pixel: its place, all rows one after the other; where its run of hole pixels
    begins; and the place after that run."""
    edge = F.pad(hole, (1, 1))
    begins, ends = (hole & ~side for side in (edge[..., :-2], edge[..., 2:]))
    place, start, last = (mask.flatten().nonzero().squeeze(-1) for mask in (hole, begins, ends))
    run = torch.searchsorted(last, place)
    return place, start[run], last[run] + 1


def fill_smoothly(warped: Tensor, hole: Tensor) -> Tensor:
    """Fill holes with a mix of the background beside them and of means over more and more of what is around.

    Means are taken over pixels twice as large at each level of a pyramid, as far as there is nothing finer.
    The pixels to the left of a hole, which are likely to be of what hides the background, count little.

    Args:
        warped: (..., 3, H, W), uint8 or float in [0, 1]; on the CPU.
        hole: (..., 1, H, W), bool, or the share of each pixel that is to be filled, float32 in [0, 1].

    Returns:
        Like `warped`.
    """

    def fill(warped: Tensor, hole: Tensor, filled: Tensor) -> None:
        mixed = _fill(np.ascontiguousarray(warped.permute(1, 2, 0).numpy()), hole[0].float().numpy())
        filled[:] = torch.from_numpy(mixed).permute(2, 0, 1)

    filled = interleaved_like(warped)
    each_frame(fill, warped, hole.contiguous(), filled)
    return filled


def _fill(
    image: NDArray[np.uint8 | np.float32], share: NDArray[np.float32]
) -> NDArray[np.uint8 | np.float32]:
    """(H, W, 3), (H, W) -> (H, W, 3)."""
    hole = share == 1
    weight = 1 - share
    weight[_occluder(hole)] *= _OCCLUDER
    weight[hole] = _SIDE
    weighted = cv2.merge([*cv2.split(image.astype(np.float32)), weight])  # colours times weight, and weight
    place, source = _beside(torch.from_numpy(hole))
    pixels = weighted.reshape(-1, 4)
    pixels[place, :3] = pixels[source, :3]
    partial = np.flatnonzero(weight != 1)
    pixels[partial, :3] *= pixels[partial, 3:]

    levels = [weighted]
    while min(levels[-1].shape[:2]) > _SMALLEST:
        height, width = levels[-1].shape[:2]
        levels.append(cv2.resize(levels[-1], (-(-width // 2), -(-height // 2)), interpolation=cv2.INTER_AREA))
    around = levels[-1][..., :3] / levels[-1][..., 3:].clip(1e-6)
    for level in reversed(levels[1:-1]):
        around = _mixed(level, cv2.resize(around, level.shape[1::-1]))
    filled = image.copy()
    chosen = share > 0
    around = cv2.resize(around, share.shape[::-1])[chosen]
    known, amount = image[chosen].astype(np.float32), share[chosen][:, None]
    made = known + (_mixed(weighted[chosen], around) - known) * amount
    filled[chosen] = made.round() if image.dtype == np.uint8 else made
    return filled


def _mixed(weighted: NDArray[np.float32], around: NDArray[np.float32]) -> NDArray[np.float32]:
    """A level's own means (..., 4) as far as they have weight, and for the rest the coarser ones (..., 3)."""
    weight = weighted[..., 3:]
    own = np.minimum(weight * _SATURATION, 1)
    return around + (weighted[..., :3] / weight.clip(1e-6) - around) * own


def _occluder(hole: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(H, W): what lies to the left of a hole that has a right side, but not to the right of another hole."""
    border = np.logical_and.accumulate(hole[:, ::-1], axis=1)[:, ::-1]
    reach = max(1, hole.shape[1] // _REACH)
    line = np.ones((1, reach + 1), np.uint8)
    before = cv2.dilate((hole & ~border).astype(np.uint8), line, anchor=(0, 0))
    behind = cv2.dilate(hole.astype(np.uint8), line, anchor=(reach, 0))
    return (before > 0) & (behind == 0)
