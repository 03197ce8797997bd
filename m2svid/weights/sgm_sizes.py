"""Configurations read off the tensor shapes of a file with the names of Stability's generative-models."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from m2svid.errors import UserError
from m2svid.weights.sgm_names import CLIP, FIRST_STAGE, LEFT_ENCODER, UNET

Shapes = Mapping[str, tuple[int, ...]]

CLIP_HEADS = {1280: 16}
"""Attention heads by width, for the vision towers that published files hold (ViT-H/14)."""


def unet_config(shapes: Shapes, head_channels: int = 64) -> dict[str, Any]:
    """Arguments of `UNetSpatioTemporalConditionModel`.

    Args:
        shapes: key -> shape of the whole file, without a leading `module.`.
        head_channels: channels of one attention head, which no shape tells; 64 in all published files.

    Raises:
        KeyError: a tensor that every such U-Net has is not there.
        UserError: `head_channels` does not divide the channels.
    """
    blocks = _count(shapes, rf"{UNET}input_blocks\.(\d+)\.")
    downsamplers = [i for i in range(blocks) if f"{UNET}input_blocks.{i}.0.op.weight" in shapes]
    layers = (downsamplers[0] if downsamplers else blocks) - 1
    first_blocks = range(1, blocks, layers + 1)
    channels = [shapes[f"{UNET}input_blocks.{i}.0.in_layers.2.weight"][0] for i in first_blocks]
    attended = [f"{UNET}input_blocks.{i}.1.proj_in.weight" in shapes for i in first_blocks]
    if any(c % head_channels for c in channels):
        raise UserError(
            f"The U-Net's channels {channels} do not divide into heads of {head_channels} channels; "
            "give the head size that it was trained with (head_channels)."
        )
    conv_in, ids = shapes[f"{UNET}input_blocks.0.0.weight"], shapes[f"{UNET}label_emb.0.0.weight"][1]
    context = shapes[f"{UNET}middle_block.1.transformer_blocks.0.attn2.to_k.weight"][1]
    prefixes = ["CrossAttn" if a else "" for a in attended]
    return {
        "in_channels": conv_in[1],
        "out_channels": shapes[f"{UNET}out.2.weight"][0],
        "down_block_types": [f"{p}DownBlockSpatioTemporal" for p in prefixes],
        "up_block_types": [f"{p}UpBlockSpatioTemporal" for p in reversed(prefixes)],
        "block_out_channels": channels,
        "addition_time_embed_dim": ids // 3,  # fps, motion bucket, noise
        "projection_class_embeddings_input_dim": ids,
        "layers_per_block": layers,
        "cross_attention_dim": context,
        "transformer_layers_per_block": _count(
            shapes, rf"{UNET}middle_block\.1\.transformer_blocks\.(\d+)\."
        ),
        "num_attention_heads": [c // head_channels for c in channels],
    }


def vae_config(shapes: Shapes) -> dict[str, Any]:
    """Arguments of `AutoencoderKLTemporalDecoder`. Raises KeyError where such a VAE's tensor is not there."""
    encoder = f"{LEFT_ENCODER}encoder."
    levels = _count(shapes, rf"{encoder}down\.(\d+)\.")
    return {
        "in_channels": shapes[f"{encoder}conv_in.weight"][1],
        "out_channels": shapes[f"{FIRST_STAGE}decoder.conv_out.weight"][0],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "block_out_channels": [
            shapes[f"{encoder}down.{level}.block.0.conv1.weight"][0] for level in range(levels)
        ],
        "layers_per_block": _count(shapes, rf"{encoder}down\.0\.block\.(\d+)\."),
        "latent_channels": shapes[f"{FIRST_STAGE}decoder.conv_in.weight"][1],
        "scaling_factor": 0.18215,
    }


def clip_config(shapes: Shapes, heads: int | None = None) -> dict[str, Any]:
    """Arguments of `transformers.CLIPVisionConfig`.

    Args:
        shapes: key -> shape of the whole file, without a leading `module.`.
        heads: attention heads, which no shape tells; None = those of the published tower of this width.

    Raises:
        KeyError: a tensor that every such tower has is not there.
        UserError: heads unknown, or not a divisor of the width.
    """
    width, _, patch, _ = shapes[f"{CLIP}conv1.weight"]
    heads = CLIP_HEADS.get(width) if heads is None else heads
    if heads is None or width % heads:
        raise UserError(
            f"The CLIP vision tower is {width} wide, which is no published one or not divisible by the given "
            f"heads; give its number of attention heads (clip_heads={heads})."
        )
    return {
        "hidden_size": width,
        "intermediate_size": shapes[f"{CLIP}transformer.resblocks.0.mlp.c_fc.weight"][0],
        "projection_dim": shapes[f"{CLIP}proj"][1],
        "num_hidden_layers": _count(shapes, rf"{CLIP}transformer\.resblocks\.(\d+)\."),
        "num_attention_heads": heads,
        "image_size": math.isqrt(shapes[f"{CLIP}positional_embedding"][0] - 1) * patch,
        "patch_size": patch,
        "hidden_act": "gelu",
    }


def _count(shapes: Shapes, pattern: str) -> int:
    """1 + the largest number that the pattern's group takes among the keys."""
    numbers = (int(match[1]) for key in shapes if (match := re.match(pattern, key)))
    return 1 + max(numbers, default=-1)
