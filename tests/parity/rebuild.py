"""The parity fixtures: weights, rebuilt by rule, and what the published implementation makes of its inputs.

Both fixtures have the tensors of `fixtures/layout.json.gz`, from their own seeds. Each tensor is normal
numbers from a generator seeded by seed and key (`conditioner.embedders.5.` as its equal copy 3), scaled
by 1 / sqrt(fan-in) where it has two dimensions or more, and around 1 for other weights.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

FIXTURES = Path(__file__).parent / "fixtures"
LAYOUT = FIXTURES / "layout.json.gz"
SEEDS = {"tiny_full_attention": 11, "tiny_factorized": 12}
HEADS = {"head_channels": 16, "clip_heads": 4}
"""Sizes of the fixtures that no shape tells."""


def rebuild_state(fixture: str) -> dict[str, Tensor]:
    """Every tensor of a fixture's checkpoint, float32, by its key without a leading `module.`.

    Args:
        fixture: one of `SEEDS`.
    """
    tensors = json.loads(gzip.decompress(LAYOUT.read_bytes()))["tensors"]
    return {key: rebuild_tensor(SEEDS[fixture], key, shape) for key, shape in tensors.items()}


def inputs_and_outputs(fixture: str) -> dict[str, Tensor]:
    """What the published code was given and gave, T frames first; of `clip_pixels` every 7th pixel."""
    return load_file(FIXTURES / f"{fixture}.safetensors")


def rebuild_tensor(seed: int, key: str, shape: list[int]) -> Tensor:
    shared = key.replace("conditioner.embedders.5.", "conditioner.embedders.3.")
    random = np.random.RandomState(zlib.crc32(f"{seed}/{shared}".encode()))
    n = torch.from_numpy(np.asarray(random.standard_normal(shape), dtype=np.float32))
    if len(shape) >= 2:
        return n / math.sqrt(math.prod(shape[1:]))
    if len(shape) == 0 or key.endswith("mix_factor"):
        return n
    return 1 + 0.1 * n if key.endswith("weight") else 0.1 * n
