"""Training views from one picture: it becomes the right view, and depth says what the left eye would not see.

The hole needs no second warp: what of the right view is covered, or leaves the picture, on its way to the
left view is what the left view cannot give back ("Geometric Reciprocity", arXiv 2607.05354).

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m2svid.warping.fill import fill_from_background
from m2svid.warping.mask import blacken, close_hole

_SLOPE = 0.4  # px of disparity a px, in either direction: steeper is the blurred edge of an object
_COVERED_BY = 1.0  # px; a surface that is nearer by less is the same surface, seen at a slant


@dataclass(frozen=True)
class VirtualViews:
    """The training views of a clip.

    Attributes:
        left: (T, 3, H, W) uint8, the virtual left view, its own gaps filled from the background.
        left_gap: (T, 1, H, W) bool, where it was filled: what the right eye does not see.
        warped: (T, 3, H, W) uint8, the right view, black in its holes.
        hole: (T, 1, H, W) bool, closed: what the left eye does not see.
    """

    left: Tensor
    left_gap: Tensor
    warped: Tensor
    hole: Tensor


def virtual_views(right: Tensor, disparity: Tensor) -> VirtualViews:
    """Move every pixel x of the right view to x + disparity in the left view; the nearest wins.

    Disparities are rounded to whole pixels, so the left view is resampled nowhere.

    Args:
        right: (T, 3, H, W) uint8.
        disparity: (T, 1, H, W) float px >= 0, seen from the right view.
    """
    winner = _winners(disparity)  # (T, 1, H, W)
    gap = winner == right.shape[-1]
    left = right.gather(-1, winner.masked_fill(gap, 0).expand_as(right))
    # Mirrored, the left view is a right view: its gaps have the background on the other side.
    left = fill_from_background(left.flip(-1), gap.flip(-1)).flip(-1)
    hole = close_hole(_lost(disparity, winner))
    return VirtualViews(left, gap, blacken(right, hole), hole)


def _winners(disparity: Tensor) -> Tensor:
    """(T, 1, H, W) int64: the x that each pixel of the left view comes from, W where there is none.

    Of the pixels of a row that meet, the one with the largest disparity is the leftmost.
    """
    width = disparity.shape[-1]
    x = torch.arange(width, device=disparity.device)
    target = (x + disparity.round().long()).clamp(max=width)  # column W takes what leaves the picture
    winner = torch.full((*disparity.shape[:-1], width + 1), width, device=disparity.device)
    winner.scatter_reduce_(-1, target, x.expand_as(target), "amin")
    return winner[..., :-1]


def _lost(disparity: Tensor, winner: Tensor) -> Tensor:
    """(T, 1, H, W) bool: what leaves the picture on the way to the left view, or is covered there."""
    width = disparity.shape[-1]
    target = torch.arange(width, device=disparity.device) + disparity.round().long()
    leaves = target >= width
    cover = winner.gather(-1, target.clamp(max=width - 1)).clamp(max=width - 1)
    return leaves | (disparity.gather(-1, cover) - disparity >= _COVERED_BY)


def sharpen_edges(disparity: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give the blurred edges of estimated depth the disparity of the nearest pixel off the edge.

    Blurred, an object's edge would smear over what is behind it, in the virtual view and beside the hole.

    Args:
        disparity: (H, W) px.
    """
    across, down = (cv2.Sobel(disparity, cv2.CV_32F, *axis, scale=1 / 8) for axis in ((1, 0), (0, 1)))
    edge = np.hypot(across, down) > _SLOPE
    if not edge.any() or edge.all():
        return disparity
    _, label = cv2.distanceTransformWithLabels(
        edge.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    nearest = np.zeros(label.max() + 1, np.float32)
    nearest[label[~edge]] = disparity[~edge]
    return nearest[label]
