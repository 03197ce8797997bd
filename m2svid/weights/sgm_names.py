"""Names and sizes in a file of Stability's generative-models ("sgm").

Where each diffusers or transformers tensor stands in it; only this direction is written down. The way back
needs the list of diffusers names, which the (meta) modules give, so both directions use one map and cannot
disagree. And the networks' configurations, read off the shapes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from m2svid.errors import UserError

UNET = "model.diffusion_model."
FIRST_STAGE = "first_stage_model."
OPEN_CLIP = "conditioner.embedders.0.open_clip.model."
CLIP = OPEN_CLIP + "visual."
LEFT_ENCODER = "conditioner.embedders.3.encoder."  # SVD's conditioning autoencoder; M2SVid files hold it
WARPED_ENCODER = "conditioner.embedders.5.encoder."  # twice, for the left and for the warped view

Rules = tuple[tuple[str, str], ...]
Shapes = Mapping[str, tuple[int, ...]]

CLIP_HEADS = {1280: 16}
"""Attention heads by width, for the vision towers that published files hold (ViT-H/14)."""

_BLOCK = re.compile(r"(down|mid|up)_blocks?\.(?:(\d+)\.)?(resnets|attentions|\w+samplers)\.(\d+)\.(.*)")


@dataclass(frozen=True)
class Source:
    """One tensor of a generative-models file, or a part of it.

    Attributes:
        key: name in the file.
        third: 0, 1 or 2 where the tensor is that third of a fused query-key-value projection.
        transposed: the file holds the transposed matrix.
        pointwise: the file holds the matrix as a 1×1 convolution.
    """

    key: str
    third: int | None = None
    transposed: bool = False
    pointwise: bool = False

    def stored_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape in the file of a tensor that has `shape` in the module."""
        if self.third is not None:
            return (3 * shape[0], *shape[1:])
        if self.transposed:
            return shape[::-1]
        return (*shape, 1, 1) if self.pointwise else shape

    def unpack(self, stored: Tensor) -> Tensor:
        """The module's tensor from the file's: a view, but for the one transposed matrix of a model."""
        if self.third is not None:
            return stored.chunk(3)[self.third]
        if self.transposed:
            return stored.T.contiguous()
        return stored[:, :, 0, 0] if self.pointwise else stored

    def pack(self, tensor: Tensor) -> Tensor:
        """Inverse of `unpack`; a fused projection's third stays a third."""
        if self.transposed:
            return tensor.T.contiguous()
        return tensor[:, :, None, None] if self.pointwise else tensor


_TEMPORAL_RESNET: Rules = (
    (r"\bnorm1\b", "in_layers.0"),
    (r"\bconv1\b", "in_layers.2"),
    (r"\btime_emb_proj\b", "emb_layers.1"),
    (r"\bnorm2\b", "out_layers.0"),
    (r"\bconv2\b", "out_layers.3"),
)
_UNET_RESNET: Rules = (
    (r"^spatial_res_block\.", ""),
    (r"^temporal_res_block\.", "time_stack."),
    (r"^conv_shortcut\b", "skip_connection"),
    *_TEMPORAL_RESNET,
)
_UNET_ATTENTION: Rules = (
    (r"^temporal_transformer_blocks\.", "time_stack."),
    (r"^time_pos_embed\.linear_1\b", "time_pos_embed.0"),
    (r"^time_pos_embed\.linear_2\b", "time_pos_embed.2"),
)
_UNET_EDGES: Rules = (
    (r"^conv_in\b", "input_blocks.0.0"),
    (r"^time_embedding\.linear_1\b", "time_embed.0"),
    (r"^time_embedding\.linear_2\b", "time_embed.2"),
    (r"^add_embedding\.linear_1\b", "label_emb.0.0"),
    (r"^add_embedding\.linear_2\b", "label_emb.0.2"),
    (r"^conv_norm_out\b", "out.0"),
    (r"^conv_out\b", "out.2"),
)
_VAE_ATTENTION: Rules = (
    (r"^group_norm\b", "norm"),
    (r"^to_([qkv])\b", r"\1"),
    (r"^to_out\.0\b", "proj_out"),
)
_VAE_RESNET: Rules = (
    (r"^spatial_res_block\.", ""),
    (r"^time_mixer\.mix_factor$", "mix_factor"),
    (r"^conv_shortcut\b", "nin_shortcut"),
)
_VAE_EDGES: Rules = (
    (r"^conv_norm_out\b", "norm_out"),
    (r"^time_conv_out\b", "conv_out.time_mix_conv"),
)
_CLIP: Rules = (
    (r"^vision_model\.embeddings\.class_embedding$", "class_embedding"),
    (r"^vision_model\.embeddings\.patch_embedding\b", "conv1"),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^vision_model\.pre_layrnorm\b", "ln_pre"),
    (r"^vision_model\.post_layernorm\b", "ln_post"),
    (r"^vision_model\.encoder\.layers\.", "transformer.resblocks."),
    (r"\blayer_norm([12])\b", r"ln_\1"),
    (r"\bmlp\.fc1\b", "mlp.c_fc"),
    (r"\bmlp\.fc2\b", "mlp.c_proj"),
    (r"\bself_attn\.out_proj\b", "attn.out_proj"),
)


def _rename(name: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def unet_source(name: str, config: Mapping[str, Any]) -> Source:
    """Source of one tensor of `UNetSpatioTemporalConditionModel`, built from `config`."""
    match = _BLOCK.match(name)
    if match is None:
        return Source(UNET + _rename(name, _UNET_EDGES))
    side, level, kind, index, leaf = match[1], int(match[2] or 0), match[3], int(match[4]), match[5]
    layers = config["layers_per_block"]
    if kind == "downsamplers":
        return Source(f"{UNET}input_blocks.{(level + 1) * (layers + 1)}.0.{leaf.replace('conv', 'op')}")
    if kind == "upsamplers":
        slot = 2 if config["up_block_types"][level].startswith("CrossAttn") else 1
        return Source(f"{UNET}output_blocks.{level * (layers + 1) + layers}.{slot}.{leaf}")
    slot = 0 if kind == "resnets" else 1
    block = {
        "down": f"input_blocks.{1 + level * (layers + 1) + index}.{slot}",
        "mid": f"middle_block.{2 * index + slot}",
        "up": f"output_blocks.{level * (layers + 1) + index}.{slot}",
    }[side]
    return Source(f"{UNET}{block}.{_rename(leaf, _UNET_ATTENTION if slot else _UNET_RESNET)}")


def vae_source(name: str, config: Mapping[str, Any]) -> Source:
    """Source of one tensor of `AutoencoderKLTemporalDecoder`: embedder 3 encodes, the first stage decodes."""
    if name.startswith("quant_conv."):
        return Source(LEFT_ENCODER + name)
    half, rest = name.split(".", 1)
    prefix = f"{LEFT_ENCODER}encoder." if half == "encoder" else f"{FIRST_STAGE}decoder."
    match = _BLOCK.match(rest)
    if match is None:
        return Source(prefix + _rename(rest, _VAE_EDGES))
    side, level, kind, index, leaf = match[1], int(match[2] or 0), match[3], int(match[4]), match[5]
    if side == "up":
        level = len(config["block_out_channels"]) - 1 - level
    if kind.endswith("samplers"):
        return Source(f"{prefix}{side}.{level}.{side}sample.{leaf}")
    if kind == "attentions":
        key = f"{prefix}mid.attn_{index + 1}.{_rename(leaf, _VAE_ATTENTION)}"
        return Source(key, pointwise=leaf.startswith("to_") and leaf.endswith("weight"))
    block = f"mid.block_{index + 1}" if side == "mid" else f"{side}.{level}.block.{index}"
    return Source(f"{prefix}{block}.{_vae_resnet_leaf(leaf)}")


def _vae_resnet_leaf(leaf: str) -> str:
    temporal = leaf.removeprefix("temporal_res_block.")
    if temporal != leaf:
        return "time_stack." + _rename(temporal, _TEMPORAL_RESNET)
    return _rename(leaf, _VAE_RESNET)


def clip_source(name: str, config: Mapping[str, Any]) -> Source:
    """Source of one tensor of `CLIPVisionModelWithProjection` in open_clip's vision tower."""
    if name == "visual_projection.weight":
        return Source(CLIP + "proj", transposed=True)
    fused = re.match(r"vision_model\.encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)$", name)
    if fused is not None:
        key = f"{CLIP}transformer.resblocks.{fused[1]}.attn.in_proj_{fused[3]}"
        return Source(key, third="qkv".index(fused[2]))
    return Source(CLIP + _rename(name, _CLIP))


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
