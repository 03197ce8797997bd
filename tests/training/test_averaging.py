"""Averaged weights against averages by hand, and what continues and opens their checkpoints."""

import functools
import logging

import pytest
import torch
from lightning.pytorch import Callback

from m2svid import M2SVid
from m2svid.errors import UserError
from m2svid.training.averaging import CURRENT, AverageWeights
from tests.tiny_module import fit, make_module, some_batches

NAME = "model.unet.conv_in.weight"


class Noting(Callback):
    """Notes the weight before the first step and after each one."""

    def __init__(self):
        self.weights = []

    def on_train_start(self, trainer, pl_module):
        self.weights.append(pl_module.get_parameter(NAME).detach().clone())

    def on_train_batch_end(self, trainer, pl_module, *args):
        self.weights.append(pl_module.get_parameter(NAME).detach().clone())


def run(folder, *callbacks, first=0, steps=4, **options):
    """The last checkpoint of a run, whose data begin with batch `first`."""
    folder.mkdir(exist_ok=True)
    module = make_module(optimizer=functools.partial(torch.optim.AdamW, lr=0.1))
    fit(module, folder, some_batches(4)[first:], steps=steps, callbacks=callbacks, **options)
    return torch.load(folder / f"step={steps}.ckpt", weights_only=True)


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    """A run with averages: folder, weights by step, last checkpoint."""
    folder, noting = tmp_path_factory.mktemp("averaged"), Noting()
    return folder, noting.weights, run(folder, AverageWeights(0.25), noting)


def test_averages_are_those_by_hand(averaged):
    """Their share is bounded by the decay from step 2 on, where (1 + 2) / (10 + 2) reaches it."""
    _, (expected, *weights), saved = averaged
    for share, weight in zip((2 / 11, 0.25, 0.25, 0.25), weights, strict=True):
        expected = share * expected + (1 - share) * weight
    torch.testing.assert_close(saved["state_dict"][NAME], expected)
    assert torch.equal(saved[CURRENT][NAME], weights[-1])
    assert set(saved["state_dict"]) == set(saved[CURRENT]) == set(make_module().state_dict())
    assert saved["model_card"]["averaged"] == 0.25


def test_a_continued_run_is_as_if_it_had_not_been_interrupted(averaged, tmp_path):
    folder, _, whole = averaged
    rest = run(tmp_path, AverageWeights(0.25), first=2, ckpt_path=folder / "step=2.ckpt")
    for entry in ("state_dict", CURRENT, "optimizer_states"):
        torch.testing.assert_close(rest[entry], whole[entry], rtol=0, atol=0)


def test_a_run_goes_on_from_its_own_weights_without_averages(averaged, tmp_path):
    folder, weights, _ = averaged
    rest = run(tmp_path, first=2, ckpt_path=folder / "step=2.ckpt")
    assert torch.equal(rest["state_dict"][NAME], weights[-1])
    assert CURRENT not in rest and rest["model_card"]["averaged"] is None


def test_averages_begin_with_the_weights_of_a_checkpoint_without_them(averaged, tmp_path):
    _, weights, _ = averaged
    run(tmp_path / "plain", steps=2)
    rest = run(tmp_path / "rest", AverageWeights(0), first=2, ckpt_path=tmp_path / "plain" / "step=2.ckpt")
    assert torch.equal(rest["state_dict"][NAME], weights[-1])  # with decay 0, the averages are the weights


def test_what_opens_a_checkpoint_gets_the_averages_and_says_so(averaged, caplog):
    folder, _, saved = averaged
    with caplog.at_level(logging.INFO):
        opened = M2SVid.from_pretrained(folder / "step=4.ckpt")
        started = make_module(init_unet=str(folder / "step=4.ckpt"))
    for unet in (opened.unet, started.model.unet):
        assert torch.equal(unet.conv_in.weight, saved["state_dict"][NAME])
    assert "averaged over the steps of training with decay 0.25" in caplog.text
    assert "(step 4, averaged)" in caplog.text


def test_validation_sees_the_averages_and_leaves_the_weights(tmp_path):
    seen = []

    class Validate(Callback):
        def on_train_batch_end(self, trainer, module, *args):
            for hook in (average.on_validation_start, average.on_validation_epoch_end):
                hook(trainer, module)
                seen.append(module.get_parameter(NAME).detach().clone())

    average, noting = AverageWeights(0.25), Noting()
    saved = run(tmp_path, average, noting, Validate(), steps=2)
    assert torch.equal(seen[-2], saved["state_dict"][NAME])
    assert torch.equal(seen[-1], noting.weights[-1]) and not torch.equal(*seen[-2:])


def test_a_wrong_decay_is_named():
    with pytest.raises(UserError, match="decay=1 must be"):
        AverageWeights(1)
