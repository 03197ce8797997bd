"""Left view + disparity -> warped right view + hole mask, by forward splatting (REFERENCE "Warping").

Shapes: ... any leading dimensions, H W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from m2svid.errors import UserError


def warp(left: Tensor, disparity: Tensor) -> tuple[Tensor, Tensor]:
    """Move every pixel x of the left view to x - disparity in the right view.

    A source pixel is splatted on two targets, ⌊d⌋ and ⌊d⌋ + 1 pixels to its left, with weights 1 - frac(d)
    and frac(d). Of the sources that meet at one target through the same one of the two splats, the nearest
    wins: the largest d, which in one row is the largest x. The two winners are averaged by weight, in
    float32. The result does not depend on the order of writing: it is the same on every run, CPU or GPU.

    Args:
        left: (..., 3, H, W), uint8 or floating.
        disparity: (..., 1, H, W) floating, pixels of this resolution, seen from the left view; finite, >= 0.

    Returns:
        warped: like `left`, 0 inside holes; a uint8 result is cut off, not rounded, as in the published code.
        hole: (..., 1, H, W) bool, True where no source pixel landed.

    Raises:
        UserError: shapes that do not belong together, negative or non-finite disparity.
    """
    _check(left, disparity)
    warped = torch.empty(left.shape, dtype=left.dtype, device=left.device)
    hole = torch.empty(disparity.shape, dtype=torch.bool, device=left.device)
    frames = (view.reshape(-1, *view.shape[-3:]) for view in (warped, hole, left, disparity))
    # One frame at a time: its temporaries stay in the cache, which halves the time on a CPU.
    for warped_frame, hole_frame, left_frame, disparity_frame in zip(*frames, strict=True):
        warped_frame[:], hole_frame[:] = _warp_frame(left_frame, disparity_frame)
    return warped, hole


def _warp_frame(left: Tensor, disparity: Tensor) -> tuple[Tensor, Tensor]:
    """(3, H, W), (1, H, W) -> the same shapes."""
    disparity = disparity.to(torch.promote_types(disparity.dtype, torch.float32))
    floor = disparity.floor()
    # One splat's targets are the other's shifted by one, so one search for the winners serves both.
    winner = _winners(floor)  # (1, H, W + 1)
    found = (winner >= 0).to(disparity.dtype)
    source = winner.clamp_(min=0)
    fraction = (disparity - floor).gather(-1, source).mul_(found)
    colour = left.gather(-1, source.expand(3, -1, -1)).to(disparity.dtype)

    weight_floor, weight_next = found.sub_(fraction)[..., :-1], fraction[..., 1:]
    total = weight_floor + weight_next
    hole = total == 0
    # Multiply and add stay separate operations: fused, the last bit would differ between devices.
    warped = colour[..., :-1] * weight_floor
    warped += colour[..., 1:] * weight_next
    warped /= total + hole
    return warped, hole


def _winners(shift: Tensor) -> Tensor:
    """(1, H, W + 1) int64: for each target the largest source x with x - shift[x] = target, -1 where none."""
    width = shift.shape[-1]
    x = torch.arange(width, device=shift.device)
    column = (x - shift).clamp_(min=-1).long().add_(1)  # column 0 takes what leaves the frame
    winner = torch.full((*shift.shape[:-1], width + 2), -1, device=shift.device)
    winner.scatter_reduce_(-1, column, x.expand_as(column), "amax")
    return winner[..., 1:]


def _check(left: Tensor, disparity: Tensor) -> None:
    if left.ndim < 3 or left.shape[-3] != 3:
        raise UserError(f"left must be (..., 3, H, W), got {tuple(left.shape)}")
    expected, got = (*left.shape[:-3], 1, *left.shape[-2:]), tuple(disparity.shape)
    if got != expected:
        raise UserError(f"disparity must be {expected} for a left view of {tuple(left.shape)}, got {got}")
    if not disparity.is_floating_point():
        raise UserError(f"disparity must be floating point (pixels), got {disparity.dtype}")
    if disparity.numel() == 0:
        return
    low, high = (bound.item() for bound in disparity.aminmax())  # nan if any value is
    if not (low >= 0 and high < float("inf")):
        raise UserError(f"disparity must be finite and >= 0 pixels, got values from {low} to {high}")
