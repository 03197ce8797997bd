"""The paper's recipe: one step, supervised in latent and image space (Eq. 5; Table 5, D)."""

from __future__ import annotations

from torch import Generator
from torch.nn import functional as F

from m2svid.batch import StereoBatch
from m2svid.errors import UserError
from m2svid.metrics.perceptual import Perceptual
from m2svid.model.conditioning import Condition
from m2svid.model.m2svid import M2SVid
from m2svid.model.sampler import Sampler
from m2svid.recipes.base import NOISE, ConditioningNoise, Loss, Recipe, Target
from m2svid.recipes.replace_frames import ReplaceFrames


class EndToEnd(Recipe):
    """latent · MSE(ẑ, z) + l1 · L1(D(ẑ), V_r) + lpips · LPIPS(D(ẑ), V_r): Eq. 5, all weights 1 in the paper.

    Gradients flow through the frozen VAE decoder; images are compared in [-1, 1].

    Args:
        latent: weight of the latent loss.
        l1: weight of the L1 loss between decoded and true frames.
        lpips: weight of LPIPS (VGG, v0.1, mean over the frames); 0 needs no VGG weights.
        vgg_weights: file of torchvision's VGG16 weights for LPIPS; None looks into torch hub's cache.
        sampler: of evaluation; one step from zero as in training, other steps and starts for Table 10.
        target: see `Recipe`.
        noise: see `Recipe`.
        replace_frames: see `Recipe`.

    Raises:
        UserError: for a negative weight, or if LPIPS is wanted and there are no VGG weights.
    """

    def __init__(
        self,
        latent: float = 1.0,
        l1: float = 1.0,
        lpips: float = 1.0,
        vgg_weights: str | None = None,
        sampler: Sampler = Sampler(),  # noqa: B008 (frozen)
        target: Target = "sample",
        noise: ConditioningNoise = NOISE,
        replace_frames: ReplaceFrames | None = None,
    ) -> None:
        super().__init__(sampler, target, noise, replace_frames)
        self.weights = {"latent": latent, "l1": l1, "lpips": lpips}
        for name, weight in self.weights.items():
            if weight < 0:
                raise UserError(f"recipe.{name} is a weight and can't be negative, got {weight}")
        self.perceptual = Perceptual(vgg_weights) if lpips else None

    def loss(
        self, model: M2SVid, batch: StereoBatch, condition: Condition, generator: Generator | None
    ) -> Loss:
        z = self.target_latent(model, batch, generator)
        z_hat = model.sample(condition, self.sampler.feed_forward, generator)
        V_hat = model.decode(z_hat).float()
        V = batch.right * 2 - 1
        parts = {"latent": F.mse_loss(z_hat.float(), z.float()), "l1": F.l1_loss(V_hat, V)}
        if self.perceptual is not None:
            parts["lpips"] = self.perceptual(V_hat, V).mean()
        total = sum(self.weights[name] * part for name, part in parts.items())
        return Loss(total, parts)
