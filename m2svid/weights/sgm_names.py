"""Where each diffusers or transformers tensor stands in a file of Stability's generative-models ("sgm").

Only this direction is written down. The way back needs the list of diffusers names, which the (meta) modules
give, so both directions use one map and cannot disagree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

UNET = "model.diffusion_model."
FIRST_STAGE = "first_stage_model."
OPEN_CLIP = "conditioner.embedders.0.open_clip.model."
CLIP = OPEN_CLIP + "visual."
LEFT_ENCODER = "conditioner.embedders.3.encoder."  # SVD's conditioning autoencoder; M2SVid files hold it
WARPED_ENCODER = "conditioner.embedders.5.encoder."  # twice, for the left and for the warped view

Rules = tuple[tuple[str, str], ...]

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
