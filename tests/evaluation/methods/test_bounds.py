"""The bounds, and models of M2SVid's kind, as rows beside each other."""

import pytest
import torch

from m2svid.errors import UserError
from m2svid.evaluation.methods import (
    Filled,
    LeftCopied,
    RoundTrip,
    Trained,
    TrainedModel,
    Truth,
    Warped,
    Weights,
)
from m2svid.model.m2svid import M2SVid
from m2svid.model.sampler import Sampler
from tests.evaluation.methods.clips import make_clip


@pytest.fixture(scope="module")
def model(folder):
    return M2SVid.from_pretrained(folder, attention="factorized")


@pytest.fixture(scope="module")
def predict(model):
    clip = make_clip()

    def predicted(method, sampler=Sampler()):  # noqa: B008 (frozen)
        method.prepare(Trained(model, sampler, 0.02), torch.device("cpu"))
        return method.predict(clip, torch.Generator().manual_seed(3)), clip

    return predicted


def test_bounds_without_weights(predict):
    for method, name in ((LeftCopied(), "left"), (Warped(), "warped"), (Truth(), "right")):
        right, clip = predict(method)
        assert torch.equal(right, getattr(clip, name))
    right, clip = predict(Filled())
    assert torch.equal(right * ~clip.hole, clip.warped)
    assert (right.masked_select(clip.hole) > 0).any()


@pytest.mark.parametrize("named", [False, True], ids=["trained model's", "named"])
@torch.no_grad()
def test_the_round_trip_is_diffusers_autoencoder(predict, folder, model, named):
    right, clip = predict(RoundTrip(str(folder) if named else None))
    vae = model.vae.model
    latent = vae.encode(clip.right[0] * 2 - 1).latent_dist.mode()
    expected = (vae.decode(latent, num_frames=len(latent)).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(right[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("steps", [None, 1, 3])
def test_the_trained_model_in_other_steps(predict, model, steps):
    method = TrainedModel(steps)
    right, clip = predict(method, Sampler(num_steps=2))
    assert method.name == ("model" if steps is None else f"model_{steps}")
    sampler = Sampler(num_steps=steps or 2)
    expected = model.predict(clip, sampler, 0.02, generator=torch.Generator().manual_seed(3))
    assert torch.equal(right, expected)


def test_weights_are_run_as_they_say(predict, folder, model):
    method = Weights(str(folder), "released", attention="factorized")
    right, clip = predict(method, Sampler(num_steps=5))  # another model's sampler
    assert torch.equal(right, model.predict(clip, Sampler(), 0.02, generator=torch.manual_seed(3)))
    assert method.describe() == {
        "class": "m2svid.evaluation.methods.models.Weights",
        "warp": "m2svid",
        "steps": 1,
        "licence": "",
        "weights": str(folder),
        "checksums": {},
    }


def test_weights_that_are_missing_are_named_with_their_method(predict):
    with pytest.raises(UserError, match=r"method released: .*nowhere\.pt"):
        predict(Weights("nowhere.pt", "released"))
