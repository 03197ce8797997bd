import warnings
from copy import deepcopy

import lpips as library
import pytest
import torch

from m2svid.errors import UserError
from m2svid.metrics.functional import lpips
from m2svid.metrics.perceptual import Perceptual


@pytest.fixture(scope="module")
def perceptual(vgg_weights):
    return Perceptual(vgg_weights)


@pytest.fixture(scope="module")
def theirs(vgg_weights):
    """`lpips.LPIPS` with the same random backbone."""
    with warnings.catch_warnings(action="ignore"):  # about torchvision's old arguments
        network = library.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    state = torch.load(vgg_weights)
    network.net.load_state_dict(
        {name: state[f"features.{name.split('.', 1)[1]}"] for name in network.net.state_dict()}
    )
    return network


def pair(*shape):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(shape, generator=generator) * 2 - 1, torch.rand(shape, generator=generator) * 2 - 1


def test_equals_the_library(perceptual, theirs):
    a, b = pair(3, 3, 50, 64)
    with torch.no_grad():
        torch.testing.assert_close(perceptual(a, b), theirs(a, b).flatten(), rtol=1e-5, atol=1e-7)
        theirs.spatial = True
        torch.testing.assert_close(perceptual.spatial(a, b), theirs(a, b), rtol=1e-5, atol=1e-7)
        theirs.spatial = False


def test_a_video_is_its_frames(perceptual):
    a, b = pair(2, 3, 3, 32, 32)
    assert torch.equal(perceptual(a, b), perceptual(a.flatten(0, 1), b.flatten(0, 1)))


def test_lpips_of_a_video_is_the_mean_over_its_frames(perceptual, theirs):
    a, b = pair(2, 5, 3, 32, 32)
    with torch.no_grad():
        expected = torch.stack([theirs(x, y).mean() for x, y in zip(a, b, strict=True)]).double()
        ours = lpips(perceptual, (a + 1) / 2, (b + 1) / 2)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-7)


def test_masked_lpips_is_the_mean_of_the_map_over_the_region(perceptual, theirs):
    a, b = pair(1, 2, 3, 32, 48)
    mask = torch.zeros(1, 2, 1, 32, 48, dtype=torch.bool)
    mask[:, 0, :, 3:9, :] = True
    mask[:, 1, :, :, 40:] = True
    with torch.no_grad():
        theirs.spatial = True
        expected = theirs(a[0], b[0])[mask[0]].double().mean()
        theirs.spatial = False
        ours = lpips(perceptual, (a + 1) / 2, (b + 1) / 2, torch.stack([mask, mask & ~mask]))
    torch.testing.assert_close(ours[0, 0], expected, rtol=1e-5, atol=1e-7)
    assert ours[1, 0].isnan()


def test_gradients_flow(perceptual):
    a, b = pair(1, 3, 32, 32)
    a.requires_grad_()
    perceptual(a, b).sum().backward()
    assert a.grad.abs().sum() > 0


def test_features_of_length_zero_give_a_finite_gradient(perceptual):
    dead = deepcopy(perceptual)
    dead.features[2].bias.fill_(-1e4)
    a, b = pair(1, 3, 32, 32)
    a.requires_grad_()
    dead(a, b).sum().backward()
    assert a.grad.isfinite().all()


def test_stays_frozen_in_evaluation_and_float32(vgg_weights):
    parent = torch.nn.ModuleList([Perceptual(vgg_weights)])
    parent.train().half()
    perceptual = parent[0]
    assert not any(module.training for module in perceptual.modules())
    assert not any(parameter.requires_grad for parameter in perceptual.parameters())
    assert {tensor.dtype for tensor in perceptual.state_dict().values()} == {torch.float32}


def test_loading_leaves_the_random_state_alone(vgg_weights):
    before = torch.get_rng_state()
    Perceptual(vgg_weights)
    assert torch.equal(torch.get_rng_state(), before)


def test_finds_the_hub_cache(vgg_weights, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"vgg16-397923af\.pth is not there: save https://.*`vgg_weights`"):
        Perceptual()
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth").symlink_to(vgg_weights)
    Perceptual()


@pytest.mark.parametrize("content", ["text", {}, {"features.0.weight": torch.zeros(1)}])
def test_another_file_is_refused(content, tmp_path):
    path = tmp_path / "other.pth"
    if content == "text":
        path.write_text(content)
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match="does not hold torchvision's VGG16 weights"):
        Perceptual(path)


def test_alexnet_equals_the_library(tmp_path):
    with warnings.catch_warnings(action="ignore"):
        network = library.LPIPS(net="alex", pnet_rand=True, verbose=False)
    slices = network.net.state_dict()
    torch.save({f"features.{name.split('.', 1)[1]}": t for name, t in slices.items()}, tmp_path / "alex.pth")
    a, b = pair(2, 3, 64, 72)
    ours = Perceptual(tmp_path / "alex.pth", "alex")
    with torch.no_grad():
        torch.testing.assert_close(ours(a, b), network(a, b).flatten(), rtol=1e-5, atol=1e-7)
    with pytest.raises(UserError, match=r"does not hold torchvision's VGG16 weights"):
        Perceptual(tmp_path / "alex.pth")
