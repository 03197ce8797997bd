"""Tiles over space: how a frame of any size is refined by a model that takes smaller ones.

Shapes: H W pixels, h w latent. Tiles overlap and are blended in latent space, before decoding (paper,
Appendix E).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from m2svid.errors import UserError


@dataclass(frozen=True)
class Tile:
    """A rectangle of a frame, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def crop(self, video: Tensor) -> Tensor:
        """The tile of a video (..., H, W)."""
        return video[..., self.top : self.top + self.height, self.left : self.left + self.width]


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


class Blend:
    """Adds latents of tiles up to one of the whole frame; overlaps are cross-faded linearly.

    Args:
        tiles: of a frame.
        downscale: pixels a latent position stands for, along each side.
    """

    def __init__(self, tiles: list[Tile], downscale: int) -> None:
        self._tiles = tiles
        self._scale = downscale

    def __call__(self, latents: Iterator[Tensor]) -> Tensor:
        """(..., h, w) of the frame from the latents (..., tile h, tile w), in the order of the tiles."""
        height = max(tile.top + tile.height for tile in self._tiles) // self._scale
        width = max(tile.left + tile.width for tile in self._tiles) // self._scale
        total = weights = None
        for tile, latent in zip(self._tiles, latents, strict=True):
            if total is None or weights is None:
                total = latent.new_zeros(*latent.shape[:-2], height, width)
                weights = latent.new_zeros(height, width)
            weight = self._weight(tile, latent)
            area = Tile(*(side // self._scale for side in (tile.top, tile.left, tile.height, tile.width)))
            area.crop(total).add_(latent * weight)
            area.crop(weights).add_(weight)
        return total / weights

    def _weight(self, tile: Tile, latent: Tensor) -> Tensor:
        rows = self._ramp(tile.top, tile.height, {other.top for other in self._tiles})
        columns = self._ramp(tile.left, tile.width, {other.left for other in self._tiles})
        return (rows[:, None] * columns[None]).to(latent)

    def _ramp(self, start: int, size: int, starts: set[int]) -> Tensor:
        """1 inside, falling linearly to the tile's borders over what it shares with its neighbours."""
        before = max((other for other in starts if other < start), default=None)
        after = min((other for other in starts if other > start), default=None)
        place = torch.arange(size // self._scale) + 0.5
        ramp = torch.ones_like(place)
        if before is not None:
            ramp = torch.minimum(ramp, place / ((before + size - start) / self._scale))
        if after is not None:
            ramp = torch.minimum(ramp, (len(place) - place) / ((start + size - after) / self._scale))
        return ramp
