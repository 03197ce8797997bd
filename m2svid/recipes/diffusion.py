"""The standard diffusion loss (paper Eq. 1; Table 5, A and B)."""

from __future__ import annotations

import torch
from torch import Generator

from m2svid.batch import StereoBatch
from m2svid.model.conditioning import Condition
from m2svid.model.m2svid import M2SVid
from m2svid.model.sampler import Sampler
from m2svid.recipes.base import NOISE, ConditioningNoise, Loss, Recipe, Target
from m2svid.recipes.replace_frames import ReplaceFrames


class StandardDiffusion(Recipe):
    """(σ²+1)/σ² · ‖D(z + σn; σ) − z‖² with ln σ ~ N(P_mean, P_std²): Eq. 1 in EDM's terms.

    Args:
        P_mean: mean of ln σ.
        P_std: standard deviation of ln σ.
        sampler: of evaluation, from noise (Table 10: 1, 5 and 25 steps).
        target: see `Recipe`.
        noise: see `Recipe`.
        replace_frames: see `Recipe`.
    """

    def __init__(
        self,
        P_mean: float = 1.0,
        P_std: float = 1.6,
        sampler: Sampler = Sampler(num_steps=25, start="noise"),  # noqa: B008 (frozen)
        target: Target = "sample",
        noise: ConditioningNoise = NOISE,
        replace_frames: ReplaceFrames | None = None,
    ) -> None:
        super().__init__(sampler, target, noise, replace_frames)
        self.P_mean = P_mean
        self.P_std = P_std

    def loss(
        self, model: M2SVid, batch: StereoBatch, condition: Condition, generator: Generator | None
    ) -> Loss:
        z = self.target_latent(model, batch, generator)  # (B, T, C, h, w)
        g = torch.randn(len(z), generator=generator, device=z.device)
        sigma = (self.P_mean + self.P_std * g).exp()
        n = torch.randn(z.shape, generator=generator, device=z.device, dtype=z.dtype)
        per_clip = sigma.view(-1, 1, 1, 1, 1)
        D = model.denoise(z + per_clip * n, sigma, condition, generator)
        weight = (per_clip**2 + 1) / per_clip**2
        diffusion = (weight * (D.float() - z.float()) ** 2).mean()
        return Loss(diffusion, {"diffusion": diffusion})
