"""Left view -> the warped right view as the model sees it: warp, close, blacken (REFERENCE §4, §8).

Shapes: ... any leading dimensions, H W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from m2svid.warping.mask import blacken, close_hole
from m2svid.warping.splat import warp


def warp_view(left: Tensor, disparity: Tensor) -> tuple[Tensor, Tensor]:
    """Warp the left view to the right eye, black in the closed holes.

    Args:
        left: (..., 3, H, W), uint8 or floating.
        disparity: (..., 1, H, W) floating, pixels of this resolution; finite, >= 0.

    Returns:
        warped: like `left`, 0 inside `hole`.
        hole: (..., 1, H, W) bool, True = disoccluded, closed.

    Raises:
        UserError: see `warp`.
    """
    warped = torch.empty(left.shape, dtype=left.dtype, device=left.device)
    hole = torch.empty(disparity.shape, dtype=torch.bool, device=left.device)
    views = (video.reshape(-1, *video.shape[-3:]) for video in (left, disparity, warped, hole))
    # One frame at a time: large temporaries cost more than what is done with them.
    for left_frame, disparity_frame, warped_frame, hole_frame in zip(*views, strict=True):
        warped_frame[:], hole_frame[:] = close_view(*warp(left_frame, disparity_frame))
    return warped, hole


def close_view(warped: Tensor, hole: Tensor) -> tuple[Tensor, Tensor]:
    """Close the holes of a warped view and blacken it inside.

    Args:
        warped: (..., 3, H, W), uint8 or floating.
        hole: (..., 1, H, W) bool, True where no source pixel landed.
    """
    closed = close_hole(hole)
    return blacken(warped, closed), closed
