"""Files as they are published, at the parity fixtures' size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from m2svid.model.weights.verbs import import_
from tests.parity.rebuild import HEADS, rebuild_state


@pytest.fixture(scope="session")
def published_state() -> dict[str, Tensor]:
    return rebuild_state("tiny_full_attention")


@pytest.fixture(scope="session")
def published_file(published_state, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("published") / "m2svid_weights.pt"
    torch.save({"module": {f"module.{key}": tensor for key, tensor in published_state.items()}}, path)
    return path


@pytest.fixture(scope="session")
def folder(published_file, tmp_path_factory) -> Path:
    """The published file, imported."""
    path = tmp_path_factory.mktemp("imported") / "model"
    import_(str(published_file), output=str(path), **HEADS)
    return path
