"""Filling holes without a model: from the background beside them, alone or smoothed over their surroundings.

Shapes: ... any leading dimensions, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m2svid.warping.frames import bands, each_frame, interleaved_like

Image = NDArray[np.uint8] | NDArray[np.float32]
Numbers = NDArray[np.float32]

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
    place = hole.flatten().nonzero().squeeze(-1)
    begins = torch.ones_like(place, dtype=torch.bool)  # of runs of hole pixels
    begins[1:] = (place.diff() > 1) | (place[1:] % width == 0)
    start, stop = place[begins], place[begins.roll(-1)] + 1
    beside = torch.where(stop % width > 0, stop, torch.where(start % width > 0, start - 1, -1))
    source = beside[begins.cumsum(0) - 1]
    return place, torch.where(source < 0, place, source)


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


def _fill(image: Image, share: Numbers) -> Image:
    """(H, W, 3), (H, W) -> (H, W, 3)."""
    height, width = share.shape
    half = -(-width // 2), -(-height // 2)
    whole = [slice(0, height)]  # halves of an odd number of rows can't be put together from bands
    finest, own = [np.empty(half[::-1], np.float32) for _ in range(4)], []
    for rows in whole if height % 2 else bands(height, width):
        weighted = _weighted(image[rows], share[rows])
        chosen = np.flatnonzero(share[rows] > 0)
        own.append(np.stack([plane.reshape(-1)[chosen] for plane in weighted]))
        for plane, small in zip(weighted, finest, strict=True):
            part = small[rows.start // 2 : -(-rows.stop // 2)]
            cv2.resize(plane, part.shape[::-1], dst=part, interpolation=cv2.INTER_AREA)

    levels = [finest]
    while min(levels[-1][0].shape) > _SMALLEST:
        rows, columns = levels[-1][0].shape
        half = -(-columns // 2), -(-rows // 2)
        levels.append([cv2.resize(plane, half, interpolation=cv2.INTER_AREA) for plane in levels[-1]])
    around = [plane / levels[-1][3].clip(1e-6) for plane in levels[-1][:3]]
    for level in reversed(levels[:-1]):
        around = _mixed(level, [cv2.resize(plane, level[3].shape[::-1]) for plane in around])
    chosen = np.flatnonzero(share > 0)
    around = [cv2.resize(plane, (width, height)).reshape(-1)[chosen] for plane in around]
    made = np.stack(_mixed(np.concatenate(own, axis=1), around), axis=-1)
    filled = image.copy()
    pixels = filled.reshape(-1, 3)
    known = pixels[chosen].astype(np.float32)
    made = known + (made - known) * share.reshape(-1)[chosen, None]
    pixels[chosen] = made.round() if image.dtype == np.uint8 else made
    return filled


def _weighted(image: Image, share: Numbers) -> list[Numbers]:
    """Rows of (H, W, 3), (H, W) -> their colours times weight, and the weight, each (H, W); holes have the
    colours of the background beside them."""
    hole = share == 1
    weight = 1 - share
    weight[_occluder(hole)] *= _OCCLUDER
    weight[hole] = _SIDE
    place, source = (each.numpy() for each in _beside(torch.from_numpy(hole)))
    planes = []
    for plane in cv2.split(image):
        plane.reshape(-1)[place] = plane.reshape(-1)[source]
        planes.append(plane.astype(np.float32))
        planes[-1] *= weight
    return [*planes, weight]


def _mixed(weighted: Sequence[Numbers], around: Sequence[Numbers]) -> list[Numbers]:
    """A level's own means, of three colours and weight, as far as they have weight, and for the rest the
    coarser ones, of three colours."""
    *colors, weight = weighted
    own, weight = np.minimum(weight * _SATURATION, 1), weight.clip(1e-6)
    mixed = []
    for color, mean in zip(colors, around, strict=True):
        change = color / weight
        change -= mean
        change *= own
        change += mean
        mixed.append(change)
    return mixed


def _occluder(hole: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(H, W): what lies to the left of a hole that has a right side, but not to the right of another hole."""
    width = hole.shape[1]
    reach = max(1, width // _REACH)
    seen = ~hole
    border = np.where(seen.any(axis=1), seen[:, ::-1].argmax(axis=1), width)  # pixels of a hole at the right
    inner = hole & (np.arange(width) < (width - border)[:, None])
    return _smeared(inner, -reach) & ~_smeared(hole, reach)


def _smeared(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """(H, W): what is set, and `reach` pixels to the right of it, or to the left where it is negative."""
    smeared, done = mask, 0
    while done < abs(reach):
        step = min(done + 1, abs(reach) - done)
        wider = smeared.copy()
        if reach > 0:
            wider[:, step:] |= smeared[:, :-step]
        else:
            wider[:, :-step] |= smeared[:, step:]
        smeared, done = wider, done + step
    return smeared
