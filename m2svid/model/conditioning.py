"""The U-Net's inputs: 13 channels = noisy latent 4 | E(left) 4 | E(warped) 4 | mask 1 (REFERENCE §1, 3, 4).

Shapes: B clips, T frames, H W pixels, h w latent size, C latent channels, D context channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from m2svid.batch import StereoBatch
from m2svid.described import Described
from m2svid.errors import UserError
from m2svid.model.unet import ConditionedUNet
from m2svid.model.vae import VideoAutoencoder
from m2svid.warping.mask import mask_latent

InputName = Literal["left", "warped", "mask", "video"]

MOTION_BUCKET_ID = 127  # of SVD's training; the paper keeps it for every clip


@dataclass(frozen=True)
class Condition:
    """The U-Net's inputs for a batch, apart from the noisy latent.

    Attributes:
        channels: (B, T, C, h, w) float32, concatenated to the noisy latent.
        context: (B, T, 1, D) float32, embeddings of the frames for cross-attention.
        added_time_ids: (B, 3) float32, fps, motion bucket id, noise augmentation.
        mask: (B, T, 1, h, w) float32 in [-1, 1], > 0 = disoccluded, for the attention strategy.
        kept: (B, T, 1 or C, h, w) float32, share of `warped` in the prediction, 0 in holes; None = 0.
        warped: (B, T, C, h, w) float32, scaled latent of the warped view, without noise; None with `kept`.
    """

    channels: Tensor
    context: Tensor
    added_time_ids: Tensor
    mask: Tensor
    kept: Tensor | None = None
    warped: Tensor | None = None


class Conditioning(Described):
    """Make M2SVid's conditioning; models with another mask, embedding or fps override that method.

    Args:
        inputs: the channels after the noisy latent, in this order. `left` and `warped` are the encoded
            views; `mask` is the hole mask; `video` is the encoded input of a model with a single view.
            M2SVid: left, warped, mask. Without the left view (Table 4) and
            StereoCrafter: warped, mask. DepthCrafter: video.
        noisy_replaced: add the conditioning noise to replaced frames too; the published code replaces frames
            after it has added the noise, so known frames stay clean (REFERENCE §6).

    Raises:
        UserError: for an empty list, an unknown or a repeated name.
    """

    def __init__(
        self, inputs: Sequence[InputName] = ("left", "warped", "mask"), noisy_replaced: bool = False
    ) -> None:
        inputs = tuple(inputs)
        unknown = [name for name in inputs if name not in get_args(InputName)]
        if unknown or not inputs or len(set(inputs)) < len(inputs):
            raise UserError(
                f"conditioning={list(inputs)} must list some of {', '.join(get_args(InputName))}, each once"
            )
        self.inputs = inputs
        self.noisy_replaced = noisy_replaced

    @torch.no_grad()
    def __call__(
        self,
        batch: StereoBatch,
        vae: VideoAutoencoder,
        image_encoder: nn.Module,
        noise_aug: float | Tensor = 0.02,
        add_noise: bool = True,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> Condition:
        """Encode a batch; no gradients.

        Args:
            batch: float videos in [0, 1], the warped one black in its holes.
            vae: encodes the views: the mode of the posterior, not scaled.
            image_encoder: embeds the frames for cross-attention; it sees them without noise.
            noise_aug: s ≥ 0, level of the pixel noise on the views (REFERENCE §3), for the batch or (B,) for
                each clip; the U-Net is told it in any case.
            add_noise: whether the noise is added.
            generator: of the noise, or a list of one for each clip; None = the default one.

        Raises:
            UserError: noise_aug is negative.
        """
        level = torch.as_tensor(noise_aug, dtype=torch.float32, device=batch.left.device)
        level = level.expand(len(batch.fps))  # (B,)
        if (level < 0).any():
            raise UserError(f"noise_aug={noise_aug} is a noise level and can't be negative")

        def encode(name: InputName) -> Tensor:
            view = self.view(name, batch) * 2 - 1  # (B, T, 3, H, W)
            if add_noise:
                noise = randn_tensor(view.shape, generator=generator, device=view.device)
                if name == "warped" and batch.replaced is not None and not self.noisy_replaced:
                    noise = noise.masked_fill(batch.replaced[:, :, None, None, None], 0)
                view = view + level.view(-1, 1, 1, 1, 1) * noise
            return vae.encode(view).float()  # (B, T, C, h, w)

        H, W = batch.left.shape[-2:]
        mask = self.mask(batch, (H // vae.downscale, W // vae.downscale))  # (B, T, 1, h, w)
        # 4 + 4 + 1 channels, which `M2SVid.denoise` concatenates to the 4 of the noisy latent
        channels = torch.cat([mask if name == "mask" else encode(name) for name in self.inputs], dim=2)
        fps = self.fps(batch).float()
        time_ids = torch.stack([fps, torch.full_like(level, MOTION_BUCKET_ID), level], dim=1)
        return Condition(channels, self.context(batch, image_encoder).float(), time_ids, mask)

    @property
    def num_views(self) -> int:
        """Number of inputs that are encoded videos."""
        return sum(name != "mask" for name in self.inputs)

    def in_channels(self, latent_channels: int) -> int:
        """Input channels of the U-Net: the noisy latent, a latent for each view, one channel for the mask."""
        return latent_channels * (1 + self.num_views) + self.inputs.count("mask")

    def view(self, name: InputName, batch: StereoBatch) -> Tensor:
        """The video of an input, (B, T, 3, H, W) in [0, 1]; `video` is the left view, the only one there."""
        return batch.warped if name == "warped" else batch.left

    def mask(self, batch: StereoBatch, size: tuple[int, int]) -> Tensor:
        """(B, T, 1, h, w) hole mask at latent size (h, w), > 0 = disoccluded."""
        return mask_latent(batch.hole, size, batch.replaced)

    def context(self, batch: StereoBatch, image_encoder: nn.Module) -> Tensor:
        """(B, T, 1, D) embeddings of the frames for cross-attention: the left view's."""
        return image_encoder(batch.left)

    def fps(self, batch: StereoBatch) -> Tensor:
        """(B,) frames per second that the U-Net is told."""
        return batch.fps


@torch.no_grad()
def widen_conv_in(unet: ConditionedUNet, conditioning: Conditioning) -> None:
    """Give SVD's U-Net (noisy latent | image latent) the input channels of `conditioning`, in place.

    The noisy latent keeps its weights, each view gets those of the image latent divided by the number of
    views, so that equal views act as the image did; the mask starts at 0 (REFERENCE §1).

    Raises:
        UserError: if the U-Net is not one with twice as many input channels as latent channels.
    """
    old = unet.conv_in
    latent = unet.config.out_channels
    if old.in_channels != 2 * latent:
        raise UserError(
            f"a U-Net with {old.in_channels} input channels can't start a model with conditioning="
            f"{list(conditioning.inputs)}: it needs {conditioning.in_channels(latent)}, or SVD's {2 * latent}"
        )
    noisy, image = old.weight.split(latent, dim=1)
    views = image / conditioning.num_views if conditioning.num_views else image
    mask = torch.zeros_like(old.weight[:, :1])
    weight = torch.cat([noisy, *(mask if name == "mask" else views for name in conditioning.inputs)], dim=1)

    unet.conv_in = nn.Conv2d(
        weight.shape[1],
        old.out_channels,
        old.kernel_size,
        padding=old.padding,
        device=weight.device,
        dtype=weight.dtype,
    )
    unet.conv_in.weight.copy_(weight)
    unet.conv_in.bias.copy_(old.bias)
    unet.register_to_config(in_channels=weight.shape[1])
