"""What the U-Net sees beside the noisy latent (REFERENCE "The conditioned U-Net").

Shapes: B clips, T frames, h w latent size, D context channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from m2svid.batch import StereoBatch
from m2svid.errors import UserError
from m2svid.model.unet import ConditionedUNet
from m2svid.warping.mask import mask_latent

InputName = Literal["left", "warped", "mask", "video"]

MOTION_BUCKET_ID = 127  # of SVD's training; the paper keeps it for every clip


@dataclass(frozen=True)
class Condition:
    """Everything the U-Net is told about a batch.

    Attributes:
        channels: (B, T, C, h, w) float32, concatenated to the noisy latent.
        context: (B, T, 1, D) float32, embeddings of the frames for cross-attention.
        added_time_ids: (B, 3) float32, fps, motion bucket id, noise augmentation.
        mask: (B, T, 1, h, w) float32 in [-1, 1], > 0 = disoccluded, for the attention strategy.
    """

    channels: Tensor
    context: Tensor
    added_time_ids: Tensor
    mask: Tensor


class Conditioning:
    """What M2SVid sees; models that make mask, embeddings or fps in another way override that method.

    Args:
        inputs: what is concatenated to the noisy latent, in this order. `left` and `warped`, the encoded
            views; `mask`, the hole mask; `video`, the encoded input of a model that has one view only.
            M2SVid: left, warped, mask. Without the left view (Table 4) and
            StereoCrafter: warped, mask. DepthCrafter: video.

    Raises:
        UserError: for an empty list, an unknown or a repeated name.
    """

    family = "m2svid"

    def __init__(self, inputs: Sequence[InputName] = ("left", "warped", "mask")) -> None:
        inputs = tuple(inputs)
        unknown = [name for name in inputs if name not in get_args(InputName)]
        if unknown or not inputs or len(set(inputs)) < len(inputs):
            raise UserError(
                f"conditioning={list(inputs)} must list some of {', '.join(get_args(InputName))}, each once"
            )
        self.inputs = inputs

    @property
    def num_views(self) -> int:
        """How many inputs are encoded videos."""
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
    """Gives SVD's U-Net (noisy latent | image latent) the input channels of `conditioning`, in place.

    The noisy latent keeps its weights, each view gets those of the image latent divided by the number of
    views, so that equal views act as the image did; the mask starts at 0 (REFERENCE "The conditioned U-Net").

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
