"""Known right frames in place of warped ones, for videos of any length (paper, Appendix E; REFERENCE §6).

Shapes: B clips, T frames.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Generator, Tensor

from m2svid.batch import StereoBatch
from m2svid.errors import UserError

Draw = Literal["batch", "clip"]


class ReplaceFrames:
    """Teach the model to continue known frames.

    Some frames of the warped view become true right frames, marked by mask value -1: either the first n
    frames or n random ones, n ~ round(Exp(1)).

    Args:
        probability: of a replacement.
        draw: "batch" draws like the published code: whether frames are replaced, and in which of the two
            ways, once for the batch; then either an n for each clip, or one n and n positions among all
            frames of the batch, with replacement. "clip" draws all of it for each clip, and positions
            without replacement.

    Raises:
        UserError: the probability is not between 0 and 1, or `draw` is unknown.
    """

    def __init__(self, probability: float = 0.5, draw: Draw = "batch") -> None:
        if not 0 <= probability <= 1:
            raise UserError(f"replace_frames.probability must be between 0 and 1, got {probability}")
        if draw not in get_args(Draw):
            raise UserError(f"replace_frames.draw must be one of {', '.join(get_args(Draw))}, got {draw!r}")
        self.probability = probability
        self.draw = draw

    def __call__(self, batch: StereoBatch, generator: Generator | None = None) -> StereoBatch:
        """The batch (float videos in [0, 1], with a true right view) with its known frames."""
        if batch.right is None:
            raise ValueError("frames can only be replaced where there is a true right view")
        B, T = batch.left.shape[:2]
        draw = self._draw_batch if self.draw == "batch" else self._draw_clips
        replaced = draw(B, T, batch.left.device, generator)  # (B, T)
        pixels = replaced[:, :, None, None, None]
        return replace(
            batch,
            warped=torch.where(pixels, batch.right, batch.warped),
            hole=batch.hole & ~pixels,
            replaced=replaced,
        )

    def _draw_batch(self, B: int, T: int, device: torch.device, generator: Generator | None) -> Tensor:
        happens, in_time = torch.rand(2, generator=generator, device=device) < torch.tensor(
            [self.probability, 0.5], device=device
        )
        first = torch.arange(T, device=device) < _counts(B, device, generator)[:, None]
        count = _counts(1, device, generator)
        places = torch.randint(B * T, (B * T,), generator=generator, device=device)
        drawn = torch.arange(B * T, device=device) < count  # as many positions as all frames suffice
        random = torch.zeros(B * T, dtype=torch.bool, device=device)
        random[places[drawn]] = True
        return torch.where(in_time, first, random.view(B, T)) & happens

    def _draw_clips(self, B: int, T: int, device: torch.device, generator: Generator | None) -> Tensor:
        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, device=device)

        in_time = torch.arange(T, device=device).expand(B, T)
        at_random = uniform(B, T).argsort(dim=1).argsort(dim=1)
        order = torch.where(uniform(B, 1) < 0.5, in_time, at_random)
        count = _counts(B, device, generator)[:, None]
        return (order < count) & (uniform(B, 1) < self.probability)


def _counts(number: int, device: torch.device, generator: Generator | None) -> Tensor:
    """(number,) of round(Exp(1))."""
    return torch.empty(number, device=device).exponential_(generator=generator).round()
