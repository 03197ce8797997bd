"""The module's checkpoints, randomness and evaluation steps, without a trainer where none is needed."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from m2svid.errors import UserError
from m2svid.model.sampler import Sampler
from m2svid.recipes import LatentOnly, Loss, Recipe, StandardDiffusion
from m2svid.training.backbone import SmallRandom
from m2svid.training.module import M2SVidModule
from m2svid.weights.mismatch import MismatchError
from tests.tiny_module import fit, make_batch, make_module, some_batches


def at_rank(module, rank):
    """What the module asks its trainer for."""
    module._trainer = SimpleNamespace(global_rank=rank)
    return module


def training_loss(module, batch):
    module.log = module.log_dict = lambda *args, **kwargs: None
    return module.training_step(batch, 0).item()


def test_only_the_unet_is_trained_and_saved():
    module = make_module()
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert (
        trained
        == set(module.state_dict())
        == {f"model.unet.{name}" for name in module.model.unet.state_dict()}
    )
    (group,) = module.configure_optimizers()["optimizer"].param_groups
    assert group["lr"] == 2e-6  # the paper's
    assert {id(p) for p in group["params"]} == {id(p) for p in module.model.unet.parameters()}


def test_what_an_optimizer_refuses_is_told_by_its_option():
    module = make_module(optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=-1.0))
    with pytest.raises(UserError, match=r"^model\.optimizer: Invalid learning rate: -1\.0$"):
        module.configure_optimizers()


def test_a_schedule_goes_by_steps():
    module = make_module(lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer))
    scheduler = module.configure_optimizers()["lr_scheduler"]
    assert scheduler["interval"] == "step"
    assert isinstance(scheduler["scheduler"], torch.optim.lr_scheduler.ConstantLR)


def test_weights_survive_a_checkpoint():
    written, read = make_module(seed=1), make_module(seed=2)
    key = "model.unet.conv_in.weight"
    assert not torch.equal(written.state_dict()[key], read.state_dict()[key])
    read.load_state_dict(written.state_dict())
    for name, tensor in written.state_dict().items():
        assert torch.equal(tensor, read.state_dict()[name])


def test_a_checkpoint_of_another_model_is_refused_with_lists():
    module = make_module()
    state = module.state_dict()
    conv_out = state.pop("model.unet.conv_out.bias")
    state["model.unet.conv_out.scale"] = conv_out
    with pytest.raises(MismatchError, match="same backbone and conditioning") as refused:
        module.load_state_dict(state)
    assert refused.value.missing == ["model.unet.conv_out.bias"]
    assert refused.value.unexpected == ["model.unet.conv_out.scale"]
    assert not refused.value.misshapen
    other = make_module(conditioning=("warped", "mask"))
    with pytest.raises(MismatchError) as refused:
        other.load_state_dict(module.state_dict())
    assert refused.value.misshapen == {"model.unet.conv_in.weight": ((32, 145, 3, 3), (32, 97, 3, 3))}


def test_init_unet_takes_the_weights_alone(tmp_path, caplog):
    written, path = make_module(seed=1), tmp_path / "trained.ckpt"
    torch.save({"state_dict": written.state_dict(), "global_step": 7}, path)
    with caplog.at_level(logging.INFO, "m2svid"):
        module = make_module(seed=2, init_unet=str(path))
    assert f"U-Net weights from {path} (step 7)" in caplog.text
    for name, tensor in written.state_dict().items():
        assert torch.equal(tensor, module.state_dict()[name])
    with pytest.raises(UserError, match="does not fit the model"):
        make_module(conditioning=("warped", "mask"), init_unet=str(path))
    with pytest.raises(UserError, match="init_unet: there is no file"):
        make_module(init_unet=str(tmp_path / "none.ckpt"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"conditioning": ("left", "wraped", "mask")}, "conditioning.*wraped"),
        ({"conditioning": ()}, "conditioning"),
        ({"noise_aug": -0.1}, "model.noise_aug.*-0.1"),
        ({"metrics": ("psnr", "lpips"), "vgg_weights": "none.pth"}, "none.pth.*--model.metrics"),
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(options, sentence):
    with pytest.raises(UserError, match=sentence):
        make_module(**options)


def test_the_randomness_of_a_step_depends_on_seed_rank_and_batch_alone():
    batch = make_batch(index=5)
    losses = {}
    for place in ((0, 0, 5), (1, 0, 5), (0, 1, 5), (0, 0, 6)):
        seed, rank, index = place
        module = at_rank(make_module(seed=3), rank)
        module.seed = seed
        torch.manual_seed(sum(place))  # of no consequence
        losses[place] = training_loss(module, replace(batch, index=index))
    assert len(set(losses.values())) == 4
    again = at_rank(make_module(seed=3), 0)
    training_loss(again, make_batch(index=1))  # nor is what came before
    assert training_loss(again, batch) == losses[0, 0, 5]


@pytest.mark.parametrize(
    "recipe",
    [LatentOnly(), StandardDiffusion(sampler=Sampler(2, "noise"))],
    ids=["one step", "two from noise"],
)
def test_a_prediction_depends_on_the_clip_alone(recipe):
    """Neither on its process, nor on the clips beside it, nor on training before."""
    batch = make_batch(("made/a", "made/b"))
    module = at_rank(make_module(recipe=recipe, noise_aug=0.2), 0)
    both = module.predict(batch)
    assert both.shape == batch.left.shape and both.min() >= 0 and both.max() <= 1
    alone = at_rank(make_module(recipe=recipe, noise_aug=0.2), 1)
    training_loss(alone, batch)
    second = replace(flipped(batch).clip(0), keys=("made/b",))
    torch.testing.assert_close(alone.predict(second)[0], both[1], rtol=0, atol=2e-6)
    assert not torch.equal(module.predict(replace(batch, keys=("made/c", "made/b")))[0], both[0])


def flipped(batch):
    views = {name: getattr(batch, name).flip(0) for name in ("left", "warped", "hole", "fps", "right")}
    return replace(batch, **views, keys=batch.keys[::-1])


def test_prediction_leaves_no_gradients_and_training_returns_to_training_mode():
    module = at_rank(make_module(), 0)
    assert not module.predict(make_batch()).requires_grad
    assert not module.model.unet.training
    training_loss(module, make_batch())
    assert module.model.unet.training and not module.model.training


@pytest.mark.parametrize("content", [b"", b"no checkpoint"])
def test_a_file_that_is_no_checkpoint_is_refused_by_name(tmp_path, content):
    path = tmp_path / "other.ckpt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"model.init_unet: .*other.ckpt is no checkpoint"):
        make_module(init_unet=str(path))


class Exploding(Recipe):
    """A loss that is finite in the first steps only."""

    def __init__(self, good=0):
        super().__init__(Sampler())
        self.good = good

    def loss(self, model, batch, condition, generator):
        total = model.unet.conv_in.weight.square().mean()
        if batch.index >= self.good:
            total = total * float("nan")
        return Loss(total, {"latent": total, "l1": total * 0 + 1})


def test_a_loss_that_is_not_finite_ends_the_run_before_the_weights_change(tmp_path):
    module = make_module(recipe=Exploding(good=2), optimizer=lambda p: torch.optim.SGD(p, 0.1))
    sentence = r"loss of step 3 isn't finite \(clips made/2: latent nan, l1 nan\): .*model\.optimizer.*lr"
    with pytest.raises(UserError, match=sentence):
        fit(module, tmp_path, some_batches(4))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step=1.ckpt", "step=2.ckpt"]
    saved = torch.load(tmp_path / "step=2.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(saved[name], tensor) for name, tensor in module.state_dict().items())
    assert all(tensor.isfinite().all() for tensor in saved.values())


def test_accumulated_gradients_name_the_clips_whose_loss_is_not_finite(tmp_path):
    module = make_module(recipe=Exploding(good=1))
    with pytest.raises(UserError, match=r"loss of step 1 isn't finite \(clips made/1: [^;]*\): "):
        fit(module, tmp_path, some_batches(2), accumulate_grad_batches=2)


def test_a_gradient_that_is_not_finite_ends_the_run_too(tmp_path):
    """The loss overflows in the backward pass only."""
    module = make_module(recipe=Exploding(good=9))
    module.model.unet.conv_in.weight.register_hook(lambda grad: grad * float("inf"))
    with pytest.raises(UserError, match=r"gradient of step 1 isn't finite \(clips made/0: latent 0\.\d+"):
        fit(module, tmp_path, some_batches(1))


def test_the_norm_of_the_gradient_is_logged_before_it_is_clipped(tmp_path):
    module = make_module(recipe=Exploding(good=9), optimizer=lambda p: torch.optim.SGD(p, 0.0))
    trainer = fit(module, tmp_path, some_batches(1), gradient_clip_val=1e-6)
    weights = module.model.unet.conv_in.weight
    expected = (2 * weights / weights.numel()).norm()  # of the mean square
    assert trainer.callback_metrics["train/grad_norm"] == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("part", ["vae", "image_encoder"])
def test_vae_and_clip_are_frozen_and_in_evaluation_mode(part):
    class Tiny(SmallRandom):
        def build(self, conditioning, attention):
            model = super().build(conditioning, attention)
            setattr(model, part, torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout()))
            return model.requires_grad_(True).train()

    module = M2SVidModule(Tiny((32,)), recipe=LatentOnly(), metrics=("psnr",))
    frozen = getattr(module.model, part)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    assert not any(each.training for each in frozen.modules())
    assert all(parameter.requires_grad for parameter in module.model.unet.parameters())


@pytest.mark.parametrize("sampler", [Sampler(), Sampler(num_steps=3, start="noise")])
def test_a_prediction_is_made_with_the_recipes_sampler_and_the_noise_level(sampler, monkeypatch):
    recipe = Exploding()
    recipe.sampler = sampler
    module = at_rank(make_module(recipe=recipe, noise_aug=0.3), 0)
    given = {}
    monkeypatch.setattr(module.model, "predict", lambda batch, **options: given.update(options))
    module.predict(make_batch())
    assert given["sampler"] is sampler and given["noise_aug"] == 0.3


def test_nothing_of_the_sanity_check_is_measured(tmp_path):
    module = make_module()
    measured = []
    module.evaluation.finish = lambda folder, name: measured.append(name) or {}
    module._trainer = SimpleNamespace(sanity_checking=True)
    module.on_validation_epoch_end()
    assert not measured


class Child(torch.nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module


def test_a_module_around_it_keeps_and_loads_the_trained_parameters_only():
    """As strategies and weight averaging do."""
    module = make_module(seed=1)
    module.recipe.extra = torch.nn.Linear(2, 2)  # in the place of VGG
    state = Child(module).state_dict()
    assert set(state) == {f"module.model.unet.{name}" for name in module.model.unet.state_dict()}
    other = make_module(seed=2)
    other.recipe.extra = torch.nn.Linear(2, 2)
    Child(other).load_state_dict(state)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])
    del state["module.model.unet.conv_in.bias"]
    with pytest.raises(RuntimeError, match=r"conv_in\.bias"):
        Child(other).load_state_dict(state)
