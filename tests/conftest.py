"""What several test files share."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from m2svid.weights.verbs import import_
from tests.parity.rebuild import HEADS, rebuild_state
from tests.tiny_run import QUICKSTART, finish, start


@dataclass
class FittedRun:
    """A run of the tiny quickstart: the folder it was started in, and what it wrote to the terminal."""

    folder: Path
    output: str


@pytest.fixture(scope="session")
def fitted(tmp_path_factory) -> FittedRun:
    folder = tmp_path_factory.mktemp("fitted")
    return FittedRun(folder, finish(start("fit", *QUICKSTART, cwd=folder)))


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
