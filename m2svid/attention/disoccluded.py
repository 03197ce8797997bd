"""Full attention for disoccluded tokens, attention within the frame for all others (paper, Section 5.3).

Shapes: B clips, T frames, N tokens a frame, M disoccluded tokens of a clip, C channels.
"""

from __future__ import annotations

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor

from m2svid.attention.base import AttentionStrategy, Selection, over_frames, within_frames
from m2svid.errors import UserError
from m2svid.warping.mask import disoccluded


class Disoccluded(AttentionStrategy):
    """A disoccluded token sees all frames, any other its own; what is hidden here may be visible elsewhere.

    Keys and values over all frames are made from tokens that are not layer-normed, as in the released
    weights. Everything that works on single tokens (norms, query and output projections, feed-forward) runs
    once for all tokens; only the attention result of the disoccluded ones is replaced. With no disoccluded
    token the output is bit for bit that of `Factorized`.

    Args:
        max_train_tokens_per_frame: in training, at most this number times T disoccluded tokens of a clip,
            drawn at random, get full attention; bounds memory. None = all. Inference always takes all.
    """

    def __init__(self, max_train_tokens_per_frame: int | None = 512) -> None:
        if max_train_tokens_per_frame is not None and max_train_tokens_per_frame < 1:
            raise UserError(
                f"max_train_tokens_per_frame={max_train_tokens_per_frame} must be at least 1, "
                "or null for no limit"
            )
        self.max_train_tokens_per_frame = max_train_tokens_per_frame

    def select(
        self,
        mask: Tensor | None,
        size: tuple[int, int],
        training: bool,
        generator: torch.Generator | None = None,
    ) -> Selection | None:
        if mask is None:
            raise ValueError("Disoccluded attention needs the hole mask")
        selected = disoccluded(mask, size).flatten(1)
        if training and self.max_train_tokens_per_frame is not None:
            selected = _at_most(selected, self.max_train_tokens_per_frame * mask.shape[1], generator)
        return Selection.from_mask(selected)

    def attend(
        self, attn: Attention, x: Tensor, own_frame: Tensor, all_frames: Tensor, selection: Selection | None
    ) -> Tensor:
        query = attn.to_q(x)
        out = within_frames(attn, query, own_frame)
        if selection is None:
            return out
        return selection.replace(out, over_frames(attn, selection.gather(query), all_frames))


def _at_most(selected: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """`selected` (B, T·N) with at most `count` True in a row, the kept ones drawn uniformly."""
    if count >= selected.shape[1]:
        return selected
    device = generator.device if generator is not None else selected.device
    order = torch.rand(selected.shape, generator=generator, device=device).to(selected.device)
    kept = order.masked_fill(~selected, -1.0).topk(count, dim=1).indices
    return selected & torch.zeros_like(selected).scatter(1, kept, True)
