"""Euler sampler with trailing EDM spacing (REFERENCE "Denoising"; Karras et al. 2022, Eq. 5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, get_args

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from m2svid.errors import UserError

Start = Literal["zero", "noise"]
Spacing = Literal["trailing", "full"]


@dataclass(frozen=True)
class Sampler:
    """Turn the denoiser into latents, in one or several steps.

    Args:
        num_steps: network evaluations. 1 from "zero" is the paper's feed-forward prediction (Eq. 4).
        start: "zero" for models trained end to end or on the latent loss, "noise" for standard diffusion.
        sigma_min: smallest noise level of the spacing.
        sigma_max: first noise level.
        rho: curvature of the spacing.
        spacing: "trailing" leaves out σ_min, which would be the last level; "full" ends with it, as
            diffusers.
    """

    num_steps: int = 1
    start: Start = "zero"
    sigma_min: float = 0.002
    sigma_max: float = 700.0
    rho: float = 7.0
    spacing: Spacing = "trailing"

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise UserError(f"num_steps={self.num_steps} must be at least 1")
        if self.start not in get_args(Start):
            raise UserError(f"start={self.start!r} must be one of {', '.join(get_args(Start))}")
        if not 0 < self.sigma_min < self.sigma_max:
            raise UserError(f"sigma_min={self.sigma_min} must lie between 0 and sigma_max={self.sigma_max}")
        if self.rho <= 0:
            raise UserError(f"rho={self.rho} must be greater than 0")
        if self.spacing not in get_args(Spacing):
            raise UserError(f"spacing={self.spacing!r} must be one of {', '.join(get_args(Spacing))}")

    def with_steps(self, num_steps: int | None) -> Sampler:
        """The same sampler with another number of steps; None keeps its own."""
        return self if num_steps is None else replace(self, num_steps=num_steps)

    @property
    def feed_forward(self) -> Sampler:
        """One step from zero at σ_max: the prediction that one-step models are trained with (paper Eq. 4)."""
        return replace(self, num_steps=1, start="zero")

    def sigmas(self) -> Tensor:
        """(num_steps + 1,) float32 noise levels from σ_max down; 0 ends them."""
        points = self.num_steps + 1 if self.spacing == "trailing" else self.num_steps
        u = torch.linspace(0, 1, points, dtype=torch.float64)[: self.num_steps]
        high, low = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        levels = (high + u * (low - high)) ** self.rho
        return torch.cat([levels, levels.new_zeros(1)]).float()

    def __call__(
        self,
        denoise: Callable[[Tensor, Tensor], Tensor],
        shape: Sequence[int],
        device: torch.device | str,
        generator: torch.Generator | list[torch.Generator] | None = None,
        x: Tensor | None = None,
    ) -> Tensor:
        """Sample float32 latents.

        Args:
            denoise: D(x; σ) with x of `shape` and σ (B,).
            shape: (B, ...) of the latents.
            device: where to sample.
            generator: of the starting noise, or a list of one for each clip; None = the default one. Not used
                with start "zero".
            x: noisy latents to begin with, see `begin`; None = as `start` says.
        """
        sigmas = self.sigmas().to(device)
        if x is None:
            x = self._start(shape, sigmas, generator)
        for sigma, next_sigma in pairwise(sigmas):
            clean = denoise(x, sigma.expand(shape[0]))
            x = clean + (x - clean) * (next_sigma / sigma)
        return x

    def begin(self, noise: Tensor, known: Tensor | None = None) -> Tensor:
        """Noisy latents of the first level.

        Args:
            noise: (B, T, ...) of unit variance.
            known: (B, K, ...), K ≤ T, clean latents from which the first K frames begin; None = no frame.
                The others begin with noise alone, of the same variance as unit-variance data with noise.
        """
        sigma = self.sigmas()[0].to(noise.device)
        x = noise * (sigma**2 + 1).sqrt()
        if known is not None:
            shared = slice(known.shape[1])
            x[:, shared] = known + noise[:, shared] * sigma
        return x

    def _start(
        self, shape: Sequence[int], sigmas: Tensor, generator: torch.Generator | list[torch.Generator] | None
    ) -> Tensor:
        if self.start == "zero":
            return sigmas.new_zeros(tuple(shape))
        return self.begin(randn_tensor(tuple(shape), generator=generator, device=sigmas.device))
