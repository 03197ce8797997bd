"""Rebuilds the parity fixtures' weights from their `layout.json`, by the rule in the fixtures' README."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


def rebuild_state(layout: dict[str, Any] | Path) -> dict[str, Tensor]:
    """Every tensor of a fixture's checkpoint, float32, by its key without a leading `module.`.

    Args:
        layout: the content of a `layout.json`, or its path.
    """
    if isinstance(layout, Path):
        layout = json.loads(layout.read_text())
    return {key: rebuild_tensor(layout["seed"], key, shape) for key, shape in layout["tensors"].items()}


def rebuild_tensor(seed: int, key: str, shape: list[int]) -> Tensor:
    shared = key.replace("conditioner.embedders.5.", "conditioner.embedders.3.")
    random = np.random.RandomState(zlib.crc32(f"{seed}/{shared}".encode()))
    n = torch.from_numpy(np.asarray(random.standard_normal(shape), dtype=np.float32))
    if len(shape) >= 2:
        return n / math.sqrt(math.prod(shape[1:]))
    if len(shape) == 0 or key.endswith("mix_factor"):
        return n
    return 1 + 0.1 * n if key.endswith("weight") else 0.1 * n
