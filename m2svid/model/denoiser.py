"""Preconditioning of v-prediction with EDM noise levels (REFERENCE "Denoising"; Karras et al. 2022, Table 1).

D(x; σ) = c_skip·x + c_out·F(c_in·x; c_noise).

Shapes: B clips; σ is (B,), x is (B, ...).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def c_skip(sigma: Tensor) -> Tensor:
    return 1 / (sigma**2 + 1)


def c_out(sigma: Tensor) -> Tensor:
    return -sigma / (sigma**2 + 1).sqrt()


def c_in(sigma: Tensor) -> Tensor:
    return 1 / (sigma**2 + 1).sqrt()


def c_noise(sigma: Tensor) -> Tensor:
    return sigma.log() / 4


def denoise(network: Callable[[Tensor, Tensor], Tensor], x: Tensor, sigma: Tensor) -> Tensor:
    """D(x; σ), the network's estimate of the clean latent, in x's dtype.

    Args:
        network: F, called with c_in·x and c_noise (B,).
        x: (B, ...) latent with noise of level σ.
        sigma: (B,) noise levels > 0.
    """
    shape = (-1, *(1,) * (x.ndim - 1))
    s = sigma.view(shape)
    output = network(c_in(s) * x, c_noise(sigma))
    return c_skip(s) * x + c_out(s) * output.to(x.dtype)
