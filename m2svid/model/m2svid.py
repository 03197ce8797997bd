"""The model: views in, right view out.

Shapes: B clips, T frames, H W pixels, C latent channels, h w latent size. Videos are [0, 1] outside the model
and [-1, 1] inside; latents of the noisy and of the true right view are scaled by the autoencoder's scaling
factor.
"""

from __future__ import annotations

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from m2svid.attention import AttentionStrategy
from m2svid.batch import StereoBatch
from m2svid.errors import UserError
from m2svid.model import denoiser
from m2svid.model.conditioning import MOTION_BUCKET_ID, Condition, Conditioning
from m2svid.model.image_encoder import ImageEncoder, NoImageEncoder
from m2svid.model.sampler import Sampler
from m2svid.model.unet import ConditionedUNet
from m2svid.model.vae import VideoAutoencoder
from m2svid.warping.mask import mask_latent


class M2SVid(nn.Module):
    """Inpaints and refines a warped right view, given the left view and the hole mask.

    Args:
        unet: the network.
        vae: frozen autoencoder.
        image_encoder: frozen encoder of the left view's frames.
        conditioning: what the U-Net sees beside the noisy latent.
        attention: which tokens its spatial attention sees; may be exchanged at any time.
    """

    def __init__(
        self,
        unet: ConditionedUNet,
        vae: VideoAutoencoder,
        image_encoder: ImageEncoder | NoImageEncoder,
        conditioning: Conditioning,
        attention: AttentionStrategy,
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
        generator: torch.Generator | None = None,
    ) -> Condition:
        """Encodes what the U-Net is told about a batch; no gradients.

        Args:
            batch: views with the warped one black in its holes.
            noise_aug: s ≥ 0, level of the pixel noise on the views (REFERENCE "Conditioning noise"), for the
                batch or (B,) for each clip; the U-Net is told it in any case. CLIP sees clean frames.
            add_noise: whether the noise is added.
            generator: of the noise; None = the default one.

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
        mask = mask_latent(batch.hole, (H // self.vae.downscale, W // self.vae.downscale), batch.replaced)
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
        time_ids = torch.stack([batch.fps.float(), torch.full_like(level, MOTION_BUCKET_ID), level], dim=1)
        context = self.image_encoder(batch.left).float()
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
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The right view (B, T, 3, H, W) in [0, 1], float32.

        Args:
            batch: see `condition`.
            sampler: None = one step from zero, the paper's feed-forward prediction (Eq. 4).
            noise_aug: see `condition`.
            add_noise: see `condition`.
            generator: of the conditioning's and the sampler's noise; None = the default one.
        """
        sampler = sampler or Sampler()
        condition = self.condition(batch, noise_aug, add_noise, generator)
        B, T, _, h, w = condition.mask.shape

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            return self.denoise(x, sigma, condition, generator)

        z = sampler(denoise, (B, T, self.vae.latent_channels, h, w), condition.mask.device, generator)
        return (self.decode(z).float() / 2 + 0.5).clamp(0, 1)

    def _check_size(self, batch: StereoBatch) -> None:
        H, W = batch.left.shape[-2:]
        if H % self.size_multiple or W % self.size_multiple:
            raise UserError(
                f"this model takes heights and widths that are multiples of {self.size_multiple}, "
                f"got {H}×{W}: crop or pad the video"
            )
