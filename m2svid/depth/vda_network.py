"""The network of Video Depth Anything (Chen et al., CVPR 2025, arXiv:2501.12375), with its published weights.

Depth Anything V2, whose decoder sees T frames together: four temporal transformers mix each place's features
over time, two on the coarsest features and two on the first fused ones. All but these is the class of the
transformers library.

Shapes: N windows, T frames of each, B = N T, C channels, H W pixels, h w places of features.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config
from transformers.models.dinov2.modeling_dinov2 import Dinov2Embeddings

from m2svid.errors import UserError
from m2svid.weights.mismatch import check, check_numbers
from m2svid.weights.parts import shapes_of

PATCH = 14  # px
MOTION_HEADS = 8
_STAGES = {12: (3, 6, 9, 12), 24: (5, 12, 18, 24)}  # blocks -> those whose features are decoded, from 1
_HEAD_CHANNELS = 64  # of the encoder's attention
_GROUPS = 32
_MICRO_BATCH = 4  # frames that are encoded, or decoded at full size, at a time

# Published names -> those of the modules here, one after the other.
_NAMES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"^pretrained\.pos_embed$", "still.backbone.embeddings.position_embeddings"),
    (r"^pretrained\.(cls|mask)_token$", r"still.backbone.embeddings.\1_token"),
    (r"^pretrained\.patch_embed\.proj\.", "still.backbone.embeddings.patch_embeddings.projection."),
    (r"^pretrained\.norm\.", "still.backbone.layernorm."),
    (r"^pretrained\.blocks\.", "still.backbone.encoder.layer."),
    (r"\.ls([12])\.gamma$", r".layer_scale\1.lambda1"),
    (r"^head\.projects\.(\d)\.", r"still.neck.reassemble_stage.layers.\1.projection."),
    (r"^head\.resize_layers\.(\d)\.", r"still.neck.reassemble_stage.layers.\1.resize."),
    (r"^head\.scratch\.layer(\d)_rn\.", lambda level: f"still.neck.convs.{int(level[1]) - 1}."),
    (
        r"^head\.scratch\.refinenet(\d)\.",
        lambda level: f"still.neck.fusion_stage.layers.{4 - int(level[1])}.",
    ),
    (r"^head\.scratch\.output_conv1\.", "still.head.conv1."),
    (r"^head\.scratch\.output_conv2\.0\.", "still.head.conv2."),
    (r"^head\.scratch\.output_conv2\.2\.", "still.head.conv3."),
    (r"\.resConfUnit([12])\.conv([12])\.", r".residual_layer\1.convolution\2."),
    (r"\.out_conv\.", ".projection."),
    (r"^head\.motion_modules\.(\d)\.temporal_transformer\.", r"motion.\1."),
    (r"\.attention_blocks\.0\.pos_encoder\.pe$", ".pos_embed.pe"),
    (r"\.attention_blocks\.0\.", ".attn1."),
    (r"\.attention_blocks\.1\.", ".attn2."),
    (r"\.norms\.0\.", ".norm1."),
    (r"\.norms\.1\.", ".norm2."),
    (r"\.ff_norm\.", ".norm3."),
)
_REPEATED = re.compile(r"\.attention_blocks\.1\.pos_encoder\.pe$")  # the same sine waves as in block 0
_MASK_TOKEN = "still.backbone.embeddings.mask_token"  # no depth depends on it, and files may lack it


class VideoDepthNetwork(nn.Module):
    """Frames to inverse depth, or to distance where the weights are those of a metric model.

    Args:
        hidden: channels of the encoder, a multiple of 64.
        blocks: of the encoder; of other numbers than 12 and 24, every quarter's last is decoded.
        side: of the pictures whose positions it has learnt, px.
        neck: channels of the four levels of features.
        fused: channels of fused features.
        head: channels before the last convolution.
        frames: T at most.
    """

    def __init__(
        self, hidden: int, blocks: int, side: int, neck: list[int], fused: int, head: int, frames: int = 32
    ) -> None:
        super().__init__()
        stages = _STAGES.get(blocks, tuple(blocks * quarter // 4 for quarter in (1, 2, 3, 4)))
        backbone = Dinov2Config(
            hidden_size=hidden,
            num_hidden_layers=blocks,
            num_attention_heads=hidden // _HEAD_CHANNELS,
            image_size=side,
            patch_size=PATCH,
            out_indices=list(stages),
            reshape_hidden_states=False,
        )
        config = DepthAnythingConfig(
            backbone_config=backbone,
            patch_size=PATCH,
            reassemble_hidden_size=hidden,
            neck_hidden_sizes=neck,
            fusion_hidden_size=fused,
            head_hidden_size=head,
        )
        self.still = DepthAnythingForDepthEstimation(config)
        self.still.backbone.embeddings = _Embeddings(backbone)
        self.motion = nn.ModuleList(
            _TemporalTransformer(channels, frames) for channels in (neck[2], neck[3], fused, fused)
        )

    def forward(self, video: Tensor) -> Tensor:
        """(N, T, H, W) >= 0, at the size of the pictures.

        Args:
            video: (N, T, 3, H, W), normalised by ImageNet's mean and deviation; H and W multiples of 14.
        """
        T, (H, W) = video.shape[1], video.shape[-2:]
        neck, grid = self.still.neck, (H // PATCH, W // PATCH)
        encoded = [self.still.backbone(part).feature_maps for part in video.flatten(0, 1).split(_MICRO_BATCH)]
        features = neck.reassemble_stage([torch.cat(level) for level in zip(*encoded, strict=True)], *grid)
        features[2] = self.motion[0](features[2], T)
        features[3] = self.motion[1](features[3], T)
        fine, finer, coarse, coarser = (conv(level) for conv, level in zip(neck.convs, features, strict=True))
        fuse = neck.fusion_stage.layers
        fused = self.motion[2](fuse[0](coarser, size=coarse.shape[-2:]), T)
        fused = self.motion[3](fuse[1](fused, coarse, size=finer.shape[-2:]), T)
        parts = zip(*(level.split(_MICRO_BATCH) for level in (fused, finer, fine)), strict=True)
        depth = [
            self._finish(fuse[3](fuse[2](low, middle, size=high.shape[-2:]), high), grid)
            for low, middle, high in parts
        ]
        return torch.cat(depth).unflatten(0, (-1, T))

    def _finish(self, fused: Tensor, grid: tuple[int, int]) -> Tensor:
        with torch.autocast(fused.device.type, enabled=False):
            return self.still.head([fused.float()], *grid)


class _Embeddings(Dinov2Embeddings):
    """DINOv2's own interpolation of positions, by a factor for a tenth of a patch more; the library's is by
    size, which gives other positions where pictures aren't of the learnt size."""

    def interpolate_pos_encoding(self, embeddings: Tensor, height: int, width: int) -> Tensor:
        positions = self.position_embeddings
        side = math.isqrt(positions.shape[1] - 1)
        grid = (height // PATCH, width // PATCH)
        if grid == (side, side):
            return positions
        learnt = positions[:, 1:].float().unflatten(1, (side, side)).permute(0, 3, 1, 2)
        factors = [(count + 0.1) / side for count in grid]
        placed = F.interpolate(learnt, scale_factor=factors, mode="bicubic").flatten(2).transpose(1, 2)
        return torch.cat([positions[:, :1], placed.to(positions.dtype)], dim=1)


class _TemporalTransformer(nn.Module):
    """Self-attention, twice, of each place over time; the norm before it is each frame's own."""

    def __init__(self, channels: int, frames: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(_GROUPS, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        block = BasicTransformerBlock(
            channels,
            MOTION_HEADS,
            channels // MOTION_HEADS,
            activation_fn="geglu",
            double_self_attention=True,
            positional_embeddings="sinusoidal",
            num_positional_embeddings=frames,
        )
        self.transformer_blocks = nn.ModuleList([block])
        self.proj_out = nn.Linear(channels, channels)

    def forward(self, features: Tensor, T: int) -> Tensor:
        """(B, C, h, w), of the same shape."""
        h, w = features.shape[-2:]
        x = self.norm(features).unflatten(0, (-1, T)).permute(0, 3, 4, 1, 2).flatten(0, 2)  # (N h w, T, C)
        x = self.proj_out(self.transformer_blocks[0](self.proj_in(x)))
        x = x.unflatten(0, (-1, h, w)).permute(0, 3, 4, 1, 2).flatten(0, 1)
        return features + x


def load_network(path: Path, tensors: Mapping[str, Tensor]) -> VideoDepthNetwork:
    """The network of a published file, whose sizes are those of its tensors.

    Args:
        path: of the file, for errors.
        tensors: published name -> tensor.

    Raises:
        UserError: they are none of such a network, or don't fit.
    """
    try:
        side = PATCH * math.isqrt(tensors["pretrained.pos_embed"].shape[1] - 1)
        network = VideoDepthNetwork(
            hidden=tensors["pretrained.cls_token"].shape[-1],
            blocks=sum(bool(re.fullmatch(r"pretrained\.blocks\.\d+\.norm1\.weight", key)) for key in tensors),
            side=side,
            neck=[tensors[f"head.projects.{level}.weight"].shape[0] for level in range(4)],
            fused=tensors["head.scratch.output_conv1.weight"].shape[1],
            head=tensors["head.scratch.output_conv2.0.weight"].shape[0],
        )
    except KeyError as error:
        raise UserError(f"{path} holds no Video Depth Anything: it has no {error}") from error
    wanted = network.state_dict()
    state = {_MASK_TOKEN: wanted[_MASK_TOKEN], **_renamed(tensors, wanted)}
    check(str(path), shapes_of(wanted), shapes_of(state))
    check_numbers(str(path), state)
    network.load_state_dict(state)
    return network.requires_grad_(False).eval()


def _renamed(tensors: Mapping[str, Tensor], wanted: Collection[str]) -> dict[str, Tensor]:
    """Tensors by the names of the modules here, `wanted` in order; unknown ones keep their published name."""
    state: dict[str, Tensor] = {}
    for published, tensor in tensors.items():
        key = published
        for pattern, name in _NAMES:
            key = re.sub(pattern, name, key)
        layer, attention, part = key.partition(".attn.")
        if attention:  # versions of the library name them differently, but in this order
            kind = part.rpartition(".")[-1]
            own = [name for name in wanted if name.startswith(f"{layer}.attention.") and name.endswith(kind)]
            parts = tensor.chunk(3) if part.startswith("qkv") else [tensor]
            state |= zip(own[:3] if part.startswith("qkv") else own[3:], parts, strict=False)
        elif not _REPEATED.search(published):
            state[key] = tensor
    return state
