"""Each recipe's loss against its formula, computed by hand on the outputs of a small random model."""

from itertools import pairwise

import lpips
import pytest
import torch
import torchvision

from m2svid.attention import Disoccluded, Factorized
from m2svid.errors import UserError
from m2svid.metrics.perceptual import Perceptual
from m2svid.model.conditioning import Conditioning
from m2svid.model.image_encoder import CLIPImageEncoder
from m2svid.model.m2svid import M2SVid
from m2svid.model.sampler import Sampler
from m2svid.model.unet import ConditionedUNet
from m2svid.model.vae import SpaceToDepth, SVDAutoencoder
from m2svid.recipes import EndToEnd, LatentOnly, ReplaceFrames, StandardDiffusion
from m2svid.training.backbone import SmallRandom
from tests.model import tiny
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


def test_the_training_target_is_a_sample_of_the_posterior_or_its_mode():
    """With SVD's kind of autoencoder; the conditioning latents are the mode in both."""
    torch.manual_seed(0)
    vae = SVDAutoencoder(tiny.vae(), gradient_checkpointing=False)
    unet = ConditionedUNet(**tiny.UNET, in_channels=13)
    svd = M2SVid(unet, vae, CLIPImageEncoder(tiny.clip()), Conditioning(), Factorized())
    batch = tiny.batch()
    posterior = vae.model.encode((batch.right * 2 - 1).flatten(0, 1)).latent_dist
    seen = {}
    for target in ("mode", "sample"):
        z = LatentOnly(target=target).target_latent(svd, batch, generator()) / 0.18215
        seen[target] = z.flatten(0, 1)
    torch.testing.assert_close(seen["mode"], posterior.mean)
    noise = torch.randn(posterior.mean.shape, generator=generator())
    torch.testing.assert_close(seen["sample"], posterior.mean + posterior.std * noise)
    with pytest.raises(UserError, match=r"recipe.target.*'mean'"):
        LatentOnly(target="mean")


@pytest.mark.filterwarnings("ignore:::torchvision")
def test_lpips_is_the_mean_over_the_frames_of_images_in_minus_one_to_one_times_its_weight(model):
    """Against the lpips package with the same random VGG16, on three frames that differ."""
    batch = make_batch(B=1, T=3, size=16)
    torch.manual_seed(7)
    network = torchvision.models.vgg16(weights=None)
    recipe = EndToEnd(lpips=0.0)
    recipe.weights["lpips"] = 0.7
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("m2svid.metrics.perceptual.load_features", lambda *_: network.features[:30])
        recipe.perceptual = Perceptual()
    theirs = lpips.LPIPS(net="vgg", pretrained=True, pnet_rand=True, verbose=False).eval()
    theirs.net.load_state_dict(vgg_slices(network))
    loss = recipe(model, batch, generator())

    condition, g = condition_as_in_training(model, batch, recipe)
    z_hat = model.denoise(torch.zeros(1, 3, 48, 4, 4), torch.full((1,), 700.0), condition, g)
    V_hat = torch.nn.functional.pixel_shuffle(z_hat, 4)[0]
    expected = theirs(V_hat, batch.right[0] * 2 - 1).mean()
    torch.testing.assert_close(loss.parts["lpips"], expected, rtol=1e-4, atol=1e-6)
    total = loss.parts["latent"] + loss.parts["l1"] + 0.7 * expected
    torch.testing.assert_close(loss.total, total, rtol=1e-5, atol=1e-6)


def vgg_slices(network):
    """torchvision's convolutions under the names of the lpips package, which cuts them into five slices."""
    bounds = (0, 4, 9, 16, 23, 30)
    return {
        f"slice{number}.{layer}.{kind}": value
        for number, (start, stop) in enumerate(pairwise(bounds), 1)
        for layer in range(start, stop)
        for kind, value in network.features[layer].state_dict().items()
    }


@pytest.mark.parametrize("recipe", [LatentOnly, EndToEnd])
@pytest.mark.parametrize("sampler", [Sampler(5), Sampler(25, "noise")], ids=["5", "25 noise"])
def test_one_step_recipes_train_alike_whatever_sampler_evaluates_them(model, recipe, sampler):
    """Table 10: several steps from either start, for models that were trained on one step from zero."""
    options = {"lpips": 0.0} if recipe is EndToEnd else {}
    batch = make_batch(B=1, T=2, size=16)
    other = recipe(sampler=sampler, **options)
    assert other.sampler == sampler
    assert torch.equal(
        other(model, batch, generator()).total, recipe(**options)(model, batch, generator()).total
    )


def test_recipes_say_which_sampler_they_are_evaluated_with():
    assert LatentOnly().sampler == EndToEnd(lpips=0.0).sampler == Sampler(num_steps=1, start="zero")
    assert StandardDiffusion().sampler == Sampler(num_steps=25, start="noise")


def test_lpips_without_its_weights_and_negative_weights_are_refused_at_once(tmp_path):
    with pytest.raises(UserError, match="VGG"):
        EndToEnd(vgg_weights=str(tmp_path / "missing.pth"))
    with pytest.raises(UserError, match=r"recipe.l1.*-1"):
        EndToEnd(l1=-1.0, lpips=0.0)
