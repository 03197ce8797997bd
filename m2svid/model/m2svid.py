"""The model: views in, right view out.

Shapes: B clips, T frames, H W pixels, C latent channels, h w latent size. Videos are [0, 1] outside the model
and [-1, 1] inside; latents of the noisy and of the true right view are scaled by the autoencoder's scaling
factor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from m2svid.attention import AttentionStrategy
from m2svid.batch import StereoBatch
from m2svid.described import Described
from m2svid.errors import UserError
from m2svid.model import denoiser
from m2svid.model.card import ModelCard, Usage
from m2svid.model.conditioning import Condition, Conditioning
from m2svid.model.image_encoder import ImageEncoder
from m2svid.model.sampler import Sampler
from m2svid.model.unet import ConditionedUNet
from m2svid.model.vae import VideoAutoencoder


class M2SVid(nn.Module):
    """Inpaint and refine a warped right view, given the left view and the hole mask.

    Args:
        unet: the network.
        vae: frozen autoencoder.
        image_encoder: frozen encoder of the left view's frames.
        conditioning: what the U-Net sees beside the noisy latent.
        attention: which tokens its spatial attention sees; may be exchanged at any time.
        usage: how the model is run; None = as M2SVid.
        backbone: `path` and `variant` of the weights that the frozen networks come from, for the model card;
            None = no such place.
    """

    def __init__(
        self,
        unet: ConditionedUNet,
        vae: VideoAutoencoder,
        image_encoder: ImageEncoder,
        conditioning: Conditioning,
        attention: AttentionStrategy,
        usage: Usage | None = None,
        backbone: Mapping[str, str | None] | None = None,
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
        self.backbone = backbone

    @property
    def networks(self) -> dict[str, nn.Module]:
        """Each network as its library knows it."""
        return {"unet": self.unet, "vae": self.vae.network, "image_encoder": self.image_encoder.network}

    @property
    def kept(self) -> tuple[str, ...]:
        """Networks whose tensors a checkpoint of training holds: all but Stable Video Diffusion's frozen
        ones, which come from its weights again."""
        own = (name for name, network in self.networks.items() if isinstance(network, Described))
        return "unet", *own

    def card(self, step: int | None = None) -> ModelCard:
        """Describe the model without its tensors.

        Args:
            step: optimizer steps of its training.

        Raises:
            UserError: an own class can't be described, see `Described.describe`.
        """
        return ModelCard(
            self.conditioning.describe(),
            self.attention.describe(),
            self.usage,
            {name: configuration(network) for name, network in self.networks.items()},
            self.backbone,
            step,
        )

    @property
    def size_multiple(self) -> int:
        """The number that H and W must be multiples of: 64 at full size."""
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
        condition = self.conditioning(batch, self.vae, self.image_encoder, noise_aug, add_noise, generator)
        share = self.unet.config.keep_warped
        if not share:
            return condition
        kept = share * ~self.vae.encode_hole(batch.hole)
        return replace(condition, kept=kept, warped=self.encode(batch.warped))

    def denoise(
        self, x: Tensor, sigma: Tensor, condition: Condition, generator: torch.Generator | None = None
    ) -> Tensor:
        """D(x; σ), the estimate of the right view's scaled latent.

        It has the share of the warped view in it that the condition says.

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

        z_hat = denoiser.denoise(network, x, sigma)
        return z_hat if condition.kept is None else z_hat.lerp(condition.warped, condition.kept)

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

    @classmethod
    def from_pretrained(cls, path: str | Path, *args: Any, **options: Any) -> M2SVid:
        """The model of any known weights, ready for inference: `m2svid.load`, which explains the options."""
        import m2svid  # the layer above, by its public name

        return m2svid.load(path, *args, **options)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the folder that `from_pretrained` takes: `m2svid.save`."""
        import m2svid  # the layer above, by its public name

        m2svid.save(self, folder)

    def _check_size(self, batch: StereoBatch) -> None:
        H, W = batch.left.shape[-2:]
        if H % self.size_multiple or W % self.size_multiple:
            raise UserError(
                f"this model takes heights and widths that are multiples of {self.size_multiple}, "
                f"got {H}×{W}: crop or pad the video"
            )


def configuration(network: nn.Module) -> dict[str, Any]:
    """Content of a network's `config.json`: its library's, or class path and arguments."""
    if isinstance(network, Described):
        return network.describe()
    if isinstance(network, PreTrainedModel):
        return network.config.to_diff_dict()
    return {key: value for key, value in network.config.items() if not key.startswith("_")}
