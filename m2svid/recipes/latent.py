"""One step, supervised in latent space (paper Eq. 2; Table 5, C)."""

from __future__ import annotations

from torch import Generator
from torch.nn import functional as F

from m2svid.batch import StereoBatch
from m2svid.model.conditioning import Condition
from m2svid.model.m2svid import M2SVid
from m2svid.model.sampler import Sampler
from m2svid.recipes.base import NOISE, ConditioningNoise, Loss, Recipe, Target
from m2svid.recipes.replace_frames import ReplaceFrames


class LatentOnly(Recipe):
    """‖ẑ − z‖² with ẑ = D(0; σ_max): Eq. 2.

    Args:
        sampler: of evaluation; one step from zero as in training, other steps and starts for Table 10.
        target: see `Recipe`.
        noise: see `Recipe`.
        replace_frames: see `Recipe`.
    """

    def __init__(
        self,
        sampler: Sampler = Sampler(),  # noqa: B008 (frozen)
        target: Target = "sample",
        noise: ConditioningNoise = NOISE,
        replace_frames: ReplaceFrames | None = None,
    ) -> None:
        super().__init__(sampler, target, noise, replace_frames)

    def loss(
        self, model: M2SVid, batch: StereoBatch, condition: Condition, generator: Generator | None
    ) -> Loss:
        z = self.target_latent(model, batch, generator)
        z_hat = model.sample(condition, self.sampler.feed_forward, generator)
        latent = F.mse_loss(z_hat.float(), z.float())
        return Loss(latent, {"latent": latent})
