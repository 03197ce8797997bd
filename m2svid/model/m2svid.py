"""The model: views in, right view out.

Shapes: B clips, T frames, H W pixels, C latent channels, h w latent size. Videos are [0, 1] outside the model
and [-1, 1] inside; latents of the noisy and of the true right view are scaled by the autoencoder's scaling
factor.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from m2svid.attention import AttentionStrategy
from m2svid.batch import StereoBatch
from m2svid.errors import UserError
from m2svid.inference.refine import refine
from m2svid.model import denoiser
from m2svid.model.conditioning import MOTION_BUCKET_ID, Condition, Conditioning
from m2svid.model.image_encoder import ImageEncoder, NoImageEncoder
from m2svid.model.sampler import Sampler
from m2svid.model.unet import ConditionedUNet
from m2svid.model.usage import Usage
from m2svid.model.vae import VideoAutoencoder

if TYPE_CHECKING:
    from m2svid.weights.settings import AttentionName


class M2SVid(nn.Module):
    """Inpaints and refines a warped right view, given the left view and the hole mask.

    Args:
        unet: the network.
        vae: frozen autoencoder.
        image_encoder: frozen encoder of the left view's frames.
        conditioning: what the U-Net sees beside the noisy latent.
        attention: which tokens its spatial attention sees; may be exchanged at any time.
        usage: how the model is run; None = as M2SVid.
    """

    def __init__(
        self,
        unet: ConditionedUNet,
        vae: VideoAutoencoder,
        image_encoder: ImageEncoder | NoImageEncoder,
        conditioning: Conditioning,
        attention: AttentionStrategy,
        usage: Usage | None = None,
    ) -> None:
        super().__init__()
        expected = conditioning.in_channels(vae.latent_channels)
        if unet.config.in_channels != expected:
            raise UserError(
                f"conditioning={list(conditioning.inputs)} needs a U-Net with {expected} input channels, "
                f"this one has {unet.config.in_channels}"
            )
        self.unet = unet
        self.vae = vae
        self.image_encoder = image_encoder
        self.conditioning = conditioning
        self.attention = attention
        self.usage = usage or Usage()

    @property
    def size_multiple(self) -> int:
        """What H and W must be multiples of: 64 at full size."""
        return self.vae.downscale * self.unet.size_multiple

    @torch.no_grad()
    def condition(
        self,
        batch: StereoBatch,
        noise_aug: float | Tensor = 0.02,
        add_noise: bool = True,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> Condition:
        """Encodes what the U-Net is told about a batch; no gradients.

        Args:
            batch: views with the warped one black in its holes.
            noise_aug: s ≥ 0, level of the pixel noise on the views (REFERENCE "Conditioning noise"), for the
                batch or (B,) for each clip; the U-Net is told it in any case. CLIP sees clean frames.
            add_noise: whether the noise is added.
            generator: of the noise, or a list of one for each clip; None = the default one.

        Raises:
            UserError: if the size is no multiple of `size_multiple`, or noise_aug negative.
        """
        batch = batch.as_float()
        self._check_size(batch)
        level = torch.as_tensor(noise_aug, dtype=torch.float32, device=batch.left.device).expand(
            len(batch.fps)
        )
        if (level < 0).any():
            raise UserError(f"noise_aug={noise_aug} is a noise level and can't be negative")

        H, W = batch.left.shape[-2:]
        mask = self.conditioning.mask(batch, (H // self.vae.downscale, W // self.vae.downscale))
        channels = []
        for name in self.conditioning.inputs:
            if name == "mask":
                channels.append(mask)
                continue
            view = self.conditioning.view(name, batch) * 2 - 1
            if add_noise:
                noise = randn_tensor(view.shape, generator=generator, device=view.device)
                view = view + level.view(-1, 1, 1, 1, 1) * noise
            channels.append(self.vae.encode(view).float())
        fps = self.conditioning.fps(batch).float()
        time_ids = torch.stack([fps, torch.full_like(level, MOTION_BUCKET_ID), level], dim=1)
        context = self.conditioning.context(batch, self.image_encoder).float()
        return Condition(torch.cat(channels, dim=2), context, time_ids, mask)

    def denoise(
        self, x: Tensor, sigma: Tensor, condition: Condition, generator: torch.Generator | None = None
    ) -> Tensor:
        """D(x; σ), the estimate of the right view's scaled latent.

        Args:
            x: (B, T, C, h, w) float32, scaled latent with noise of level σ.
            sigma: (B,) float32 > 0.
            condition: of the batch.
            generator: of the attention strategy's random choices in training; None = the default one.
        """
        dtype = self.unet.dtype

        def network(scaled: Tensor, c_noise: Tensor) -> Tensor:
            sample = torch.cat([scaled, condition.channels], dim=2).to(dtype)
            context = condition.context.to(dtype)
            time_ids = condition.added_time_ids
            return self.unet(sample, c_noise, context, time_ids, condition.mask, self.attention, generator)

        return denoiser.denoise(network, x, sigma)

    @torch.no_grad()
    def encode(self, video: Tensor) -> Tensor:
        """Scaled latent (B, T, C, h, w), float32, of a video (B, T, 3, H, W) in [0, 1]; no gradients."""
        return self.vae.encode(video * 2 - 1).float() * self.vae.scaling_factor

    def decode(self, z: Tensor) -> Tensor:
        """Video (B, T, 3, H, W), about in [-1, 1], of a scaled latent (B, T, C, h, w); gradients flow."""
        return self.vae.decode(z / self.vae.scaling_factor)

    @torch.no_grad()
    def predict(
        self,
        batch: StereoBatch,
        sampler: Sampler | None = None,
        noise_aug: float | Tensor = 0.02,
        add_noise: bool = True,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> Tensor:
        """The right view (B, T, 3, H, W) in [0, 1], float32.

        Args:
            batch: see `condition`.
            sampler: None = one step from zero, the paper's feed-forward prediction (Eq. 4).
            noise_aug: see `condition`.
            add_noise: see `condition`.
            generator: of the conditioning's and the sampler's noise, or a list of one for each clip; None =
                the default one.
        """
        condition = self.condition(batch, noise_aug, add_noise, generator)
        z = self.sample(condition, sampler, generator)
        return (self.decode(z).float() / 2 + 0.5).clamp(0, 1)

    @torch.no_grad()
    def sample(
        self,
        condition: Condition,
        sampler: Sampler | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        x: Tensor | None = None,
    ) -> Tensor:
        """Scaled latents (B, T, C, h, w), float32; arguments as in `predict`, but `x`: noisy latents of that
        shape to begin with (`Sampler.begin`); None = the sampler's own."""
        B, T, _, h, w = condition.mask.shape

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            return self.denoise(x, sigma, condition)

        shape = (B, T, self.vae.latent_channels, h, w)
        return (sampler or Sampler())(denoise, shape, condition.mask.device, generator, x)

    def refine(
        self,
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
        """The right view of one clip of any size, (T, 3, H, W) float32 in [0, 1], on the device of `left`.

        The hole is closed and the warped view blackened inside; sizes that are no multiple of `size_multiple`
        are padded by repeating the border, then cropped. The VAE decodes `vae.decode_chunk` frames at a time.

        Args:
            left: (T, 3, H, W) left view, float in [0, 1] or uint8; T at most `usage.window`.
            warped: (T, 3, H, W) left view warped to the right eye, float in [0, 1] or uint8.
            hole: (T, 1, H, W) bool, True = no source pixel landed there, as `warp` gives it.
            fps: frames per second.
            num_steps: steps of the sampler; None = the model's, 1 for M2SVid.
            noise_aug: level of the conditioning noise; None = the model's, 0.02 for M2SVid.
            add_noise: False keeps the conditioning's pixels clean; the model is told `noise_aug`
                nevertheless.
            seed: of all noise; the same seed gives the same result.
            replaced: (T,) bool, frames of `warped` that are known right frames; None = no frame.

        Raises:
            UserError: a shape or type is wrong, or there are more frames than the model takes.
        """
        return refine(
            self,
            left,
            warped,
            hole,
            fps,
            num_steps,
            noise_aug,
            add_noise=add_noise,
            seed=seed,
            replaced=replaced,
        )

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        attention: AttentionName | None = None,
        backbone: str | Path | None = None,
        **options: Any,
    ) -> M2SVid:
        """The model of any known weights, ready for inference.

        Args:
            path: a published M2SVid file, a folder of `weights import`, a checkpoint of `fit`, a U-Net folder
                of StereoCrafter or DepthCrafter, or the hub id of a folder.
            device: where the model goes.
            dtype: of its parameters; None = the file's.
            attention: "disoccluded" or "factorized", where neither the weights nor the file's name say it.
            backbone: weights of VAE and image encoder, where `path` holds a U-Net only.
            **options: less common ones, see `m2svid.weights.load.load_model`.

        Raises:
            UserError: the weights are unknown, truncated, don't fit, or leave something open that must be
                given.
        """
        from m2svid.weights.load import load_model  # knows this class

        return load_model(path, device, dtype, backbone=backbone, attention=attention, **options)

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes the folder that `from_pretrained` takes. Raises UserError where it exists."""
        from m2svid.weights.load import save_model

        save_model(self, folder)

    def _check_size(self, batch: StereoBatch) -> None:
        H, W = batch.left.shape[-2:]
        if H % self.size_multiple or W % self.size_multiple:
            raise UserError(
                f"this model takes heights and widths that are multiples of {self.size_multiple}, "
                f"got {H}×{W}: crop or pad the video"
            )
