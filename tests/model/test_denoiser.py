"""Preconditioning against the definition of v-prediction."""

from __future__ import annotations

import torch

from m2svid.model.denoiser import c_noise, denoise


def test_true_velocity_gives_the_clean_latent():
    z, n = torch.randn(2, 3, 4, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.1, 3.0, 700.0])
    s = sigma.view(-1, 1, 1, 1, 1)
    cos, sin = 1 / (1 + s**2).sqrt(), s / (1 + s**2).sqrt()

    def network(x, noise):
        torch.testing.assert_close(x, cos * z + sin * n)  # variance-preserving input
        torch.testing.assert_close(noise, sigma.log() / 4)
        return cos * n - sin * z  # v

    torch.testing.assert_close(denoise(network, z + s * n, sigma), z, rtol=1e-3, atol=1e-4)


def test_from_zero_at_sigma_max_the_network_gives_minus_the_latent():
    x = torch.zeros(1, 2, 3)
    out = denoise(lambda x, noise: torch.ones_like(x), x, torch.tensor([700.0]))
    torch.testing.assert_close(out, -torch.ones_like(x), rtol=2e-6, atol=0)


def test_noise_level_of_the_feed_forward_model():
    torch.testing.assert_close(c_noise(torch.tensor([700.0])), torch.tensor([1.6377701]))
