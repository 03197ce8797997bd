"""What several test files share."""

from dataclasses import dataclass
from pathlib import Path

import pytest

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
