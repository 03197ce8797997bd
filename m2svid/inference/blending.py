"""Joining results softly: over frames, over tiles, and around holes.

Shapes: T frames, K of them shared, H W of a frame, in pixels or in positions of its latents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from m2svid.inference.tiles import Tile
from m2svid.warping.mask import dilate

_SOFT = 5  # px around a hole over which original and refined pixels are joined


def cross_fade(earlier: Tensor, later: Tensor, share: Tensor) -> Tensor:
    """A window after the one before it.

    Args:
        earlier: (K, ...), the frames that both have, as the earlier one made them.
        later: (T, ...), T ≥ K.
        share: (K,) of the later one in each of those, in [0, 1].

    Returns:
        (T, ...).
    """
    shared = later[: len(earlier)]
    share = share.to(later).reshape(-1, *[1] * (later.ndim - 1))
    return torch.cat([earlier + (shared - earlier) * share, later[len(earlier) :]])


def blend(tiles: list[Tile], parts: Iterator[Tensor | None]) -> Tensor:
    """Join tiles to the whole frame on the CPU; what they share is cross-faded linearly.

    Args:
        tiles: of a frame, all of one size, in the units of what is blended.
        parts: (..., tile H, tile W) in the order of the tiles; taken one by one, none is kept. None = the
            tile is left out.

    Returns:
        (..., H, W), 0 where no tile is.
    """

    def weight(tile: Tile) -> Tensor:
        rows = _ramp(tile.top, tile.height, {other.top for other in tiles})
        return rows[:, None] * _ramp(tile.left, tile.width, {other.left for other in tiles})

    height = max(tile.top + tile.height for tile in tiles)
    width = max(tile.left + tile.width for tile in tiles)
    found = ((tile, part) for tile, part in zip(tiles, parts, strict=True) if part is not None)
    return _sum(found, weight, height, width)


def join(tiles: list[Tile], parts: Iterator[Tensor], height: int, width: int, margin: int) -> Tensor:
    """Put rectangles of any size into a frame on the CPU; they fade out over a margin, where others go on.

    Args:
        tiles: of the frame.
        parts: (..., tile H, tile W) in the order of the tiles.
        height: of the frame.
        width: of the frame.
        margin: of each tile, but for the borders of the frame.

    Returns:
        (..., height, width), 0 where no tile is.
    """

    def edge(start: int, size: int, length: int) -> Tensor:
        place = (torch.arange(size) + 0.5) / margin
        before = place if start else torch.ones(size)
        after = place.flip(0) if start + size < length else torch.ones(size)
        return torch.minimum(before, after).clamp(max=1)

    def weight(tile: Tile) -> Tensor:
        return edge(tile.top, tile.height, height)[:, None] * edge(tile.left, tile.width, width)

    return _sum(zip(tiles, parts, strict=True), weight, height, width)


def _sum(
    parts: Iterable[tuple[Tile, Tensor]], weight_of: Callable[[Tile], Tensor], height: int, width: int
) -> Tensor:
    """The weighted mean at each place of the tiles that are there."""
    total = weights = None
    for tile, moved in parts:
        part = moved.cpu()
        if (tile.height, tile.width) == (height, width):
            return part
        if total is None or weights is None:
            total = part.new_zeros(*part.shape[:-2], height, width)
            weights = part.new_zeros(height, width)
        weight = weight_of(tile).to(part)
        tile.crop(total).add_(part * weight)
        tile.crop(weights).add_(weight)
    assert total is not None and weights is not None  # callers leave out some tiles, not all
    return total.div_(weights.masked_fill_(weights == 0, 1))


def _ramp(start: int, size: int, starts: set[int]) -> Tensor:
    """1 inside, falling linearly to the tile's borders over what it shares with its neighbours."""
    before = max((other for other in starts if other < start), default=None)
    after = min((other for other in starts if other > start), default=None)
    place = torch.arange(size) + 0.5
    ramp = torch.ones_like(place)
    if before is not None:
        ramp = torch.minimum(ramp, place / (before + size - start))
    if after is not None:
        ramp = torch.minimum(ramp, (size - place) / (start + size - after))
    return ramp


def around_holes(hole: Tensor) -> Tensor:
    """Where `keep_outside` takes anything of the refined view: (..., H, W) bool, as `hole`."""
    return dilate(hole, 4 * _SOFT + 1)


def keep_outside(right: Tensor, warped: Tensor, hole: Tensor) -> Tensor:
    """Keep the warped view's own pixels outside holes, softly joined with the refined ones inside.

    Args:
        right: (T, 3, H, W) refined.
        warped: (T, 3, H, W), of the same dtype and range.
        hole: (T, 1, H, W) bool.
    """
    grown = dilate(hole, 2 * _SOFT + 1).float()
    soft = F.avg_pool2d(F.pad(grown, (_SOFT,) * 4, mode="replicate"), 2 * _SOFT + 1, stride=1)
    alpha = torch.where(hole, 1.0, soft)
    return warped + (right - warped) * alpha


def match_color(right: Tensor, warped: Tensor, hole: Tensor) -> Tensor:
    """Give the refined view the colours of the left one, whose pixels the warped view shows.

    One gain and one offset a channel for the whole window, so that nothing flickers; from the mean and the
    spread of what both views show outside the holes.

    Args:
        right: (T, 3, H, W) in [0, 1], refined.
        warped: (T, 3, H, W) in [0, 1].
        hole: (T, 1, H, W) bool.
    """
    seen = ~hole
    count = seen.sum().clamp(min=1)

    def moments(video: Tensor) -> tuple[Tensor, Tensor]:
        mean = (video * seen).sum((0, 2, 3), keepdim=True) / count
        variance = (((video - mean) * seen) ** 2).sum((0, 2, 3), keepdim=True) / count
        return mean, variance.sqrt()

    mean, spread = moments(right)
    wanted_mean, wanted_spread = moments(warped)
    gain = (wanted_spread / spread.clamp(min=1e-4)).clamp(0.5, 2)
    return ((right - mean) * gain + wanted_mean).clamp(0, 1)
