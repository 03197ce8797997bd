"""A published file of each variant, imported and run, against the published implementation's numbers."""

from __future__ import annotations

import pytest
import torch

from m2svid.batch import StereoBatch
from m2svid.inference.refiner import Refiner
from m2svid.model.image_encoder import preprocess
from m2svid.model.sampler import Sampler
from m2svid.warping.mask import blacken, close_hole, dilate
from m2svid.weights.load import Heads, load
from tests.parity.rebuild import HEADS, inputs_and_outputs, rebuild_state

FILES = {
    "tiny_full_attention": "m2svid_weights.pt",
    "tiny_factorized": "m2svid_no_full_atten_weights.pt",
}


@pytest.fixture(scope="module", params=FILES)
def case(request, tmp_path_factory):
    """(model, inputs and outputs); the attention strategy is told by the file's name only."""
    path = tmp_path_factory.mktemp("published") / FILES[request.param]
    torch.save({"module": {f"module.{k}": v for k, v in rebuild_state(request.param).items()}}, path)
    return load(path, heads=Heads(**HEADS)), inputs_and_outputs(request.param)


def batch(io, frames: int | None = None) -> StereoBatch:
    hole = close_hole(io["mask_raw"] > 0.5)
    assert torch.equal(dilate(hole), io["mask_closed_dilated"] > 0.5)
    videos = (io["left"], blacken(io["warped"], hole), hole)
    return StereoBatch(*(video[None, :frames] for video in videos), fps=torch.tensor([8.0]))


@pytest.fixture(scope="module")
def condition(case):
    model, io = case
    return model.condition(batch(io), noise_aug=0.02, add_noise=False)


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 2e-5 * theirs.abs().max()


def test_condition(case, condition):
    _, io = case
    left, warped, mask = condition.channels[0].split([4, 4, 1], dim=1)
    close(left, io["left_latent"])
    close(warped, io["warped_latent"])
    close(mask, io["mask_latent"])
    close(preprocess(io["left"], 224)[..., ::7, ::7], io["clip_pixels"])
    close(condition.context[0, :, 0], io["clip_embeds"])
    close(condition.added_time_ids, io["added_time_ids"])


@torch.no_grad()
def test_network(case, condition):
    model, io = case
    out = model.unet(
        io["unet_in"][None],
        io["timestep"],
        condition.context,
        condition.added_time_ids,
        condition.mask,
        model.attention,
    )
    close(out[0], io["unet_out"])


@torch.no_grad()
def test_denoiser_and_sampler(case, condition):
    model, io = case
    x = io["sigma3_input"][None]
    close(model.denoise(x, torch.tensor([3.0]), condition)[0], io["sigma3_denoised"])

    def denoise(x, sigma):
        return model.denoise(x, sigma, condition)

    for steps in (1, 5):
        z = Sampler(num_steps=steps)(denoise, x.shape, "cpu")
        close(z[0], io[f"latent_{steps}step"])
    close(Sampler(num_steps=5).sigmas(), io["sigmas_5step"])
    close(model.decode(io["latent_1step"][None])[0], io["frames_1step"])


def test_refine_end_to_end(case):
    model, io = case
    right = Refiner(model, add_noise=False)(io["left"], io["warped"], io["mask_raw"] > 0.5, fps=8)
    close(right, (io["frames_1step"] / 2 + 0.5).clamp(0, 1))


def decibels(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Range of the published values against the error."""
    return 20 * (theirs.max() - theirs.min()).log10() - 10 * (ours - theirs).square().mean().log10()


one_file = pytest.mark.parametrize("case", ["tiny_full_attention"], indirect=True)  # both have one encoder


@one_file
def test_refine_with_an_encoder_of_16_bit(case):
    model, io = case
    refiner = Refiner(model, add_noise=False, encode_dtype=torch.bfloat16)
    right = refiner(io["left"], io["warped"], io["mask_raw"] > 0.5, fps=8)
    assert decibels(right, (io["frames_1step"] / 2 + 0.5).clamp(0, 1)) > 36


@one_file
def test_latents_of_an_encoder_in_float16(case, monkeypatch):
    """Of one frame: a CPU takes long for convolutions in float16."""
    model, io = case
    monkeypatch.setattr(model.vae, "encode_dtype", torch.float16)
    left, warped, _ = model.condition(batch(io, 1), 0.02, add_noise=False).channels[0].split([4, 4, 1], dim=1)
    for ours, theirs in ((left, io["left_latent"][:1]), (warped, io["warped_latent"][:1])):
        assert not torch.equal(ours, theirs) and decibels(ours, theirs) > 55
