"""A recipe: how a batch becomes a loss.

Shapes: B clips, T frames, H W pixels, h w latent pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor, nn

from m2svid.batch import StereoBatch
from m2svid.errors import UserError
from m2svid.model.conditioning import Condition
from m2svid.model.m2svid import M2SVid
from m2svid.model.sampler import Sampler


@dataclass
class Loss:
    """`total` is what is minimised, `parts` its terms by name, before their weights."""

    total: Tensor
    parts: dict[str, Tensor]


class ReplaceFrames:
    """Teach the model to continue known frames, as long videos need it (paper, Appendix E).

    In a share of the clips some frames of the warped view become true right frames, marked by mask value -1:
    either the first n frames or n random ones, n ~ round(Exp(1)).

    Args:
        probability: share of the clips this happens to.
    """

    def __init__(self, probability: float = 0.5) -> None:
        if not 0 <= probability <= 1:
            raise UserError(f"replace_frames.probability must be between 0 and 1, got {probability}")
        self.probability = probability

    def __call__(self, batch: StereoBatch, generator: Generator | None = None) -> StereoBatch:
        if batch.right is None:
            raise ValueError("frames can only be replaced where there is a true right view")
        B, T = batch.left.shape[:2]
        device = batch.left.device

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, device=device)

        in_time = torch.arange(T, device=device).expand(B, T)
        at_random = uniform(B, T).argsort(dim=1).argsort(dim=1)
        order = torch.where(uniform(B, 1) < 0.5, in_time, at_random)
        count = torch.empty(B, 1, device=device).exponential_(generator=generator).round()
        replaced = (order < count) & (uniform(B, 1) < self.probability)  # (B, T)

        pixels = replaced[:, :, None, None, None]
        return replace(
            batch,
            warped=torch.where(pixels, batch.right, batch.warped),
            hole=batch.hole & ~pixels,
            replaced=replaced,
        )


class Recipe(nn.Module, ABC):
    """Base of all recipes.

    Args:
        replace_frames: replace warped frames by true ones, for long videos; None leaves them alone.
        noise_mean: mean of the logarithm of the conditioning noise (REFERENCE "Conditioning noise").
        noise_std: standard deviation of the same; the noise level s = exp(mean + std·g) is drawn once a clip.
    """

    def __init__(
        self,
        replace_frames: ReplaceFrames | None = None,
        noise_mean: float = -3.0,
        noise_std: float = 0.5,
    ) -> None:
        super().__init__()
        self.replace_frames = replace_frames
        self.noise_mean = noise_mean
        self.noise_std = noise_std

    @property
    @abstractmethod
    def sampler(self) -> Sampler:
        """The sampler a model trained by this recipe is evaluated with."""

    @abstractmethod
    def loss(
        self, model: M2SVid, batch: StereoBatch, condition: Condition, generator: Generator | None
    ) -> Loss:
        """The loss of a batch whose conditioning is already made."""

    def forward(self, model: M2SVid, batch: StereoBatch, generator: Generator | None = None) -> Loss:
        """Loss of a training batch (float videos in [0, 1], with its true right view).

        Args:
            generator: source of everything random in the step, on the batch's device.
        """
        if batch.right is None:
            raise ValueError("a training batch needs a true right view")
        if self.replace_frames is not None:
            batch = self.replace_frames(batch, generator)
        g = torch.randn(len(batch.fps), generator=generator, device=batch.left.device)
        noise_aug = (self.noise_mean + self.noise_std * g).exp()
        condition = model.condition(batch, noise_aug=noise_aug, generator=generator)
        return self.loss(model, batch, condition, generator)
