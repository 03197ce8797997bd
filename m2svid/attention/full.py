"""Attention of every token over the whole clip: the upper bound, quadratic in the number of frames."""

from __future__ import annotations

from diffusers.models.attention_processor import Attention
from torch import Tensor

from m2svid.attention.base import AttentionStrategy, Selection, over_frames


class Full(AttentionStrategy):
    """Every token sees all frames, keys and values not layer-normed, as `Disoccluded` does for its tokens."""

    def attend(
        self, attn: Attention, x: Tensor, own_frame: Tensor, all_frames: Tensor, selection: Selection | None
    ) -> Tensor:
        del own_frame, selection
        return over_frames(attn, attn.to_q(x).flatten(1, 2), all_frames).view_as(x)
