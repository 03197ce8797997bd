"""Left view + disparity -> warped right view + hole mask, by forward splatting (REFERENCE "Warping").

Shapes: ... any leading dimensions, H W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from m2svid.errors import UserError


def warp(left: Tensor, disparity: Tensor) -> tuple[Tensor, Tensor]:
    """Moves every pixel x of the left view to x - disparity in the right view.

    A source pixel is splatted on the two target pixels ⌊d⌋ and ⌊d⌋ + 1 to its left, with weights 1 - frac(d) and
    frac(d). Of the sources that meet at one target through the same one of the two splats, the nearest wins: the
    largest d, which in one row is the largest x. The two winners are averaged by weight, in float32. The result
    does not depend on the order of writing: it is the same on every run, and on CPU and GPU.

    Args:
        left: (..., 3, H, W), uint8 or floating.
        disparity: (..., 1, H, W) floating, pixels of this resolution, finite and >= 0; seen from the left view.

    Returns:
        warped: like `left`, 0 inside holes; a uint8 result is cut off, not rounded, as in the published numbers.
        hole: (..., 1, H, W) bool, True where no source pixel landed.

    Raises:
        UserError: shapes that do not belong together, negative or non-finite disparity.
    """
    _check(left, disparity)
    disparity = disparity.to(torch.promote_types(disparity.dtype, torch.float32))
    floor = disparity.floor()
    # One splat's targets are the other's shifted by one, so one search for the winners serves both.
    winner = _winners(floor)  # (..., 1, H, W + 1)
    source = winner.clamp(min=0)
    fraction = (disparity - floor).gather(-1, source)
    colour = left.gather(-1, source.expand(*left.shape[:-1], -1)).to(fraction.dtype)

    empty = winner < 0
    weight_floor = (1 - fraction).masked_fill_(empty, 0)[..., :-1]
    weight_next = fraction.masked_fill_(empty, 0)[..., 1:]
    total = weight_floor + weight_next
    hole = total == 0
    # Multiply and add stay separate operations: fused, the last bit would differ between devices.
    warped = colour[..., :-1] * weight_floor
    warped += colour[..., 1:] * weight_next
    warped /= total.masked_fill_(hole, 1)
    return warped.to(left.dtype), hole


def _winners(shift: Tensor) -> Tensor:
    """(..., H, W + 1) int64: for each target the largest source x with x - shift[x] = target, -1 where none."""
    width = shift.shape[-1]
    x = torch.arange(width, device=shift.device)
    column = (x - shift).clamp_(min=-1).long() + 1  # column 0 takes what leaves the frame
    winner = torch.full((*shift.shape[:-1], width + 2), -1, device=shift.device)
    winner.scatter_reduce_(-1, column, x.expand_as(column), "amax")
    return winner[..., 1:]


def _check(left: Tensor, disparity: Tensor) -> None:
    if left.ndim < 3 or left.shape[-3] != 3:
        raise UserError(f"left must be (..., 3, H, W), got {tuple(left.shape)}")
    expected = (*left.shape[:-3], 1, *left.shape[-2:])
    if tuple(disparity.shape) != expected:
        raise UserError(
            f"disparity must be {expected} beside a left view of {tuple(left.shape)}, got {tuple(disparity.shape)}"
        )
    if not disparity.is_floating_point():
        raise UserError(f"disparity must be floating point (pixels), got {disparity.dtype}")
    if disparity.numel() == 0:
        return
    low, high = (bound.item() for bound in disparity.aminmax())  # nan if any value is
    if not (low >= 0 and high < float("inf")):
        raise UserError(f"disparity must be finite and >= 0 pixels, got values from {low} to {high}")
