"""Independent random numbers for every purpose, each from the run's seed alone."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """The purpose of random numbers; keeps equal keys of two purposes apart."""

    BUCKET = 1  # (seed, batch)
    SHARDS = 2  # (seed, dataset, epoch)
    SHUFFLE = 3  # (seed, dataset, rank, worker)
    SAMPLE = 4  # (seed, rank, worker, sample)


def generator(purpose: Purpose, *key: int) -> np.random.Generator:
    """A generator that depends on the purpose and the key and on nothing else."""
    return np.random.default_rng([purpose, *key])


def seeded(device: torch.device, *words: int) -> torch.Generator:
    """A generator of torch that depends on the words and on nothing else.

    Args:
        device: of the numbers.
        words: seed and key.
    """
    mixed = 0
    for word in words:
        mixed = (mixed * 0x9E3779B97F4A7C15 + word + 1) % 2**63
    return torch.Generator(device=device).manual_seed(mixed)
