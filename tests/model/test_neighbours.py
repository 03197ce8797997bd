"""StereoCrafter's and DepthCrafter's U-Nets, saved by diffusers: our class against diffusers' own loop."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from diffusers import EulerDiscreteScheduler, UNetSpatioTemporalConditionModel

from m2svid.batch import StereoBatch
from m2svid.errors import UserError
from m2svid.inference.refiner import Refiner
from m2svid.model.sampler import Sampler
from m2svid.warping.mask import blacken
from m2svid.weights.load import load, save

T, H, W = 3, 64, 64


def small_unet(in_channels: int) -> UNetSpatioTemporalConditionModel:
    torch.manual_seed(0)
    return UNetSpatioTemporalConditionModel(
        in_channels=in_channels,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        block_out_channels=(32, 64),
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=96,
        layers_per_block=1,
        cross_attention_dim=32,
        num_attention_heads=(2, 4),
    ).eval()


@pytest.fixture(scope="module")
def batch() -> StereoBatch:
    random = torch.Generator().manual_seed(1)
    left, warped = torch.rand(2, 1, T, 3, H, W, generator=random)
    hole = F.interpolate(torch.rand(T, 1, 8, 8, generator=random), size=(H, W)) > 0.7
    return StereoBatch(left, blacken(warped, hole[None]), hole[None], fps=torch.tensor([24.0]))


@pytest.fixture(scope="module")
def stereocrafter(folder, tmp_path_factory):
    """(our model, diffusers' U-Net with the same weights)"""
    path = tmp_path_factory.mktemp("stereocrafter") / "unet_diffusers"
    unet = small_unet(9)
    unet.save_pretrained(path)
    return load(path, backbone=folder), unet


@torch.no_grad()
def diffusers_latent(unet, channels, context, ids, steps, noise):
    """The loop of diffusers' SVD pipeline, without guidance."""
    scheduler = EulerDiscreteScheduler(
        prediction_type="v_prediction",
        use_karras_sigmas=True,
        timestep_type="continuous",
        timestep_spacing="leading",
        sigma_min=0.002,
        sigma_max=700.0,
    )
    scheduler.set_timesteps(steps)
    z = noise * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        x = torch.cat([scheduler.scale_model_input(z, t), channels], dim=2)
        z = scheduler.step(unet(x, t, context, ids).sample, t, z).prev_sample
    return z


@pytest.mark.parametrize("steps", [1, 8])
@torch.no_grad()
def test_stereocrafter_is_what_diffusers_computes(stereocrafter, batch, steps):
    model, unet = stereocrafter
    sampler = Sampler(num_steps=steps, start=model.usage.sampler.start, spacing=model.usage.sampler.spacing)
    condition = model.condition(batch, noise_aug=model.usage.noise_aug)
    z = sampler(lambda x, s: model.denoise(x, s, condition), (1, T, 4, 8, 8), "cpu", torch.manual_seed(2))

    latents = model.vae.encode(batch.warped * 2 - 1)
    mask = F.interpolate(batch.hole[0].float(), size=(8, 8), mode="nearest")[None]
    first = model.image_encoder(batch.warped[:, :1])[:, 0]
    noise = torch.randn(1, T, 4, 8, 8, generator=torch.manual_seed(2))
    ids = torch.tensor([[6.0, 127.0, 0.0]])
    expected = diffusers_latent(unet, torch.cat([latents, mask], dim=2), first, ids, steps, noise)
    # float32 rounds noise of size 700·3 to 1e-4
    assert (z - expected).abs().max() <= 5e-4 * expected.abs().max()


def test_stereocrafter_refines_and_is_kept(stereocrafter, batch, tmp_path):
    model, _ = stereocrafter
    clip = (batch.left[0], batch.warped[0], batch.hole[0])
    right = Refiner(model)(*clip, fps=24)  # 8 steps, no noise on the conditioning
    assert right.shape == (T, 3, H, W)
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    assert (again.usage.window, again.usage.overlap, again.usage.mark_known) == (23, 3, False)
    assert torch.equal(Refiner(again)(*clip, fps=24), right)
    with pytest.raises(UserError, match="up to 23 frames"):
        Refiner(model)(*(view.repeat(8, 1, 1, 1) for view in clip), fps=24)


def test_depthcrafter(folder, batch, tmp_path):
    unet = small_unet(8)
    unet.save_pretrained(tmp_path / "unet")
    model = load(tmp_path / "unet", backbone=folder)
    condition = model.condition(batch, noise_aug=0.02, add_noise=False)
    assert condition.added_time_ids.tolist() == [[7.0, 127.0, pytest.approx(0.02)]]
    torch.testing.assert_close(condition.channels, model.vae.encode(batch.left * 2 - 1))
    torch.testing.assert_close(condition.context, model.image_encoder(batch.left))
    assert model.usage.window == 110


def test_a_unet_alone_needs_a_backbone(tmp_path):
    small_unet(9).save_pretrained(tmp_path / "unet")
    with pytest.raises(UserError, match="backbone"):
        load(tmp_path / "unet")
