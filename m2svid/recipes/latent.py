"""One step, supervised in latent space (paper Eq. 2; Table 5, C)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from m2svid.batch import StereoBatch
from m2svid.model.conditioning import Condition
from m2svid.model.m2svid import M2SVid
from m2svid.model.sampler import Sampler
from m2svid.recipes.base import Loss, Recipe


def predict_latent(model: M2SVid, z: Tensor, condition: Condition, generator: Generator | None) -> Tensor:
    """ẑ = D(0; σ_max), of the shape of z: the feed-forward model (paper Eq. 4)."""
    sigma = torch.full((len(z),), Sampler().sigma_max, device=z.device)
    return model.denoise(torch.zeros_like(z), sigma, condition, generator)


class LatentOnly(Recipe):
    """‖ẑ − z‖² with ẑ = D(0; σ_max): Eq. 2."""

    @property
    def sampler(self) -> Sampler:
        return Sampler()

    def loss(
        self, model: M2SVid, batch: StereoBatch, condition: Condition, generator: Generator | None
    ) -> Loss:
        z = model.encode(batch.right)
        z_hat = predict_latent(model, z, condition, generator)
        latent = F.mse_loss(z_hat.float(), z.float())
        return Loss(latent, {"latent": latent})
