"""One clip of any size through the model: what `M2SVid.refine` does.

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from m2svid.batch import StereoBatch
from m2svid.errors import UserError
from m2svid.warping.mask import blacken, close_hole

if TYPE_CHECKING:
    from m2svid.model.m2svid import M2SVid


def refine(
    model: M2SVid,
    left: Tensor,
    warped: Tensor,
    hole: Tensor,
    fps: float,
    num_steps: int | None = None,
    noise_aug: float | None = None,
    add_noise: bool = True,
    seed: int = 0,
    replaced: Tensor | None = None,
) -> Tensor:
    """See `M2SVid.refine`."""
    _check(model, left, warped, hole)
    device = next(model.unet.parameters()).device
    hole = close_hole(hole.to(device))
    warped = blacken(warped.to(device), hole)
    H, W = left.shape[-2:]
    multiple = model.size_multiple
    padding = (0, -W % multiple, 0, -H % multiple)
    batch = StereoBatch(
        left=_pad(left.to(device), padding)[None],
        warped=_pad(warped, padding)[None],
        hole=_pad(hole.float(), padding)[None] > 0.5,
        fps=torch.tensor([fps], device=device, dtype=torch.float32),
        replaced=None if replaced is None else replaced.to(device)[None],
    )
    generator = torch.Generator(device).manual_seed(seed)
    level = model.usage.noise_aug if noise_aug is None else noise_aug
    right = model.predict(batch, model.usage.sampler.with_steps(num_steps), level, add_noise, generator)
    return right[0, ..., :H, :W].to(left.device)


def _check(model: M2SVid, left: Tensor, warped: Tensor, hole: Tensor) -> None:
    T, H, W = left.shape[0], *left.shape[-2:]
    wanted = {"left": (left, (T, 3, H, W)), "warped": (warped, (T, 3, H, W)), "hole": (hole, (T, 1, H, W))}
    for name, (tensor, shape) in wanted.items():
        if tuple(tensor.shape) != shape:
            raise UserError(f"{name} must be {shape} (T, C, H, W) beside left, but is {tuple(tensor.shape)}.")
    if hole.dtype != torch.bool:
        raise UserError(f"hole must be bool (True = no source pixel landed there), but is {hole.dtype}.")
    if model.usage.window < T:
        raise UserError(
            f"This model takes up to {model.usage.window} frames at a time, got {T}; longer videos go "
            "through `python -m m2svid convert`."
        )


def _pad(video: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    """The border's pixels repeated to the right and below."""
    if video.dtype == torch.uint8:
        video = video.float() / 255
    return F.pad(video, padding, mode="replicate")
