"""Other models of the same architecture: what their U-Nets see, and how they are run (REFERENCE §10).

Shapes: B clips, T frames, H W pixels, h w latent, D context channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2svid.batch import StereoBatch
from m2svid.model.card import Usage
from m2svid.model.conditioning import Conditioning
from m2svid.model.sampler import Sampler


class StereoCrafterConditioning(Conditioning):
    """StereoCrafter: warped view and mask; CLIP sees the first warped frame only; the fps id is 6."""

    def __init__(self) -> None:
        super().__init__(("warped", "mask"))

    def mask(self, batch: StereoBatch, size: tuple[int, int]) -> Tensor:
        """(B, T, 1, h, w) in [0, 1], the nearest pixel's; not dilated."""
        return F.interpolate(batch.hole.float().flatten(0, 1), size=size, mode="nearest").unflatten(
            0, batch.hole.shape[:2]
        )

    def context(self, batch: StereoBatch, image_encoder: nn.Module) -> Tensor:
        """(B, T, 1, D): the first warped frame's embedding, repeated."""
        return image_encoder(batch.warped[:, :1]).expand(-1, batch.num_frames, -1, -1)

    def fps(self, batch: StereoBatch) -> Tensor:
        return torch.full_like(batch.fps, 6)


class DepthCrafterConditioning(Conditioning):
    """DepthCrafter: the video itself (`StereoBatch.left`); CLIP sees every frame; the fps id is 7."""

    def __init__(self) -> None:
        super().__init__(("video",))

    def fps(self, batch: StereoBatch) -> Tensor:
        return torch.full_like(batch.fps, 7)


STEREOCRAFTER = Usage(
    # 8 steps in its script, 25 by default in its pipeline; its guidance of 1.01 is taken for 1
    sampler=Sampler(num_steps=8, start="noise", spacing="full"),
    noise_aug=0.0,
    window=23,
    overlap=3,
    mark_known=False,
)
DEPTHCRAFTER = Usage(
    sampler=Sampler(num_steps=5, start="noise", spacing="full"),
    noise_aug=0.02,
    window=110,
    overlap=25,
    mark_known=False,
)
