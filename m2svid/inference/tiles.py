"""Tiles over space: a frame of any size cut into pieces that a network takes.

Shapes: H W of a frame, in pixels or in positions of its latents. Tiles overlap. The U-Net's are blended in
latent space, before decoding (paper, Appendix E); the decoder's, where there are any, as pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

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

    def grown(self, scale: int) -> Tile:
        """The same tile of pixels, of which each position is `scale` along each side."""
        return Tile(*(side * scale for side in (self.top, self.left, self.height, self.width)))


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
