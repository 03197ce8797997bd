"""What the model is told about a batch, and its way from batch to right view."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from m2svid.attention import Disoccluded, Factorized
from m2svid.errors import UserError
from m2svid.model.conditioning import Conditioning
from m2svid.model.image_encoder import CLIPImageEncoder
from m2svid.model.m2svid import M2SVid
from m2svid.model.sampler import Sampler
from m2svid.model.unet import ConditionedUNet
from m2svid.model.vae import SpaceToDepth, SVDAutoencoder
from m2svid.training.backbone import SmallRandom
from m2svid.warping.mask import mask_latent
from tests.model import tiny


@pytest.fixture
def small() -> M2SVid:
    torch.manual_seed(0)
    backbone = SmallRandom(channels=(32, 32), autoencoder=SpaceToDepth(4))
    return backbone.build(Conditioning(), Disoccluded()).eval()


@pytest.fixture
def svd() -> M2SVid:
    """SVD's networks, all three."""
    torch.manual_seed(0)
    return M2SVid(
        ConditionedUNet(**tiny.UNET, in_channels=13),
        SVDAutoencoder(tiny.vae()),
        CLIPImageEncoder(tiny.clip()),
        Conditioning(),
        Disoccluded(),
    ).eval()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_condition_without_noise(small):
    batch = tiny.batch()
    condition = small.condition(batch, noise_aug=0.02, add_noise=False)
    left, warped, mask = condition.channels.split([48, 48, 1], dim=2)
    assert torch.equal(small.vae.decode(left), batch.left * 2 - 1)
    assert torch.equal(small.vae.decode(warped), batch.warped * 2 - 1)
    assert torch.equal(mask, mask_latent(batch.hole, (4, 8)))
    assert torch.equal(condition.mask, mask)
    torch.testing.assert_close(condition.added_time_ids, torch.tensor([[8, 127, 0.02], [29.97, 127, 0.02]]))


def test_conditioning_latents_are_not_scaled(svd):
    batch = tiny.batch()
    left = svd.condition(batch, add_noise=False).channels[:, :, :4]
    torch.testing.assert_close(svd.encode(batch.left), left * svd.vae.scaling_factor)
    assert svd.vae.scaling_factor == 0.18215


def test_noise_has_the_level_of_its_clip_and_both_views_get_their_own(small):
    batch = tiny.batch(T=8, H=64, W=64)
    levels = torch.tensor([0.02, 0.5])
    condition = small.condition(batch, levels, generator=seeded())
    clean = small.condition(batch, levels, add_noise=False)
    left, warped, mask = (condition.channels - clean.channels).split([48, 48, 1], dim=2)
    for noise in (left, warped):
        torch.testing.assert_close(noise.std(dim=(1, 2, 3, 4)), levels, rtol=0.02, atol=0)
    correlation = torch.corrcoef(torch.stack([left[1].flatten(), warped[1].flatten()]))[0, 1]
    assert abs(correlation) < 0.02
    assert not mask.any()
    assert torch.equal(condition.added_time_ids[:, 2], levels)


def test_noise_is_seeded_and_may_be_zero(small):
    batch = tiny.batch()
    first, again = (small.condition(batch, generator=seeded(1)) for _ in range(2))
    assert torch.equal(first.channels, again.channels)
    silent = small.condition(batch, noise_aug=0, generator=seeded())
    assert torch.equal(silent.channels, small.condition(batch, add_noise=False).channels)


def test_clip_sees_the_clean_left_view(svd):
    batch = tiny.batch()
    noisy = svd.condition(batch, noise_aug=1.0, generator=seeded())
    with torch.no_grad():
        torch.testing.assert_close(noisy.context, svd.image_encoder(batch.left))


def test_replaced_frames_have_no_hole(small):
    replaced = torch.tensor([[True, False, False], [False, False, False]])
    mask = small.condition(replace(tiny.batch(), replaced=replaced)).mask
    assert (mask[0, 0] == -1).all()
    assert (mask[1, 0] > 0).any()


@pytest.mark.parametrize("noisy", [False, True])
def test_known_frames_get_conditioning_noise_only_on_request(small, noisy):
    """The published code puts them in after the noise; the left view and all other frames keep theirs."""
    small.conditioning = Conditioning(noisy_replaced=noisy)
    replaced = torch.tensor([[True, False, False], [False, True, False]])
    batch = replace(tiny.batch(), replaced=replaced)
    noise = (
        small.condition(batch, 0.5, generator=seeded()).channels
        - small.condition(batch, 0.5, add_noise=False).channels
    )
    left, warped, _ = noise.split([48, 48, 1], dim=2)
    assert (left.std(dim=(2, 3, 4)) > 0.4).all()
    assert torch.equal(warped.std(dim=(2, 3, 4)) > 0.4, ~replaced | noisy)
    assert torch.equal(warped.abs().amax(dim=(2, 3, 4)) == 0, replaced & (not noisy))


def test_bytes_are_taken_as_well(small):
    batch = tiny.batch()
    as_bytes = replace(batch, left=(batch.left * 255).byte(), warped=(batch.warped * 255).byte(), right=None)
    expected = small.condition(as_bytes.as_float(), add_noise=False)
    assert torch.equal(small.condition(as_bytes, add_noise=False).channels, expected.channels)


def test_prediction_is_one_denoising_from_zero(svd):
    batch = tiny.batch()
    right = svd.predict(batch, generator=seeded())
    condition = svd.condition(batch, generator=seeded())
    with torch.no_grad():
        z_hat = svd.denoise(torch.zeros(2, 3, 4, 8, 16), torch.full((2,), 700.0), condition)
        expected = (svd.decode(z_hat) + 1) / 2
    torch.testing.assert_close(right, expected.clamp(0, 1))
    assert right.shape == batch.left.shape
    assert 0 <= right.min() < right.max() <= 1


def test_attention_may_be_exchanged(small):
    batch = tiny.batch()
    disoccluded = small.predict(batch, add_noise=False)
    small.attention = Factorized()
    assert not torch.equal(small.predict(batch, add_noise=False), disoccluded)
    empty = replace(batch, hole=torch.zeros_like(batch.hole))
    factorized = small.predict(empty, add_noise=False)
    small.attention = Disoccluded()
    assert torch.equal(small.predict(empty, add_noise=False), factorized)


def test_several_steps_from_noise_are_seeded(small):
    sampler = Sampler(num_steps=2, start="noise")
    first, again = (small.predict(tiny.batch(), sampler, generator=seeded(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(small.predict(tiny.batch(), sampler, generator=seeded(4)), first)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
def test_image_losses_reach_the_unet_and_nothing_else(svd, dtype):
    svd.requires_grad_(False)
    svd.unet.requires_grad_(True).enable_gradient_checkpointing()
    svd.train()
    batch = tiny.batch()
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        condition = svd.condition(batch, generator=seeded())
        z = svd.encode(batch.right)
        z_hat = svd.denoise(torch.zeros_like(z), torch.full((2,), 700.0), condition, seeded())
        loss = (svd.decode(z_hat).float() - (batch.right * 2 - 1)).abs().mean()
    loss.backward()
    assert not condition.channels.requires_grad
    for name, parameter in svd.named_parameters():
        assert (parameter.grad is not None) == name.startswith("unet."), name
    assert all(p.grad.isfinite().all() for p in svd.unet.parameters())
    assert svd.unet.conv_in.weight.grad.any()


def test_overfits_one_clip(small):
    batch = tiny.batch(B=1, T=2)
    optimizer = torch.optim.Adam(small.unet.parameters(), lr=2e-3)
    losses = []
    for _ in range(30):
        condition = small.condition(batch, add_noise=False)
        z = small.encode(batch.right)
        loss = (small.denoise(torch.zeros_like(z), torch.full((1,), 700.0), condition) - z).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_bfloat16_weights(svd):
    exact = svd.predict(tiny.batch(), add_noise=False)
    half = svd.to(torch.bfloat16).predict(tiny.batch(), add_noise=False)
    assert half.dtype == torch.float32
    assert (half - exact).abs().mean() < 0.02


def test_wrong_use_is_refused(small):
    with pytest.raises(UserError, match="multiples of 8, got 16×36"):
        small.condition(tiny.batch(W=36))
    with pytest.raises(UserError, match=r"noise_aug=-0\.1"):
        small.condition(tiny.batch(), noise_aug=-0.1)
    with pytest.raises(UserError, match="97 input channels, this one has 145"):
        M2SVid(small.unet, small.vae, small.image_encoder, Conditioning(("warped", "mask")), Factorized())


@pytest.fixture
def keeping() -> M2SVid:
    """As `small`, with the same weights, but it keeps 0.9 of the warped view."""
    torch.manual_seed(0)
    backbone = SmallRandom(channels=(32, 32), autoencoder=SpaceToDepth(4), keep_warped=0.9)
    return backbone.build(Conditioning(), Disoccluded()).eval()


def test_the_kept_share_of_the_warped_view_counts_outside_the_holes_only(small, keeping):
    batch = tiny.batch()
    made, kept = (
        model.decode(model.sample(model.condition(batch, add_noise=False))) for model in (small, keeping)
    )
    outside = 0.9 * (batch.warped * 2 - 1) + 0.1 * made
    torch.testing.assert_close(kept, torch.where(batch.hole, made, outside))
    assert (made - outside)[~batch.hole.expand_as(made)].abs().mean() > 0.1


def test_a_network_that_says_nothing_returns_the_kept_share(keeping):
    """Exactly, although its inputs are noisy: what is kept is not."""
    torch.nn.init.zeros_(keeping.unet.conv_out.weight)
    torch.nn.init.zeros_(keeping.unet.conv_out.bias)
    batch = tiny.batch()
    gray = torch.full_like(batch.warped, 0.5)
    expected = torch.where(batch.hole, gray, 0.9 * batch.warped + 0.1 * gray)
    torch.testing.assert_close(keeping.predict(batch, noise_aug=0.5), expected)


def test_the_share_is_saved_with_the_model(keeping, tmp_path):
    batch = tiny.batch()
    keeping.save_pretrained(tmp_path / "model")
    opened = M2SVid.from_pretrained(tmp_path / "model")
    assert torch.equal(opened.predict(batch, add_noise=False), keeping.predict(batch, add_noise=False))


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_must_leave_something_to_the_network(share):
    with pytest.raises(UserError, match=f"keep_warped={share} is a share"):
        ConditionedUNet(**tiny.UNET, keep_warped=share)


def test_a_latent_is_in_a_hole_if_one_of_its_pixels_is(svd):
    hole = torch.zeros(1, 2, 1, 8, 8, dtype=torch.bool)
    hole[0, 1, 0, 3, 5] = True
    expected = torch.zeros(1, 2, 1, 4, 4, dtype=torch.bool)  # 2 pixels a latent
    expected[0, 1, 0, 1, 2] = True
    assert torch.equal(svd.vae.encode_hole(hole), expected)
