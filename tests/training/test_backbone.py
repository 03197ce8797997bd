"""Loading Stable Video Diffusion's folder, all that can be wrong with one, and small random models."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from safetensors.torch import load_file, save_file

from m2svid.attention import Disoccluded
from m2svid.errors import UserError
from m2svid.model.conditioning import Conditioning
from m2svid.model.vae import SpaceToDepth
from m2svid.recipes import EndToEnd
from m2svid.training.backbone import SmallRandom, StableVideoDiffusion
from tests.model import tiny

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("svd")
    UNetSpatioTemporalConditionModel(**tiny.UNET).save_pretrained(path / "unet")
    tiny.vae().save_pretrained(path / "vae")
    tiny.clip().save_pretrained(path / "image_encoder")
    return path


@pytest.fixture
def folder(original, tmp_path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "svd"))


def build(folder, inputs=("left", "warped", "mask"), **options):
    return StableVideoDiffusion(str(folder), **options).build(Conditioning(inputs), Disoccluded())


def test_loads_and_widens(folder):
    model = build(folder)
    theirs = load_file(folder / WEIGHTS)
    ours = model.unet.state_dict()
    assert theirs.keys() == ours.keys()
    assert ours.pop("conv_in.weight").shape[1] == 13
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())
    assert model.unet.is_gradient_checkpointing
    assert model.vae.model.is_gradient_checkpointing
    assert model.predict(tiny.batch()).isfinite().all()


def test_activations_are_recomputed_where_it_is_chosen(folder):
    """With the same gradients of the whole loss, through decoder and U-Net."""
    gradients = {}
    for stages in (False, True, ("unet",), ("decoder",)):
        model = build(folder, gradient_checkpointing=stages)
        model.eval().requires_grad_(False).unet.requires_grad_(True).train()
        chosen = {True: ("unet", "decoder"), False: ()}.get(stages, stages)
        checkpoints = {"unet": model.unet, "decoder": model.vae.model}
        assert [n for n, part in checkpoints.items() if part.is_gradient_checkpointing] == list(chosen)
        loss = EndToEnd(lpips=0)(model, tiny.batch(B=1), torch.Generator().manual_seed(0))
        loss.total.backward()
        gradients[stages] = {name: p.grad for name, p in model.unet.named_parameters()}
    for stages, found in gradients.items():
        torch.testing.assert_close(found, gradients[False], msg=str(stages))


def test_folder_with_the_wanted_channels_is_taken_as_it_is(folder):
    unet = build(folder).unet
    torch.nn.init.normal_(unet.conv_in.weight)
    unet.save_pretrained(folder / "unet")
    assert torch.equal(build(folder).unet.conv_in.weight, unet.conv_in.weight)
    with pytest.raises(UserError, match="13 input channels"):
        build(folder, inputs=("warped", "mask"))


def test_half_precision_variant_becomes_float32(folder):
    for part, loaded in (("unet", build(folder).unet), ("vae", tiny.vae()), ("image_encoder", tiny.clip())):
        shutil.rmtree(folder / part)
        loaded.half().save_pretrained(folder / part, variant="fp16")
    for variant in ("fp16", None):  # the only one there is
        model = build(folder, variant=variant, gradient_checkpointing=False)
        assert {p.dtype for p in model.parameters()} == {torch.float32}
    with pytest.raises(UserError, match=r"variant bf16 \(it has: fp16\)"):
        build(folder, variant="bf16")


def change(folder, edit):
    state = load_file(folder / WEIGHTS)
    edit(state)
    save_file(state, folder / WEIGHTS)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda state: state.pop("conv_out.bias"), r"missing: conv_out\.bias"),
        (lambda state: state.update(extra=torch.ones(1)), "unexpected: extra"),
        (lambda state: state.update({"conv_out.bias": torch.ones(5)}), r"conv_out\.bias"),
    ],
)
def test_weights_that_do_not_fit_are_refused(folder, edit, message):
    change(folder, edit)
    with pytest.raises(UserError, match=message):
        build(folder)


def test_broken_file_is_refused(folder):
    (folder / WEIGHTS).write_bytes(b"not a safetensors file")
    with pytest.raises(
        UserError, match=r"diffusion_pytorch_model\.safetensors is truncated or no safetensors"
    ):
        build(folder)


def test_missing_part_is_named(folder):
    shutil.rmtree(folder / "vae")
    with pytest.raises(UserError, match=r"svd/vae has no config\.json"):
        build(folder)


def test_missing_folder_is_named():
    with pytest.raises(UserError, match="/no/such/folder does not exist"):
        build("/no/such/folder")


def test_hub_id_without_network_says_how_to_get_the_weights(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="hf download nobody/nothing") as error:
        build("nobody/nothing")
    assert "--local-dir" in str(error.value) and "can't be reached" in str(error.value)


@pytest.mark.parametrize("channels", [(32,), (32, 64), (32, 32, 64), (32, 32, 32, 64)])
def test_small_models_of_any_depth(channels):
    torch.manual_seed(0)
    model = SmallRandom(channels, autoencoder=SpaceToDepth(2)).build(Conditioning(), Disoccluded())
    multiple = 2 * 2 ** (len(channels) - 1)
    assert model.size_multiple == multiple
    assert model.predict(tiny.batch(H=multiple, W=2 * multiple)).isfinite().all()


def test_small_models_are_seeded():
    def weights(seed):
        torch.manual_seed(seed)
        return SmallRandom((32,)).build(Conditioning(), Disoccluded()).state_dict()

    first, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["unet.conv_in.weight"], other["unet.conv_in.weight"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": ()}, "channels="),
        ({"channels": (32, 48)}, "channels="),
        ({"channels": (64,), "head_dim": 24}, "head_dim=24"),
        ({"layers": 0}, "layers=0"),
    ],
)
def test_wrong_sizes_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        SmallRandom(**options)
