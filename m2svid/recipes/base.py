"""Base of the training recipes, which turn a batch into a loss.

Shapes: B clips, T frames, H W pixels, h w latent pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Generator, Tensor, nn

from m2svid.batch import StereoBatch
from m2svid.errors import UserError
from m2svid.model.conditioning import Condition
from m2svid.model.m2svid import M2SVid
from m2svid.model.sampler import Sampler
from m2svid.recipes.replace_frames import ReplaceFrames

Target = Literal["sample", "mode"]


@dataclass
class Loss:
    """`total` is what is minimised, `parts` its terms by name, before their weights."""

    total: Tensor
    parts: dict[str, Tensor]


@dataclass(frozen=True)
class ConditioningNoise:
    """The level s = exp(mean + std·g), g ~ N(0, 1), of the pixel noise on the views (REFERENCE §3).

    Attributes:
        mean: of ln s.
        std: of ln s.
    """

    mean: float = -3.0
    std: float = 0.5

    def draw(self, number: int, device: torch.device, generator: Generator | None) -> Tensor:
        """(number,) levels."""
        g = torch.randn(number, generator=generator, device=device)
        return (self.mean + self.std * g).exp()


NOISE = ConditioningNoise()


class Recipe(nn.Module, ABC):
    """Base of all recipes.

    Args:
        sampler: what a model trained by this recipe is evaluated with (paper, Table 10).
        target: latent of the true right view: a "sample" of the autoencoder's posterior, as in the published
            training, or its "mode".
        noise: level of the conditioning noise, drawn for each clip.
        replace_frames: puts true frames in place of warped ones, for long videos; None replaces none.

    Raises:
        UserError: `target` is unknown.
    """

    def __init__(
        self,
        sampler: Sampler,
        target: Target = "sample",
        noise: ConditioningNoise = NOISE,
        replace_frames: ReplaceFrames | None = None,
    ) -> None:
        super().__init__()
        if target not in get_args(Target):
            raise UserError(f"recipe.target must be one of {', '.join(get_args(Target))}, got {target!r}")
        self.sampler = sampler
        self.target = target
        self.noise = noise
        self.replace_frames = replace_frames

    @abstractmethod
    def loss(
        self, model: M2SVid, batch: StereoBatch, condition: Condition, generator: Generator | None
    ) -> Loss:
        """The loss of a batch whose conditioning is already made."""

    def forward(self, model: M2SVid, batch: StereoBatch, generator: Generator | None = None) -> Loss:
        """Loss of a training batch (float videos in [0, 1], with its true right view).

        Args:
            model: the model.
            batch: the batch.
            generator: source of everything random in the step, on the batch's device.
        """
        if batch.right is None:
            raise ValueError("a training batch needs a true right view")
        if self.replace_frames is not None:
            batch = self.replace_frames(batch, generator)
        noise_aug = self.noise.draw(len(batch.fps), batch.left.device, generator)
        condition = model.condition(batch, noise_aug=noise_aug, generator=generator)
        return self.loss(model, batch, condition, generator)

    def target_latent(self, model: M2SVid, batch: StereoBatch, generator: Generator | None) -> Tensor:
        """z, the scaled latent (B, T, C, h, w) of the true right view."""
        return model.encode(batch.right, sample=self.target == "sample", generator=generator)
