"""The model: views in, right view out.

Shapes: B clips, T frames, H W pixels, C latent channels, h w latent size. Videos are [0, 1] outside the model
and [-1, 1] inside; latents of the noisy and of the true right view are scaled by the autoencoder's scaling
factor.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from m2svid.attention import AttentionStrategy
from m2svid.batch import StereoBatch
from m2svid.errors import UserError
from m2svid.inference.refine import refine
from m2svid.model import denoiser
from m2svid.model.conditioning import Condition, Conditioning
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

    def condition(
        self,
        batch: StereoBatch,
        noise_aug: float | Tensor = 0.02,
        add_noise: bool = True,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> Condition:
        """The conditioning of a batch, see `Conditioning`; no gradients.

        Raises:
            UserError: the size is no multiple of `size_multiple`, or noise_aug is negative.
        """
        batch = batch.as_float()
        self._check_size(batch)
        return self.conditioning(batch, self.vae, self.image_encoder, noise_aug, add_noise, generator)

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
    def encode(self, video: Tensor, sample: bool = False, generator: torch.Generator | None = None) -> Tensor:
        """Scaled latent (B, T, C, h, w), float32, of a video (B, T, 3, H, W) in [0, 1]; no gradients.

        Args:
            video: the video.
            sample: draw from the autoencoder's posterior instead of taking its mode.
            generator: of the sample; None = the default one.
        """
        signed = video * 2 - 1
        z = self.vae.encode_sample(signed, generator) if sample else self.vae.encode(signed)
        return z.float() * self.vae.scaling_factor

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

    def sample(
        self,
        condition: Condition,
        sampler: Sampler | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        x: Tensor | None = None,
    ) -> Tensor:
        """Scaled latents (B, T, C, h, w), float32; gradients flow.

        Args:
            condition: of the batch.
            sampler: see `predict`.
            generator: of the sampler's noise and, in training, of the attention strategy's random choices.
            x: noisy latents of that shape to begin with (`Sampler.begin`); None = the sampler's own.
        """
        B, T, _, h, w = condition.mask.shape

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            own = generator if isinstance(generator, torch.Generator) else None
            return self.denoise(x, sigma, condition, own)

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
