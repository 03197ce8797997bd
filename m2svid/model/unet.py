"""The conditioned U-Net: Stable Video Diffusion's blocks with explicit context, mask and attention strategy.

Shapes: B clips, T frames, C channels of a level, h w latent size of a level, N = h·w tokens, L context
embeddings a frame, D context channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.resnet import SpatioTemporalResBlock
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from torch import Tensor, nn

from m2svid.attention import AttentionStrategy, Selection
from m2svid.errors import UserError


class ConditionedUNet(UNetSpatioTemporalConditionModel):
    """diffusers' SVD U-Net (same parameters, config, from_pretrained, save_pretrained) with our forward.

    Args:
        resnet_eps: epsilon of every group norm in the residual blocks. The published U-Net has 1e-5
            everywhere, where diffusers builds some with 1e-6; None leaves diffusers' values (StereoCrafter's
            U-Net was trained so).
        keep_warped: share of the warped view in the prediction, outside the holes. The rest there, and all
            in holes, is the network's. The published models keep nothing (0). `M2SVid` reads it; it is in the
            configuration because weights work only with the share that they were trained with.

    All others as in diffusers.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int | None = None,
        in_channels: int = 8,
        out_channels: int = 4,
        down_block_types: tuple[str, ...] = (
            "CrossAttnDownBlockSpatioTemporal",
            "CrossAttnDownBlockSpatioTemporal",
            "CrossAttnDownBlockSpatioTemporal",
            "DownBlockSpatioTemporal",
        ),
        up_block_types: tuple[str, ...] = (
            "UpBlockSpatioTemporal",
            "CrossAttnUpBlockSpatioTemporal",
            "CrossAttnUpBlockSpatioTemporal",
            "CrossAttnUpBlockSpatioTemporal",
        ),
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        addition_time_embed_dim: int = 256,
        projection_class_embeddings_input_dim: int = 768,
        layers_per_block: int | tuple[int, ...] = 2,
        cross_attention_dim: int | tuple[int, ...] = 1024,
        transformer_layers_per_block: int | tuple[int, ...] = 1,
        num_attention_heads: int | tuple[int, ...] = (5, 10, 20, 20),
        num_frames: int = 25,
        resnet_eps: float | None = 1e-5,
        keep_warped: float = 0.0,
    ) -> None:
        if not 0 <= keep_warped < 1:
            raise UserError(f"keep_warped={keep_warped} is a share, at least 0 and below 1")
        super().__init__(
            sample_size=sample_size,
            in_channels=in_channels,
            out_channels=out_channels,
            down_block_types=down_block_types,
            up_block_types=up_block_types,
            block_out_channels=block_out_channels,
            addition_time_embed_dim=addition_time_embed_dim,
            projection_class_embeddings_input_dim=projection_class_embeddings_input_dim,
            layers_per_block=layers_per_block,
            cross_attention_dim=cross_attention_dim,
            transformer_layers_per_block=transformer_layers_per_block,
            num_attention_heads=num_attention_heads,
            num_frames=num_frames,
        )
        self.gradient_checkpointing = False
        if resnet_eps is not None:
            _set_resnet_eps(self, resnet_eps)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        context: Tensor,
        added_time_ids: Tensor,
        mask: Tensor | None,
        attention: AttentionStrategy,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Output of the network F, before the denoiser's preconditioning.

        Args:
            sample: (B, T, in_channels, h, w), h and w multiples of `size_multiple`.
            timestep: (B,) c_noise, see `denoiser`.
            context: (B, T, L, D) embeddings of each frame; spatial cross-attention sees those of its frame,
                temporal cross-attention those of frame 0.
            added_time_ids: (B, 3) fps, motion bucket id, noise augmentation.
            mask: (B, T, 1, h, w) in [-1, 1], > 0 = disoccluded; None where the strategy needs none.
            attention: strategy of the spatial transformer blocks.
            generator: of the strategy's random choices in training; None = the default one.

        Returns:
            (B, T, out_channels, h, w).
        """
        self._check(sample)
        T = sample.shape[1]
        state = _Pass(
            attention,
            context,
            mask,
            self._embed(timestep, added_time_ids, T),
            self.training,
            generator,
            self._run,
        )
        x = self.conv_in(sample.flatten(0, 1))
        skips = [x]
        for block in self.down_blocks:
            for resnet, transformer in _layers(block):
                x = state(x, resnet, transformer)
                skips.append(x)
            for downsample in block.downsamplers or ():
                x = downsample(x)
                skips.append(x)

        first, second = self.mid_block.resnets
        x = state(state(x, first, self.mid_block.attentions[0]), second)

        for block in self.up_blocks:
            for resnet, transformer in _layers(block):
                x = state(torch.cat([x, skips.pop()], dim=1), resnet, transformer)
            for upsample in block.upsamplers or ():
                x = upsample(x)
        x = self.conv_out(self.conv_act(self.conv_norm_out(x)))
        return x.unflatten(0, (-1, T))

    @property
    def size_multiple(self) -> int:
        """The number that latent height and width must be multiples of: 2 for each downsampling."""
        return 2**self.num_upsamplers

    @property
    def dtype(self) -> torch.dtype:
        return self.conv_in.weight.dtype  # diffusers' walks through all modules, several times a step

    def _check(self, sample: Tensor) -> None:
        C, h, w = sample.shape[2:]
        if h % self.size_multiple or w % self.size_multiple:
            raise ValueError(
                f"latent size {h}×{w} must be a multiple of {self.size_multiple}: pad the video, then crop"
            )
        if self.config.in_channels != C:
            raise ValueError(f"the U-Net takes {self.config.in_channels} input channels, got {C}")

    def _embed(self, timestep: Tensor, added_time_ids: Tensor, T: int) -> Tensor:
        """(B·T, E) embedding of the noise level and the time ids."""
        time = self.time_proj(timestep).to(self.dtype)
        added = self.add_time_proj(added_time_ids.flatten()).to(self.dtype)
        emb = self.time_embedding(time) + self.add_embedding(added.unflatten(0, (len(time), -1)).flatten(1))
        return emb.repeat_interleave(T, dim=0)

    def _run(self, function: Callable[..., Tensor], *args: Any) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return self._gradient_checkpointing_func(function, *args)
        return function(*args)


@dataclass
class _Pass:
    """Everything that is the same for all layers of one forward pass."""

    attention: AttentionStrategy
    context: Tensor  # (B, T, L, D)
    mask: Tensor | None
    emb: Tensor  # (B·T, E)
    training: bool
    generator: torch.Generator | None
    run: Callable[..., Tensor]
    selections: dict[tuple[int, int], Selection | None] = field(default_factory=dict)

    def __call__(
        self,
        x: Tensor,
        resnet: SpatioTemporalResBlock,
        transformer: TransformerSpatioTemporalModel | None = None,
    ) -> Tensor:
        """A residual block and, where there is one, its transformer: (B·T, C, h, w) -> (B·T, C', h, w)."""
        images_only = x.new_zeros(self.context.shape[:2])
        x = self.run(resnet, x, self.emb, images_only)
        if transformer is None:
            return x
        # chosen here, outside the checkpointed function, so that recomputation sees the same random choice
        selection = self._select(x.shape[-2:])
        return self.run(_spatio_temporal, transformer, self.attention, x, self.context, selection)

    def _select(self, size: torch.Size) -> Selection | None:
        h, w = size
        if (h, w) not in self.selections:
            self.selections[h, w] = self.attention.select(self.mask, (h, w), self.training, self.generator)
        return self.selections[h, w]


def _spatio_temporal(
    module: TransformerSpatioTemporalModel,
    attention: AttentionStrategy,
    x: Tensor,
    context: Tensor,
    selection: Selection | None,
) -> Tensor:
    """diffusers' spatio-temporal transformer with our spatial attention and a context for each frame.

    x: (B·T, C, h, w); context: (B, T, L, D).
    """
    B, T = context.shape[:2]
    size = x.shape[-2:]
    tokens = module.proj_in(module.norm(x).flatten(2).transpose(1, 2)).unflatten(0, (B, T))  # (B, T, N, C)
    N = tokens.shape[2]
    # each of the N locations is a sequence of T tokens to the temporal blocks
    time_context = context[:, :1].expand(-1, N, -1, -1).flatten(0, 1)  # (B·N, L, D)
    frame = torch.arange(T, device=x.device)
    frame_emb = module.time_pos_embed(module.time_proj(frame).to(tokens.dtype))[:, None]  # (T, 1, C)
    images_only = x.new_zeros((B, T))

    for block, temporal_block in zip(
        module.transformer_blocks, module.temporal_transformer_blocks, strict=True
    ):
        tokens = attention(block, tokens, context, selection)
        mixed = temporal_block((tokens + frame_emb).flatten(0, 1), T, time_context)
        tokens = module.time_mixer(tokens.flatten(0, 1), mixed, images_only).unflatten(0, (B, T))

    out = module.proj_out(tokens.flatten(0, 1)).transpose(1, 2).unflatten(2, size)
    return x + out


def _layers(block: nn.Module) -> zip[tuple[SpatioTemporalResBlock, TransformerSpatioTemporalModel | None]]:
    attentions = getattr(block, "attentions", None) or [None] * len(block.resnets)
    return zip(block.resnets, attentions, strict=True)


def _set_resnet_eps(unet: nn.Module, eps: float) -> None:
    for resnet in unet.modules():
        if isinstance(resnet, SpatioTemporalResBlock):
            for norm in resnet.modules():
                if isinstance(norm, nn.GroupNorm):
                    norm.eps = eps
