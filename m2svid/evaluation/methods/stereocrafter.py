"""StereoCrafter as it is published (TencentARC/StereoCrafter at 52c450b).

Shapes: T frames, H W pixels, h w latent.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator, Tensor

from m2svid.batch import StereoBatch
from m2svid.errors import UserError
from m2svid.evaluation.methods.models import Weights
from m2svid.evaluation.methods.warps import SoftSplat
from m2svid.model.conditioning import Condition
from m2svid.model.neighbours import STEREOCRAFTER, StereoCrafterConditioning


class StereoCrafter(Weights):
    """Its U-Net, on its own warp, with its guidance, decoding two frames at a time.

    Its script takes 8 steps, its pipeline 25 by default; Table 1 has 25 and 1.

    Args:
        path: folder with its `unet_diffusers`.
        backbone: weights of Stable Video Diffusion 1.1, for VAE and image encoder.
        num_steps: of the sampler.
        guidance: of classifier-free guidance; its script has 1.01, which runs the network twice a step. 1
            does without.
        half: see `Weights`.
        name: see `Method`; None = "stereocrafter_N" with N steps.
    """

    warp = SoftSplat()
    licence = "StereoCrafter's weights: academic use only, no commercial use"

    def __init__(
        self,
        path: str,
        backbone: str,
        num_steps: int = 25,
        guidance: float = 1.01,
        half: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(path, name or f"stereocrafter_{num_steps}", num_steps, None, backbone, half)
        self._guidance = guidance

    def _options(self) -> dict[str, int]:
        return {"decode_chunk": 2}

    def check(self, frames: int | None = None) -> None:
        if self._open().card.conditioning != StereoCrafterConditioning().describe():
            raise UserError(
                f"method {self.name}: {self.path} is no U-Net of StereoCrafter; "
                "m2svid.evaluation.methods.Weights takes other models"
            )
        if frames is not None and frames > STEREOCRAFTER.window:
            raise UserError(
                f"method {self.name} takes {STEREOCRAFTER.window} frames, and data.eval_clip.frames is "
                f"{frames}: set it to {STEREOCRAFTER.window} or less"
            )

    @torch.no_grad()
    def predict(self, clip: StereoBatch, generator: Generator) -> Tensor:
        """The right view, see `Method.predict`.

        Raises:
            UserError: the clip has more frames than its window of 23.
        """
        model = self.model
        if clip.num_frames > model.usage.window:
            raise UserError(
                f"method {self.name} takes {model.usage.window} frames, and clip {clip.keys[0]} has "
                f"{clip.num_frames}: set data.eval_clip.frames to {model.usage.window} or less"
            )
        condition = model.condition(clip, model.usage.noise_aug, add_noise=False)
        nothing = _empty(condition)

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            guided = model.denoise(x, sigma, condition)
            if self._guidance == 1:
                return guided
            free = model.denoise(x, sigma, nothing)
            return free + self._guidance * (guided - free)

        B, T, _, h, w = condition.mask.shape
        shape = (B, T, model.vae.latent_channels, h, w)
        z = self.sampler(denoise, shape, condition.mask.device, generator)
        return (model.decode(z).float() / 2 + 0.5).clamp(0, 1)


def _empty(condition: Condition) -> Condition:
    """The input of the unconditional half of the guidance: no frames, no mask and no embedding."""
    return replace(
        condition,
        channels=torch.zeros_like(condition.channels),
        context=torch.zeros_like(condition.context),
    )
