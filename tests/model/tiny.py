"""Stable Video Diffusion's networks at a size for tests, and a batch."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLTemporalDecoder
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from m2svid.batch import StereoBatch

UNET: dict[str, Any] = {
    "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
    "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
    "block_out_channels": (32, 64),
    "num_attention_heads": (2, 4),
    "addition_time_embed_dim": 32,
    "projection_class_embeddings_input_dim": 96,
    "cross_attention_dim": 16,
    "layers_per_block": 1,
}


def vae() -> AutoencoderKLTemporalDecoder:
    return AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=4
    )


def clip() -> CLIPVisionModelWithProjection:
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        projection_dim=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    return CLIPVisionModelWithProjection(config)


def batch(B: int = 2, T: int = 3, H: int = 16, W: int = 32, seed: int = 0) -> StereoBatch:
    """Random views with a hole in the middle of the warped one."""
    generator = torch.Generator().manual_seed(seed)
    left, warped, right = torch.rand(3, B, T, 3, H, W, generator=generator)
    hole = torch.zeros(B, T, 1, H, W, dtype=torch.bool)
    hole[..., H // 4 : H // 2, W // 4 : W // 2] = True
    return StereoBatch(
        left, warped.masked_fill(hole, 0), hole, fps=torch.tensor([8.0, 29.97])[:B], right=right
    )
