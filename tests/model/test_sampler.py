"""The sampler against diffusers' noise levels and solutions known in closed form."""

from __future__ import annotations

import pytest
import torch
from diffusers import EulerDiscreteScheduler

from m2svid.errors import UserError
from m2svid.model.sampler import Sampler


def test_full_spacing_is_diffusers():
    theirs = EulerDiscreteScheduler(
        use_karras_sigmas=True,
        sigma_min=0.002,
        sigma_max=700.0,
        timestep_type="continuous",
        prediction_type="v_prediction",
    )
    theirs.set_timesteps(8)
    torch.testing.assert_close(Sampler(num_steps=8, spacing="full").sigmas(), theirs.sigmas)


def test_trailing_spacing_leaves_out_the_last_level():
    longer = Sampler(num_steps=6, spacing="full").sigmas()
    assert torch.equal(Sampler(num_steps=5).sigmas()[:5], longer[:5])
    assert Sampler(num_steps=5).sigmas()[5] == 0


def test_one_step_from_zero_is_the_denoiser_at_sigma_max():
    target = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))

    def denoise(x, sigma):
        assert torch.equal(x, torch.zeros(2, 3))
        assert sigma.tolist() == [700, 700]
        return target

    assert torch.equal(Sampler()(denoise, (2, 3), "cpu"), target)


def test_many_steps_follow_the_probability_flow():
    """Of unit-variance data D(x; σ) = x / (1 + σ²), and the flow's solution is x ∝ √(1 + σ²)."""
    seen = []

    def denoise(x, sigma):
        seen.append(x)
        return x / (1 + sigma[0] ** 2)

    out = Sampler(num_steps=2000, start="noise")(denoise, (1, 4000), "cpu", torch.Generator().manual_seed(0))
    torch.testing.assert_close(out, seen[0] / (1 + 700.0**2) ** 0.5, rtol=0.01, atol=0)
    assert abs(out.std() - 1) < 0.05


def test_begins_from_known_frames_by_hand():
    sampler = Sampler(start="noise", sigma_max=3.0)
    noise = torch.tensor([[1.0, -2.0, 0.5]])
    x = sampler.begin(noise, known=torch.tensor([[10.0, 20.0]]))
    torch.testing.assert_close(x, torch.tensor([[10 + 3.0, 20 - 6.0, 0.5 * 10**0.5]]))
    torch.testing.assert_close(sampler.begin(noise), noise * 10**0.5)
    seen = []
    sampler(lambda x, sigma: seen.append(x) or x, (1, 3), "cpu", x=x)
    assert torch.equal(seen[0], x)


def test_seeded():
    def start(seed):
        return Sampler(start="noise")(lambda x, sigma: x, (1, 5), "cpu", torch.Generator().manual_seed(seed))

    assert torch.equal(start(1), start(1))
    assert not torch.equal(start(1), start(2))


@pytest.mark.parametrize(
    "options",
    [
        {"num_steps": 0},
        {"start": "nose"},
        {"spacing": "leading"},
        {"sigma_min": 0},
        {"sigma_max": 0.001},
        {"rho": 0},
    ],
)
def test_wrong_options_are_refused(options):
    name, value = next(iter(options.items()))
    with pytest.raises(UserError, match=f"{name}={value!r}"):
        Sampler(**options)
