"""Independent random numbers for every purpose, each from the run's seed alone."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What numbers are drawn for; keeps equal keys of two purposes apart."""

    BUCKET = 1  # (seed, batch)
    SHARDS = 2  # (seed, dataset, epoch)
    SHUFFLE = 3  # (seed, dataset, rank, worker)
    SAMPLE = 4  # (seed, rank, worker, sample)


def generator(purpose: Purpose, *key: int) -> np.random.Generator:
    """A generator that depends on the purpose and the key and on nothing else."""
    return np.random.default_rng([purpose, *key])
