"""The attention of one token: the weights of its self-attention over all frames, under any strategy.

Shapes: B clips, T frames, h w size of a block's tokens, N = h·w, C channels.
"""

from __future__ import annotations

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from m2svid.attention.base import AttentionStrategy, Selection


class Probe(AttentionStrategy):
    """A strategy that also records what one token attends to, as in the paper's Figures 6 and 10 to 12.

    Set it as a model's `attention` and predict; the prediction is the strategy's own. A token's output is a
    weighted sum of values, so its weights are the derivatives of the output by the values. This needs no
    knowledge of the keys that a strategy takes, and holds for every strategy.

    Args:
        strategy: the strategy to watch.
        frame: frame of the token, in the batch's first clip.
        y: vertical position of the token in the picture, in [0, 1).
        x: horizontal position, in [0, 1).

    Attributes:
        maps: weights (T, h, w), mean over the heads, of sum 1; one of each spatial block that ran, in order.
    """

    def __init__(self, strategy: AttentionStrategy, frame: int, y: float, x: float) -> None:
        self.strategy = strategy
        self.frame, self.y, self.x = frame, y, x
        self.maps: list[Tensor] = []
        self._sizes: dict[int, tuple[int, int]] = {}  # by number of tokens

    def select(
        self,
        mask: Tensor | None,
        size: tuple[int, int],
        training: bool,
        generator: torch.Generator | None = None,
    ) -> Selection | None:
        self._sizes[size[0] * size[1]] = size
        return self.strategy.select(mask, size, training, generator)

    def __call__(
        self, block: BasicTransformerBlock, x: Tensor, context: Tensor, selection: Selection | None
    ) -> Tensor:
        values: list[Tensor] = []

        def keep(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
            values.append(output.detach().requires_grad_())
            return values[-1]

        h, w = self._sizes[x.shape[2]]
        token = int(self.y * h) * w + int(self.x * w)
        hook = block.attn1.to_v.register_forward_hook(keep)
        try:
            with torch.enable_grad():
                normed = block.norm1(x)
                out = self.strategy.attend(block.attn1, normed, normed, x, selection)
                by_value = torch.autograd.grad(out[0, self.frame, token].sum(), values, allow_unused=True)
        finally:
            hook.remove()
        shape = (*x.shape[:2], h, w, -1)  # whether the values lie by frame or by clip
        self.maps.append(sum(each.view(shape)[0].mean(-1) for each in by_value if each is not None))
        return self.strategy(block, x, context, selection)

    def attend(
        self, attn: Attention, x: Tensor, own_frame: Tensor, all_frames: Tensor, selection: Selection | None
    ) -> Tensor:
        return self.strategy.attend(attn, x, own_frame, all_frames, selection)
