"""Tiles over space: what is blended from crops of a latent is that latent."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from m2svid.errors import UserError
from m2svid.inference.blending import blend
from m2svid.inference.tiles import Tile, plan_tiles


@pytest.mark.parametrize(("height", "width"), [(512, 512), (576, 1024), (1088, 1920), (64, 4096)])
def test_blending_crops_gives_the_whole_back(height, width):
    tiles = plan_tiles(height, width, (512, 512), 128)
    z = torch.randn(2, 4, height // 8, width // 8, dtype=torch.float64)
    crops = (
        z[..., t.top // 8 : (t.top + t.height) // 8, t.left // 8 : (t.left + t.width) // 8] for t in tiles
    )
    torch.testing.assert_close(blend([tile.shrunk(8) for tile in tiles], crops), z)
    video = torch.rand(1, height, width, dtype=torch.float64)
    torch.testing.assert_close(blend(tiles, (tile.crop(video) for tile in tiles)), video)


def test_neighbours_share_at_least_the_overlap_and_tiles_are_alike():
    tiles = plan_tiles(1088, 1920, (512, 512), 128)
    assert {(t.height, t.width) for t in tiles} == {(512, 512)}
    lefts = sorted({t.left for t in tiles})
    assert lefts[0] == 0 and lefts[-1] == 1920 - 512
    assert all(before + 512 - after >= 128 for before, after in pairwise(lefts))
    assert all(t.left % 8 == t.top % 8 == 0 for t in tiles)


def test_overlap_fades_linearly_from_one_tile_to_the_next():
    tiles = [Tile(0, 0, 8, 64), Tile(0, 32, 8, 64)]
    blended = blend([tile.shrunk(8) for tile in tiles], iter([torch.zeros(1, 8), torch.ones(1, 8)]))
    expected = torch.tensor([[0, 0, 0, 0, 1 / 8, 3 / 8, 5 / 8, 7 / 8, 1, 1, 1, 1]])
    torch.testing.assert_close(blended, expected)


def test_small_frame_is_one_tile():
    assert plan_tiles(192, 256, (512, 512), 128) == [Tile(0, 0, 192, 256)]


def test_overlap_must_be_smaller_than_a_tile():
    with pytest.raises(UserError, match="--tile-overlap"):
        plan_tiles(512, 512, (128, 128), 128)
