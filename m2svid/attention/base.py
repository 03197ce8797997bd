"""Base of the spatial attention strategies.

A strategy decides which tokens a token of a spatial transformer block sees; it has no parameters, so one
checkpoint runs with any of them.

Shapes: B clips, T frames, N tokens a frame, L context embeddings a frame, C channels, Q queries,
M disoccluded tokens of a clip (the most of any clip in the batch), K disoccluded tokens of the batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from torch import Tensor

from m2svid.described import Described


@dataclass(frozen=True)
class Selection:
    """The disoccluded tokens of a batch at one resolution, padded to the clip that has most of them.

    Attributes:
        gather_index: (B·M,) rows of the batch's B·T·N tokens; a clip with fewer than M is padded with its
            token 0.
        valid: (K,) those of the B·M gathered rows that are no padding.
        target: (K,) the token that each valid row belongs to.
    """

    gather_index: Tensor
    valid: Tensor
    target: Tensor

    @classmethod
    def from_mask(cls, selected: Tensor) -> Selection | None:
        """Selection of the tokens where `selected` (B, T·N), bool, is True; None where no token is."""
        B, tokens = selected.shape
        clip, position = selected.nonzero(as_tuple=True)
        if clip.numel() == 0:
            return None
        M = int(selected.sum(dim=1).max())
        rank = selected.cumsum(dim=1)[clip, position] - 1
        valid = clip * M + rank
        target = clip * tokens + position
        first = torch.arange(B, device=selected.device).mul(tokens).repeat_interleave(M)
        return cls(first.index_copy(0, valid, target), valid, target)

    def gather(self, tokens: Tensor) -> Tensor:
        """The selected tokens of each clip: (B, T, N, C) -> (B, M, C)."""
        return tokens.flatten(0, 2).index_select(0, self.gather_index).unflatten(0, (len(tokens), -1))

    def replace(self, tokens: Tensor, by: Tensor) -> Tensor:
        """`tokens` (B, T, N, C) with the selected ones replaced by `by` (B, M, C); padding is left out."""
        rows = by.flatten(0, 1).index_select(0, self.valid)
        return tokens.flatten(0, 2).index_copy(0, self.target, rows).view_as(tokens)


class AttentionStrategy(Described, ABC):
    """Which tokens attend to which in the spatial transformer blocks.

    An own strategy needs no registration: its class path in YAML is enough, and the model card of its
    checkpoints names it by class path and arguments, which must be plain data.
    """

    def select(
        self,
        mask: Tensor | None,
        size: tuple[int, int],
        training: bool,
        generator: torch.Generator | None = None,
    ) -> Selection | None:
        """Choose the tokens that get special treatment; called once per resolution and forward pass.

        Args:
            mask: (B, T, 1, h0, w0) in [-1, 1], > 0 = disoccluded, or None.
            size: (h, w) of the block's tokens, N = h·w.
            training: whether the cap on the number of tokens holds.
            generator: of the random choice under the cap; None = the default one.
        """
        del mask, size, training, generator
        return None

    def __call__(
        self, block: BasicTransformerBlock, x: Tensor, context: Tensor, selection: Selection | None
    ) -> Tensor:
        """Output of a spatial transformer block.

        Args:
            block: a diffusers block with self-attention, cross-attention and feed-forward.
            x: (B, T, N, C) tokens as they enter the block.
            context: (B, T, L, D) embeddings of the frames.
            selection: what `select` returned for this resolution.

        Returns:
            (B, T, N, C) tokens.
        """
        normed = block.norm1(x)
        x = x + project_out(block.attn1, self.attend(block.attn1, normed, normed, x, selection))
        normed = block.norm2(x)
        x = x + project_out(block.attn2, self.attend(block.attn2, normed, context, context, selection))
        return x + block.ff(block.norm3(x))

    @abstractmethod
    def attend(
        self, attn: Attention, x: Tensor, own_frame: Tensor, all_frames: Tensor, selection: Selection | None
    ) -> Tensor:
        """Attention of normalised tokens `x` (B, T, N, C), before the output projection.

        Keys and values come from `own_frame` (B, T, L, D), each frame from its own, where attention stays in
        the frame, and from all frames of `all_frames` (B, T, L, D) where it doesn't.
        """


def within_frames(attn: Attention, query: Tensor, source: Tensor) -> Tensor:
    """Projected queries (B, T, Q, C) over `source` (B, T, L, D) of the same frame -> (B, T, Q, C)."""
    return _attention(attn, query.flatten(0, 1), source.flatten(0, 1)).view_as(query)


def over_frames(attn: Attention, query: Tensor, source: Tensor) -> Tensor:
    """Projected queries (B, Q, C) over `source` (B, T, L, D) of all frames -> (B, Q, C)."""
    return _attention(attn, query, source.flatten(1, 2))


def project_out(attn: Attention, x: Tensor) -> Tensor:
    linear, dropout = attn.to_out
    return dropout(linear(x))


def _attention(attn: Attention, query: Tensor, source: Tensor) -> Tensor:
    def split_heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

    key, value = attn.to_k(source), attn.to_v(source)
    out = F.scaled_dot_product_attention(split_heads(query), split_heads(key), split_heads(value))
    return out.transpose(1, 2).flatten(2)
