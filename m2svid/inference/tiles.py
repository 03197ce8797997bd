"""Tiles over space: how a frame of any size goes through a network that takes smaller ones.

Shapes: H W of a frame, in pixels or in positions of its latents. Tiles overlap. The U-Net's are blended in
latent space, before decoding (paper, Appendix E); the decoder's, where there are any, as pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from m2svid.errors import UserError


@dataclass(frozen=True)
class Tile:
    """A rectangle of a frame."""

    top: int
    left: int
    height: int
    width: int

    def crop(self, video: Tensor) -> Tensor:
        """The tile of a video (..., H, W)."""
        return video[..., self.top : self.top + self.height, self.left : self.left + self.width]

    def shrunk(self, downscale: int) -> Tile:
        """The same tile of latents, each of which stands for `downscale` pixels along each side."""
        return Tile(*(side // downscale for side in (self.top, self.left, self.height, self.width)))


def plan_tiles(height: int, width: int, size: tuple[int, int], overlap: int) -> list[Tile]:
    """Tiles that cover a frame, evenly spread.

    Args:
        height: of the frame; it and all other numbers are multiples of what the model takes.
        width: of the frame.
        size: height and width of a tile; a frame that is smaller has smaller tiles.
        overlap: pixels that neighbours share at least.

    Raises:
        UserError: the overlap is not smaller than the tile.
    """
    if not 0 <= overlap < min(size):
        raise UserError(f"--tile-overlap must be from 0 to less than --tile = {min(size)}, not {overlap}")
    rows = _starts(height, size[0], overlap)
    columns = _starts(width, size[1], overlap)
    tile_height, tile_width = min(size[0], height), min(size[1], width)
    return [Tile(top, left, tile_height, tile_width) for top in rows for left in columns]


def _starts(length: int, size: int, overlap: int, step: int = 8) -> list[int]:
    if length <= size:
        return [0]
    count = -(-(length - overlap) // (size - overlap))
    return [round(place * (length - size) / (count - 1) / step) * step for place in range(count)]


def blend(tiles: list[Tile], parts: Iterator[Tensor]) -> Tensor:
    """Joins tiles to the whole frame on the CPU; what they share is cross-faded linearly.

    Args:
        tiles: of a frame, all of one size, in the units of what is blended.
        parts: (..., tile H, tile W) in the order of the tiles; taken one by one, none is kept.

    Returns:
        (..., H, W).
    """
    if len(tiles) == 1:
        return next(parts).cpu()
    height = max(tile.top + tile.height for tile in tiles)
    width = max(tile.left + tile.width for tile in tiles)
    total = weights = None
    for tile, moved in zip(tiles, parts, strict=True):
        part = moved.cpu()
        if total is None or weights is None:
            total = part.new_zeros(*part.shape[:-2], height, width)
            weights = part.new_zeros(height, width)
        rows = _ramp(tile.top, tile.height, {other.top for other in tiles})
        columns = _ramp(tile.left, tile.width, {other.left for other in tiles})
        weight = (rows[:, None] * columns).to(part)
        tile.crop(total).add_(part * weight)
        tile.crop(weights).add_(weight)
    return total.div_(weights)


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
