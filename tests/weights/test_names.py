"""The two ways between generative-models names and diffusers, against the key list of a published file."""

from __future__ import annotations

import pytest
import torch

from m2svid.errors import UserError
from m2svid.weights.mismatch import MismatchError
from m2svid.weights.parts import Parts, load
from m2svid.weights.sgm import to_diffusers, to_sgm
from tests.parity.rebuild import HEADS, SEEDS, rebuild_state

LEFTOVER = ("decoder.", "post_quant_conv.")


@pytest.fixture(scope="module", params=SEEDS)
def state(request) -> dict[str, torch.Tensor]:
    return rebuild_state(request.param)


@pytest.fixture(scope="module")
def parts(state) -> Parts:
    return to_diffusers(state, **HEADS)


def used(key: str) -> bool:
    """What the issue calls used: U-Net, first-stage decoder, both conditioning encoders, CLIP vision."""
    prefix, _, rest = key.partition(".encoder.")
    if prefix in ("conditioner.embedders.3", "conditioner.embedders.5"):
        return not rest.startswith(LEFTOVER)
    return key.startswith(("model.", "first_stage_model.decoder.")) or ".open_clip.model.visual." in key


@pytest.mark.parametrize("component", ["unet", "vae", "image_encoder"])
def test_strict_load(parts, component):
    part = getattr(parts, component)
    assert load(component, part).state_dict().keys() == part.state.keys()


def test_sizes(parts):
    assert parts.unet.config["in_channels"] == 13
    assert parts.unet.config["block_out_channels"] == [32, 64, 64, 64]
    assert parts.unet.config["num_attention_heads"] == [2, 4, 4, 4]
    assert parts.unet.config["down_block_types"][-1] == "DownBlockSpatioTemporal"
    assert parts.unet.config["up_block_types"][0] == "UpBlockSpatioTemporal"
    assert parts.vae.config["block_out_channels"] == [32, 32, 64, 64]
    assert parts.image_encoder.config["image_size"] == 224


def test_round_trip(state, parts):
    back = to_sgm(parts)
    assert set(back) <= set(state)
    for key in filter(used, state):
        assert torch.equal(back[key], state[key]), key


def test_svd_has_one_encoder(state):
    svd = {key: tensor for key, tensor in state.items() if ".embedders.5." not in key}
    back = to_sgm(to_diffusers(svd, **HEADS), encoders=1)
    assert set(filter(used, svd)) <= set(back) <= set(svd)


def test_first_stage_encoder_is_the_conditioning_encoder(parts):
    """The exported first-stage encoder (no quant_conv) gives the moments of encoder + quant_conv."""
    prefix = "first_stage_model.encoder.conv_out."
    back = to_sgm(parts)
    features = torch.randn(1, 64, 5, 5)
    vae = load("vae", parts.vae)
    folded = torch.nn.functional.conv2d(features, back[prefix + "weight"], back[prefix + "bias"], padding=1)
    torch.testing.assert_close(folded, vae.quant_conv(vae.encoder.conv_out(features)))


def test_refused(state):
    wrong = dict(state)
    del wrong["model.diffusion_model.input_blocks.1.0.in_layers.0.weight"]
    wrong["model.diffusion_model.out.0.bias"] = torch.zeros(7)
    wrong["model.diffusion_model.extra"] = torch.zeros(1)
    with pytest.raises(MismatchError) as error:
        to_diffusers(wrong, **HEADS)
    assert error.value.missing == ["model.diffusion_model.input_blocks.1.0.in_layers.0.weight"]
    assert error.value.unexpected == ["model.diffusion_model.extra"]
    assert error.value.misshapen == {"model.diffusion_model.out.0.bias": ((7,), (32,))}


def test_truncated_components_are_refused(state):
    with pytest.raises(MismatchError, match="first_stage_model"):
        to_diffusers({k: v for k, v in state.items() if not k.startswith("first_stage")}, **HEADS)


def test_two_encoders_must_agree(state):
    key = "conditioner.embedders.5.encoder.quant_conv.bias"
    with pytest.raises(UserError, match="two different"):
        to_diffusers(state | {key: state[key] + 1}, **HEADS)


def test_heads_are_never_guessed(state):
    with pytest.raises(UserError, match="head_channels"):
        to_diffusers(state, clip_heads=4)
    with pytest.raises(UserError, match="clip_heads"):
        to_diffusers(state, head_channels=16)
