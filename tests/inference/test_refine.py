"""`M2SVid.refine`: sizes, seed, noise and mask steps."""

from __future__ import annotations

import pytest
import torch

from m2svid.batch import StereoBatch
from m2svid.errors import UserError
from m2svid.warping.mask import blacken, close_hole
from m2svid.weights.load import load

T, H, W = 2, 70, 100


@pytest.fixture(scope="module")
def model(folder):
    return load(folder)


@pytest.fixture(scope="module")
def clip():
    random = torch.Generator().manual_seed(0)
    left, warped = torch.rand(2, T, 3, H, W, generator=random)
    return left, warped, torch.rand(T, 1, H, W, generator=random) > 0.8


def test_size_that_fits_is_predict(model, clip):
    """Without padding, refine is closing, blackening and predict."""
    left, warped, hole = (view[..., :64, :64] for view in clip)
    closed = close_hole(hole)
    batch = StereoBatch(left[None], blacken(warped, closed)[None], closed[None], fps=torch.tensor([8.0]))
    expected = model.predict(batch, noise_aug=0.1, generator=torch.Generator().manual_seed(3))
    assert torch.equal(model.refine(left, warped, hole, fps=8, noise_aug=0.1, seed=3), expected[0])


def test_any_size_is_padded_with_its_border(model, clip):
    left, warped, hole = clip
    right = model.refine(left, warped, hole, fps=8, add_noise=False)
    assert right.shape == left.shape
    assert right.min() >= 0 and right.max() <= 1

    closed = close_hole(hole)

    def by_hand(view):
        view = torch.cat([view, view[..., -1:].expand(-1, -1, -1, 128 - W)], dim=-1)
        return torch.cat([view, view[..., -1:, :].expand(-1, -1, 128 - H, -1)], dim=-2)[None]

    views = (by_hand(left), by_hand(blacken(warped, closed)), by_hand(closed))
    expected = model.predict(StereoBatch(*views, fps=torch.tensor([8.0])), add_noise=False)
    assert torch.equal(right, expected[0, ..., :H, :W])


def test_seed_and_noise(model, clip):
    clip = [view[..., :64, :64] for view in clip]
    first = model.refine(*clip, fps=8, seed=1)
    assert torch.equal(model.refine(*clip, fps=8, seed=1), first)
    assert not torch.equal(model.refine(*clip, fps=8, seed=2), first)
    clean = model.refine(*clip, fps=8, seed=1, add_noise=False)
    assert torch.equal(model.refine(*clip, fps=8, seed=2, add_noise=False), clean)
    # without noise the model is still told its level
    assert not torch.equal(model.refine(*clip, fps=8, noise_aug=0.5, add_noise=False), clean)


def test_uint8_and_decode_chunk(model, folder, clip):
    clip = [view[..., :64, :64] for view in clip]
    bytes_ = [(view * 255).round().byte() for view in clip[:2]]
    floats = [view.float() / 255 for view in bytes_]
    whole = model.refine(*floats, clip[2], fps=8)
    assert torch.equal(model.refine(*bytes_, clip[2], fps=8), whole)
    chunked = load(folder, decode_chunk=T)
    assert torch.equal(chunked.refine(*floats, clip[2], fps=8), whole)


def test_mistakes(model, clip):
    left, warped, hole = clip
    with pytest.raises(UserError, match="hole must be bool"):
        model.refine(left, warped, hole.float(), fps=8)
    with pytest.raises(UserError, match="warped must be"):
        model.refine(left, warped[1:], hole, fps=8)
    with pytest.raises(UserError, match="up to 25 frames"):
        model.refine(*(view.repeat(13, 1, 1, 1) for view in clip), fps=8)
