"""A training step of the paper's recipe against the published code: losses and gradients.

The published step had noise level e^-3, no noise drawn, and the mode of the posterior as target; VGG16 for
LPIPS had the random weights of torch's seed 1234. The fixture holds the gradients of 18 tensors.
"""

from __future__ import annotations

import json
import math

import pytest
import torch
import torchvision
from safetensors.torch import load_file

from m2svid.batch import StereoBatch
from m2svid.bench.gpu.setting import calculating_in
from m2svid.recipes import EndToEnd, Loss
from m2svid.warping.view import close_view
from m2svid.weights.load import Heads, load
from m2svid.weights.sgm_names import UNET, unet_source
from tests.gpu import NEEDS_GPU
from tests.parity.rebuild import FIXTURES, HEADS, inputs_and_outputs, rebuild_state

TOLERANCE = {"latent_l1": 2e-5, "latent_l1_lpips": 2e-3}
"""Of a tensor's largest gradient; the kinks of VGG amplify rounding."""
SLACK = {"cpu": 1, "cuda": 10}
"""Multiple of every tolerance; a GPU adds in another order, which differs between runs."""


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
def device(request) -> str:
    return request.param


@pytest.fixture(scope="module", params=TOLERANCE)
def step(request, device, tmp_path_factory) -> tuple[str, Loss, dict[str, torch.Tensor]]:
    """Name, loss, and gradients of the U-Net by published name."""
    path = tmp_path_factory.mktemp("published") / "m2svid_weights.pt"
    state = rebuild_state("tiny_full_attention")
    torch.save({"module": {f"module.{key}": tensor for key, tensor in state.items()}}, path)
    model = load(path, heads=Heads(**HEADS)).to(device)
    model.unet.requires_grad_(True)

    io = inputs_and_outputs("tiny_full_attention")
    right = load_file(FIXTURES / "training.safetensors")["right"]
    warped, hole = close_view(io["warped"], io["mask_raw"] > 0.5)
    views = (io["left"][None], warped[None], hole[None])
    batch = StereoBatch(*views, fps=torch.tensor([8.0]), right=right[None]).to(device)
    with calculating_in("float32"):
        condition = model.condition(batch, noise_aug=math.exp(-3), add_noise=False)
        loss = make_recipe(request.param).to(device).loss(model, batch, condition, generator=None)
        loss.total.backward()
    config = model.unet.config
    gradients = {
        unet_source(name, config).key.removeprefix(UNET): parameter.grad.cpu()
        for name, parameter in model.unet.named_parameters()
    }
    return request.param, loss, gradients


def make_recipe(name: str) -> EndToEnd:
    if name == "latent_l1":
        return EndToEnd(lpips=0.0, target="mode")
    torch.manual_seed(1234)
    features = torchvision.models.vgg16(weights=None).features[:30]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("m2svid.metrics.perceptual.load_features", lambda *_: features)
        return EndToEnd(target="mode")


def test_losses(step, device):
    name, loss, _ = step
    theirs = json.loads((FIXTURES / "training.json").read_text())[name]
    assert loss.total.item() == pytest.approx(theirs["loss"], rel=1e-5 * SLACK[device])
    assert loss.parts["latent"].item() == pytest.approx(theirs["latent_l2"], rel=1e-5 * SLACK[device])
    assert loss.parts["l1"].item() == pytest.approx(theirs["image_l1"], rel=1e-5 * SLACK[device])
    if "lpips" in loss.parts:
        assert loss.parts["lpips"].item() == pytest.approx(theirs["image_lpips"], rel=1e-5 * SLACK[device])


def test_gradients(step, device):
    name, _, gradients = step
    fixture = load_file(FIXTURES / "training.safetensors")
    theirs = {key.removeprefix(f"{name}/"): g for key, g in fixture.items() if key.startswith(f"{name}/")}
    assert len(theirs) == 18
    for key, gradient in theirs.items():
        error = (gradients[key].view_as(gradient) - gradient).abs().max()
        assert error <= SLACK[device] * TOLERANCE[name] * gradient.abs().max(), key
    norm = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    expected = json.loads((FIXTURES / "training.json").read_text())[name]["grad_norm"]
    assert norm.item() == pytest.approx(expected, rel=1e-4 * SLACK[device])
