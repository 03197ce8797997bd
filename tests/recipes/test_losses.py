"""Each recipe's loss against its formula, computed by hand on the outputs of a small random model."""

import pytest
import torch

from m2svid.attention import Disoccluded
from m2svid.errors import UserError
from m2svid.model.conditioning import Conditioning
from m2svid.model.vae import SpaceToDepth
from m2svid.recipes import EndToEnd, LatentOnly, ReplaceFrames, StandardDiffusion
from m2svid.training.backbone import SmallRandom
from tests.recipes.test_replace_frames import make_batch


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    backbone = SmallRandom(
        channels=(32, 32), layers=1, head_dim=16, context_dim=8, autoencoder=SpaceToDepth(4)
    )
    return backbone.build(Conditioning(), Disoccluded())


def generator():
    return torch.Generator().manual_seed(5)


def condition_as_in_training(model, batch, recipe):
    """The noise level is the first draw, the conditioning noise the next: REFERENCE §3."""
    g = generator()
    s = torch.exp(-3 + 0.5 * torch.randn(len(batch.fps), generator=g))
    return model.condition(batch, noise_aug=s, generator=g), g


def test_latent_and_image_losses_are_those_of_equation_5(model):
    batch = make_batch(B=2, T=2, size=16)
    recipe = EndToEnd(latent=2.0, l1=3.0, lpips=0.0)
    loss = recipe(model, batch, generator())

    condition, g = condition_as_in_training(model, batch, recipe)
    z = torch.nn.functional.pixel_unshuffle(batch.right * 2 - 1, 4)  # this autoencoder by hand
    z_hat = model.denoise(torch.zeros_like(z), torch.full((2,), 700.0), condition, g)
    latent = ((z_hat - z) ** 2).mean()
    l1 = (torch.nn.functional.pixel_shuffle(z_hat, 4) - (batch.right * 2 - 1)).abs().mean()
    torch.testing.assert_close(loss.parts, {"latent": latent, "l1": l1})
    torch.testing.assert_close(loss.total, 2 * latent + 3 * l1)
    torch.testing.assert_close(LatentOnly()(model, batch, generator()).total, latent)


def test_standard_diffusion_is_equation_1(model):
    batch = make_batch(B=2, T=2, size=16)
    recipe = StandardDiffusion()
    loss = recipe(model, batch, generator())

    condition, g = condition_as_in_training(model, batch, recipe)
    z = torch.nn.functional.pixel_unshuffle(batch.right * 2 - 1, 4)
    sigma = torch.exp(1.0 + 1.6 * torch.randn(2, generator=g))
    n = torch.randn(z.shape, generator=g)
    errors = []
    for b in range(2):
        one = sigma[b : b + 1]
        x = z + sigma.view(-1, 1, 1, 1, 1) * n
        D = model.denoise(x, sigma, condition, g)[b]
        errors.append((one**2 + 1) / one**2 * ((D - z[b]) ** 2).mean())
    torch.testing.assert_close(loss.total, torch.stack(errors).mean())


def test_the_same_generator_gives_the_same_loss_and_gradients_reach_the_unet_only(model):
    batch = make_batch(B=1, T=2, size=16)
    recipe = EndToEnd(lpips=0.0, replace_frames=ReplaceFrames(1.0))
    first, second = (recipe(model, batch, generator()).total for _ in range(2))
    assert torch.equal(first, second)
    first.backward()
    assert all(p.grad is not None for p in model.unet.parameters())


def test_recipes_say_which_sampler_they_are_evaluated_with():
    assert (LatentOnly().sampler.num_steps, LatentOnly().sampler.start) == (1, "zero")
    assert (StandardDiffusion().sampler.num_steps, StandardDiffusion().sampler.start) == (25, "noise")


def test_lpips_without_its_weights_and_negative_weights_are_refused_at_once(tmp_path):
    with pytest.raises(UserError, match="VGG"):
        EndToEnd(vgg_weights=str(tmp_path / "missing.pth"))
    with pytest.raises(UserError, match=r"recipe.l1.*-1"):
        EndToEnd(l1=-1.0, lpips=0.0)
