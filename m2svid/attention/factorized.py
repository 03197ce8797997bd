"""Attention within each frame, as in Stable Video Diffusion: the baseline of the paper's Table 4."""

from __future__ import annotations

from diffusers.models.attention_processor import Attention
from torch import Tensor

from m2svid.attention.base import AttentionStrategy, Selection, within_frames


class Factorized(AttentionStrategy):
    """Every token sees its own frame; frames meet in the temporal blocks only."""

    def attend(
        self, attn: Attention, x: Tensor, own_frame: Tensor, all_frames: Tensor, selection: Selection | None
    ) -> Tensor:
        del all_frames, selection
        return within_frames(attn, attn.to_q(x), own_frame)
