"""Parts of frames that hold all that is needed of them.

Shapes: H W of a frame, in pixels or in positions of its latents, n boxes: top, left, bottom, right.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from m2svid.inference.tiles import Tile


def shrink(area: Tensor, size: int) -> Tensor:
    """(H, W) bool -> that of positions which stand for `size` × `size` others, True where any of them is."""
    return F.max_pool2d(area[None, None].float(), size, ceil_mode=True)[0, 0] > 0


def cover(area: Tensor, margin: int, worthwhile: float = 1) -> list[Tile]:
    """Rectangles that cover an area and a margin around it; the whole frame where they would save too little.

    They begin as runs of small cells and are joined in pairs as long as that makes less to decode.

    Args:
        area: (H, W) bool, not empty.
        margin: of each rectangle; where the frame ends before it, so does the rectangle.
        worthwhile: share of the frame that the rectangles may have together.
    """
    end = torch.tensor(area.shape)
    cell = max(4, int(end.max()) // 32)
    boxes = _runs(shrink(area, cell)) * cell
    while len(boxes) > 1:
        low = torch.minimum(boxes[:, None, :2], boxes[:, :2])
        joined = torch.cat([low, torch.maximum(boxes[:, None, 2:], boxes[:, 2:])], dim=-1)  # (n, n, 4)
        alone = _padded(boxes, margin, end)[..., 2:].prod(-1)
        gain = alone[:, None] + alone - _padded(joined, margin, end)[..., 2:].prod(-1)
        best = int(gain.fill_diagonal_(-1).argmax())
        if gain.flatten()[best] < 0:
            break
        pair = divmod(best, len(boxes))
        others = [place for place in range(len(boxes)) if place not in pair]
        boxes = torch.cat([boxes[others], joined[pair][None]])
    tiles = [Tile(*box) for box in _padded(boxes, margin, end).tolist()]
    if sum(tile.height * tile.width for tile in tiles) > worthwhile * area.numel():
        return [Tile(0, 0, *area.shape)]
    return tiles


def _padded(boxes: Tensor, margin: int, end: Tensor) -> Tensor:
    """Top, left, height and width with the margin."""
    start = (boxes[..., :2] - margin).clamp(min=0)
    return torch.cat([start, torch.minimum(boxes[..., 2:] + margin, end) - start], dim=-1)


def _runs(cells: Tensor) -> Tensor:
    """(n, 4) boxes of the runs of True in each row."""
    edges = F.pad(cells.int(), (1, 1)).diff(dim=1)
    top, left = (edges == 1).nonzero(as_tuple=True)
    right = (edges == -1).nonzero()[:, 1]
    return torch.stack([top, left, top + 1, right], dim=1)
