"""The model on clips of any size, whole and in tiles, with small random ones."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from m2svid.attention import Disoccluded
from m2svid.batch import StereoBatch
from m2svid.convert.stereo import RightView
from m2svid.errors import UserError
from m2svid.inference import refiner as refiner_module
from m2svid.inference.blending import cross_fade, keep_outside, match_color
from m2svid.inference.inpainter import BackgroundFill
from m2svid.inference.memory import Plan
from m2svid.inference.refiner import Refiner
from m2svid.inference.windows import plan_windows
from m2svid.model.conditioning import Conditioning
from m2svid.model.m2svid import M2SVid
from m2svid.model.vae import SVDAutoencoder
from m2svid.training.backbone import SmallRandom
from m2svid.video.shots import Shot
from m2svid.warping.mask import blacken, close_hole
from m2svid.warping.splat import warp
from m2svid.warping.view import warp_view
from m2svid.weights.load import load
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


@pytest.fixture(scope="module")
def published(folder) -> M2SVid:
    """A small model of the published kind, which takes multiples of 64 px."""
    return load(folder)


@pytest.fixture(scope="module")
def clip():
    random = torch.Generator().manual_seed(0)
    left, warped = torch.rand(2, 2, 3, 70, 100, generator=random)
    return left, warped, torch.rand(2, 1, 70, 100, generator=random) > 0.8


def test_size_that_fits_is_predict(published, clip):
    """Without padding, it is closing, blackening and predict."""
    left, warped, hole = (view[..., :64, :64] for view in clip)
    closed = close_hole(hole)
    batch = StereoBatch(left[None], blacken(warped, closed)[None], closed[None], fps=torch.tensor([8.0]))
    expected = published.predict(batch, noise_aug=0.1, generator=torch.Generator().manual_seed(3))
    right = Refiner(published, noise_aug=0.1, seed=3)(left, warped, hole, fps=8)
    torch.testing.assert_close(right, expected[0])


def test_any_size_is_padded_with_its_border(published, clip):
    left, warped, hole = clip
    right = Refiner(published, add_noise=False)(left, warped, hole, fps=8)
    assert right.shape == left.shape
    assert right.min() >= 0 and right.max() <= 1
    closed = close_hole(hole)

    def by_hand(view):
        view = torch.cat([view, view[..., -1:].expand(-1, -1, -1, 128 - 100)], dim=-1)
        return torch.cat([view, view[..., -1:, :].expand(-1, -1, 128 - 70, -1)], dim=-2)[None]

    views = (by_hand(left), by_hand(blacken(warped, closed)), by_hand(closed))
    expected = published.predict(StereoBatch(*views, fps=torch.tensor([8.0])), add_noise=False)
    torch.testing.assert_close(right, expected[0, ..., :70, :100])


def test_seed_and_noise(published, clip):
    clip = [view[..., :64, :64] for view in clip]
    first = Refiner(published, seed=1)(*clip, fps=8)
    assert torch.equal(Refiner(published, seed=1)(*clip, fps=8), first)
    assert not torch.equal(Refiner(published, seed=2)(*clip, fps=8), first)
    clean = Refiner(published, seed=1, add_noise=False)(*clip, fps=8)
    assert torch.equal(Refiner(published, seed=2, add_noise=False)(*clip, fps=8), clean)
    # without noise the model is still told its level
    told = Refiner(published, noise_aug=0.5, add_noise=False)(*clip, fps=8)
    assert not torch.equal(told, clean)


def test_bytes_and_chunks(published, clip):
    clip = [view[..., :64, :64] for view in clip]
    bytes_ = [(view * 255).round().byte() for view in clip[:2]]
    floats = [view.float() / 255 for view in bytes_]
    whole = Refiner(published)(*floats, clip[2], fps=8)
    assert torch.equal(Refiner(published)(*bytes_, clip[2], fps=8), whole)
    assert torch.equal(Refiner(published, decode_chunk=2)(*floats, clip[2], fps=8), whole)


def test_wrong_clips_are_refused(published, clip):
    left, warped, hole = clip
    refiner = Refiner(published)
    with pytest.raises(UserError, match="hole must be bool"):
        refiner(left, warped, hole.float(), fps=8)
    with pytest.raises(UserError, match="warped must be"):
        refiner(left, warped[1:], hole, fps=8)
    with pytest.raises(UserError, match="up to 25 frames"):
        refiner(*(view.repeat(13, 1, 1, 1) for view in clip), fps=8)


def test_one_tile_is_the_whole_frame_and_many_are_close_to_it(model, views):
    whole = Refiner(model, add_noise=False)(*views, fps=8)
    one = Refiner(model, tile=32, tile_overlap=0, add_noise=False)(*views, fps=8)
    torch.testing.assert_close(one, whole)
    many = Refiner(model, tile=16, tile_overlap=8, add_noise=False)(*views, fps=8)
    assert many.shape == whole.shape
    assert 0 < (many - whole).abs().mean() < 0.2


def test_decoding_in_tiles_that_see_nothing_of_each_other_is_exact(model):
    views = wide_views()
    whole = Refiner(model)(*views, fps=8)
    tiled = Refiner(model, decode_tile=64, decode_chunk=1)
    torch.testing.assert_close(tiled(*views, fps=8), whole, atol=1e-6, rtol=0)
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
    whole = Refiner(svd_model)(*wide_views(), fps=8)
    one = Refiner(svd_model, decode_tile=192)(*wide_views(), fps=8)
    assert torch.equal(one, whole)


def test_tiles_that_are_decoded_join_without_a_seam(svd_model):
    """Their difference to whole frames has no step at their borders, unlike tiles side by side."""
    clip_model = Refiner(svd_model)._clip
    z = svd_model.encode(F.interpolate(wide_views()[0], (128, 192))[None])
    whole = clip_model.decode(z)
    joined = clip_model._decode(z, None, Plan(25, 0, 25, 64))  # tiles of 64 px that share 16
    halves = z.split(32, dim=-1)  # the same without
    apart = torch.cat([clip_model._decode(half, None, Plan(25, 0, 25)) for half in halves], dim=-1)
    seams = {}
    for name, frames, borders in (
        ("joined", joined, {0, 40, 48, 64, 88, 104, 112, 128, 152} - {0}),
        ("apart", apart, {64, 128}),
    ):
        off = frames - whole
        assert 0 < off.abs().mean() < 0.25 * whole.std()
        step = off.diff(dim=-1).abs().mean((0, 1, 2))
        seams[name] = max(step[x - 1] for x in borders) / step.median()
    assert seams["joined"] < 1.3 < 2 < seams["apart"]


def test_known_frames_are_told_as_known(model, views, monkeypatch):
    seen = []
    condition = model.condition
    monkeypatch.setattr(model, "condition", lambda part, *rest: seen.append(part) or condition(part, *rest))
    known = torch.rand(2, 3, 20, 30)
    Refiner(model)(*views, fps=8, known=known)
    assert seen[0].replaced.tolist() == [[True, True, False, False]]
    torch.testing.assert_close(seen[0].warped[0, :2, :, :20, :30], known)
    torch.testing.assert_close(seen[0].warped[0, 2:, :, :20, :30], views[1][2:])


def test_known_frames_keep_their_pixels_where_holes_are(model, views, monkeypatch):
    """Frames that are known have no hole: closing and blackening leave them alone, wherever they are."""
    seen = []
    condition = model.condition
    monkeypatch.setattr(model, "condition", lambda part, *rest: seen.append(part) or condition(part, *rest))
    left, _, hole = views
    known = torch.rand(2, 3, 20, 30)
    Refiner(model)(left, left, hole, fps=8, known=known, places=torch.tensor([3, 1]))
    assert seen[0].replaced.tolist() == [[False, True, False, True]]
    warped = seen[0].warped[0, :, :, :20, :30]
    assert torch.equal(warped[[3, 1]], known)
    assert (warped[[0, 2]].masked_select(hole[[0, 2]]) == 0).all()
    assert torch.equal(warped[0].masked_select(~hole[0]), left[0].masked_select(~hole[0]))


def test_a_raw_hole_gives_what_a_closed_one_gives(model, views):
    left = views[0]
    disparity = torch.zeros(4, 1, 20, 30)
    disparity[:, :, 5:15, 8:20] = 6
    warped, hole = warp(left, disparity)
    closed, filled = warp_view(left, disparity)
    assert not torch.equal(hole, filled)
    refiner = Refiner(model)
    assert torch.equal(refiner(left, warped, hole, fps=8), refiner(left, closed, filled, fps=8))


def test_same_seed_same_view(model, views):
    first, again, other = (Refiner(model, noise_aug=0.1, seed=s)(*views, fps=8) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_cross_fade_by_hand():
    share = torch.tensor([0, 0.25, 0.5, 0.75])
    faded = cross_fade(torch.zeros(4, 3, 1, 1), torch.ones(5, 3, 1, 1), share)
    torch.testing.assert_close(faded[:, 0, 0, 0], torch.tensor([0, 0.25, 0.5, 0.75, 1]))


def test_windows_join_without_a_step():
    """An inpainter that copies the view but is darker in every window, and darker still where it is given
    what was made before: the fade spreads the step, and no frame is made twice."""

    class Darker(BackgroundFill):
        window, overlap = 8, 3
        calls = 0

        def __call__(self, left, warped, hole, fps, known=None, *, needed=None):
            self.calls += 1
            made = left.float() / 255 - 0.1 * self.calls
            if known is not None:
                made[: len(known)] = known - 0.5
            return made

    right_view = RightView(Darker(), "full", False, 8.0, 8)
    film = torch.full((13, 3, 16, 16), 200, dtype=torch.uint8)
    emitted, known = [], None
    for window in plan_windows([Shot(0, 0, 13)], 8, 3):
        left = film[window.start : window.stop]
        made = right_view(window, left, left, torch.zeros_like(left[:, :1], dtype=torch.bool), known)
        emitted.append(made[window.emit_start - window.start : window.emit_stop - window.start])
        known = made[-3:]
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


def test_outside_holes_the_view_that_is_to_be_seen_is_kept():
    class White(BackgroundFill):
        def __call__(self, left, warped, hole, fps, known=None, *, needed=None):
            return torch.ones(warped.shape)

    window = plan_windows([Shot(0, 0, 1)], 8, 3)[0]
    warped, closed = torch.zeros(1, 3, 64, 64), torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    closed[..., 8:24, 8:24] = True
    seen, share = torch.full((1, 3, 64, 64), 0.5), torch.zeros(1, 1, 64, 64)
    share[..., 40:48, 40:48] = 0.25
    made = RightView(White(), "holes", False, 8.0, 8)(window, seen, warped, closed, None, (seen, share))
    assert (made[0, 8:24, 8:24] == 128).all() and (made[0, 40:48, 40:48] == 255).all()


def test_compiled_refining_is_the_same_and_says_what_it_has_cost(model, views, monkeypatch):
    eager, told = Refiner(model)(*views, fps=8), []
    compiled = []
    monkeypatch.setattr(refiner_module, "compile_regions", compiled.append)
    refiner = Refiner(model, compile=True)
    refiner.on_compiled = told.append
    assert compiled == [model]
    for _ in range(3):
        assert torch.equal(refiner(*views, fps=8), eager)
    assert len(told) == 1 and re.fullmatch(
        r"compiled: the first window of 4×24×32 took [\d.]+ s, the second [\d.]+ s", told[0]
    )
    with pytest.raises(UserError, match='compiled models take whole frames: give decode_area="whole"'):
        Refiner(model, compile=True, decode_area="needed")
