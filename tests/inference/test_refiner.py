"""The model on windows and tiles, with a small random one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from m2svid.attention import Disoccluded
from m2svid.convert.stereo import StereoMaker, cross_fade
from m2svid.inference.background import keep_outside, match_color
from m2svid.inference.refiner import ModelRefiner
from m2svid.inference.tiles import plan_tiles
from m2svid.inference.windows import plan
from m2svid.model.conditioning import Conditioning
from m2svid.model.vae import SVDAutoencoder
from m2svid.training.backbone import SmallRandom
from m2svid.video.shots import Shot
from m2svid.warping.mask import close_hole
from tests.model import tiny


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    conditioning = Conditioning(["left", "warped", "mask"])
    return SmallRandom((32,)).build(conditioning, Disoccluded()).eval()


@pytest.fixture(scope="module")
def views():
    generator = torch.Generator().manual_seed(1)
    left = torch.rand(4, 3, 20, 30, generator=generator)
    hole = torch.zeros(4, 1, 20, 30, dtype=torch.bool)
    hole[:, :, 5:12, 10:18] = True
    hole = close_hole(hole)
    return left, left.masked_fill(hole, 0), hole


def test_whole_frames_are_what_the_model_gives_by_itself(model, views):
    ours = ModelRefiner(model, seed=3)(*views, fps=8, known=None)
    theirs = model.refine(*views, fps=8, seed=3)
    torch.testing.assert_close(ours, theirs)


def test_one_tile_is_the_whole_frame_and_many_are_close_to_it(model, views):
    whole = ModelRefiner(model, add_noise=False)(*views, fps=8, known=None)
    one = ModelRefiner(model, tile=32, tile_overlap=0, add_noise=False)(*views, fps=8, known=None)
    torch.testing.assert_close(one, whole)
    many = ModelRefiner(model, tile=16, tile_overlap=8, add_noise=False)(*views, fps=8, known=None)
    assert many.shape == whole.shape
    assert 0 < (many - whole).abs().mean() < 0.2


def test_decoding_in_tiles_that_see_nothing_of_each_other_is_exact(model):
    views = wide_views()
    whole = ModelRefiner(model)(*views, fps=8, known=None)
    tiled = ModelRefiner(model, decode_tile=64, decode_chunk=1)
    torch.testing.assert_close(tiled(*views, fps=8, known=None), whole, atol=1e-6, rtol=0)
    assert "1 frame decoded at a time in tiles of 64 px" in tiled.description


@pytest.fixture(scope="module")
def svd_model():
    torch.manual_seed(0)
    vae = SVDAutoencoder(tiny.vae(), gradient_checkpointing=False)
    conditioning = Conditioning(["left", "warped", "mask"])
    return SmallRandom((32,), autoencoder=vae).build(conditioning, Disoccluded()).eval()


def wide_views():
    generator = torch.Generator().manual_seed(2)
    coarse = torch.rand(2, 3, 12, 20, generator=generator)
    left = F.interpolate(coarse, (100, 168), mode="bicubic").clamp(0, 1)
    return left, left, torch.zeros(2, 1, 100, 168, dtype=torch.bool)


def test_decoding_one_tile_is_decoding_whole_frames(svd_model):
    whole = ModelRefiner(svd_model)(*wide_views(), fps=8, known=None)
    one = ModelRefiner(svd_model, decode_tile=192)(*wide_views(), fps=8, known=None)
    assert torch.equal(one, whole)


def test_tiles_that_are_decoded_join_without_a_seam(svd_model):
    """What they differ by from whole frames has no step at their borders, unlike without overlap."""
    refiner = ModelRefiner(svd_model)
    with torch.no_grad():
        z = svd_model.encode(F.interpolate(wide_views()[0], (128, 192))[None])
        whole = refiner._decode(z, plan_tiles(128, 192, (128, 192), 0))
        seams = {}
        for overlap in (0, 16):
            tiles = plan_tiles(128, 192, (64, 64), overlap)
            off = refiner._decode(z, tiles) - whole
            assert 0 < off.abs().mean() < 0.25 * whole.std()
            step = off.diff(dim=-1).abs().mean((0, 1, 2))
            borders = {tile.left for tile in tiles} | {tile.left + tile.width for tile in tiles}
            seams[overlap] = max(step[x - 1] for x in borders - {0, 192}) / step.median()
    assert seams[16] < 1.3 < 2 < seams[0]


def test_known_frames_are_told_as_known(model, views, monkeypatch):
    seen = []
    condition = model.condition
    monkeypatch.setattr(model, "condition", lambda part, *rest: seen.append(part) or condition(part, *rest))
    known = torch.rand(2, 3, 20, 30)
    ModelRefiner(model)(*views, fps=8, known=known)
    assert seen[0].replaced.tolist() == [[True, True, False, False]]
    torch.testing.assert_close(seen[0].warped[0, :2, :, :20, :30], known)
    torch.testing.assert_close(seen[0].warped[0, 2:, :, :20, :30], views[1][2:])


def test_same_seed_same_view(model, views):
    first, again, other = (
        ModelRefiner(model, noise_aug=0.1, seed=s)(*views, fps=8, known=None) for s in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_cross_fade_by_hand():
    faded = cross_fade(torch.ones(5, 3, 1, 1), torch.zeros(4, 3, 1, 1), fade=3)
    torch.testing.assert_close(faded[:, 0, 0, 0], torch.tensor([0, 0.25, 0.5, 0.75, 1]))


def test_windows_join_without_a_step(model):
    """A refiner that copies the view but is darker in every window, and darker still where it is given what
    was made before: the fade spreads the step, and no frame is made twice."""

    class Darker(ModelRefiner):
        length, overlap = 8, 3

        def __init__(self):
            self.calls = 0

        def __call__(self, left, warped, hole, fps, known):
            self.calls += 1
            made = left.float() / 255 - 0.1 * self.calls
            if known is not None:
                made[: len(known)] = known - 0.5
            return made

    maker = StereoMaker(Darker(), 1.0, "right", "full", False, 8.0, 8)
    frames = [np.full((16, 16, 3), 200, np.uint8)] * 13
    depth = np.zeros((8, 16, 16), np.float32)
    emitted, known = [], None
    for window in plan([Shot(0, 0, 13)], 8, 3):
        made = maker(window, frames[window.start : window.stop], depth, known)
        emitted.append(made[0, window.emit_start - window.start : window.emit_stop - window.start])
        known = made[:, -3:]
    levels = np.concatenate(emitted)[:, 0, 0, 0].astype(int)
    assert len(levels) == 13
    assert np.abs(np.diff(levels)).max() <= 9  # a third of the step of 25.5


def test_keep_outside_changes_nothing_far_from_holes():
    right, warped = torch.ones(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)
    hole = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    hole[..., 28:36, 28:36] = True
    kept = keep_outside(right, warped, hole)
    assert (kept[:, :, 28:36, 28:36] == 1).all()
    assert (kept[:, :, :17] == 0).all() and (kept[..., :17] == 0).all()
    row = kept[0, 0, 32, :32]
    assert (row.diff() >= 0).all() and row.diff().max() < 0.2  # soft


def test_match_color_undoes_gain_and_offset():
    generator = torch.Generator().manual_seed(0)
    warped = torch.rand(2, 3, 32, 32, generator=generator) * 0.5 + 0.2
    hole = torch.zeros(2, 1, 32, 32, dtype=torch.bool)
    hole[..., :8] = True
    gain, offset = (
        torch.tensor([0.8, 1.1, 0.9])[:, None, None],
        torch.tensor([0.05, -0.02, 0.0])[:, None, None],
    )
    torch.testing.assert_close(match_color(warped * gain + offset, warped.masked_fill(hole, 0), hole), warped)
