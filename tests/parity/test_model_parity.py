"""The network's inputs as the published code makes them, and that the fixture tells the strategies apart.

The other tensors of the fixtures are compared in `test_published_file_parity`, through a published file.
"""

from __future__ import annotations

import pytest
import torch

from m2svid.attention import AttentionStrategy, Disoccluded, Factorized
from m2svid.model.denoiser import c_in, c_noise
from m2svid.model.unet import ConditionedUNet
from m2svid.weights.sgm import to_diffusers
from tests.parity.rebuild import HEADS, SEEDS, inputs_and_outputs, rebuild_state


@pytest.fixture(scope="module", params=SEEDS)
def io(request) -> dict[str, torch.Tensor]:
    return inputs_and_outputs(request.param)


def close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return bool((ours - theirs).abs().max() <= 2e-5 * theirs.abs().max())


def test_timestep_and_input(io):
    sigma = torch.tensor([700.0])
    assert close(c_noise(sigma), io["timestep"])
    noisy = c_in(sigma) * torch.zeros_like(io["latent_1step"])
    assert close(
        torch.cat([noisy, io["left_latent"], io["warped_latent"], io["mask_latent"]], dim=1), io["unet_in"]
    )


@torch.no_grad()
def test_only_full_attention_at_the_holes_gives_the_published_output():
    io = inputs_and_outputs("tiny_full_attention")
    part = to_diffusers(rebuild_state("tiny_full_attention"), **HEADS).unet
    unet = ConditionedUNet(**part.config).eval()
    unet.load_state_dict(part.state)

    def out(attention: AttentionStrategy) -> torch.Tensor:
        context, mask = io["clip_embeds"][None, :, None], io["mask_latent"][None]
        return unet(io["unet_in"][None], io["timestep"], context, io["added_time_ids"], mask, attention)[0]

    assert close(out(Disoccluded()), io["unet_out"])
    assert (out(Factorized()) - io["unet_out"]).abs().max() > 0.05 * io["unet_out"].abs().max()
