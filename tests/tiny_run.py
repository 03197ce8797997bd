"""The command line in processes of its own, and the quickstart at a size that takes seconds."""

from __future__ import annotations

import logging
import multiprocessing
import os
import tempfile
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path

import pytest
import torch

from m2svid.cli import main

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
TINY = ROOT / "tests" / "tiny.yaml"
QUICKSTART = ("--config", str(CONFIGS / "quickstart.yaml"), "--config", str(TINY))
STEPS = 8  # of tiny.yaml
RUN = Path("runs/quickstart")  # in the folder that it is started from
LAST = RUN / "checkpoints" / "last.ckpt"


def forks() -> multiprocessing.context.BaseContext:
    """Processes that begin with the training's modules imported, by a server that has done nothing else.

    Sums are repeatable in them, since they calculate on one thread.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["m2svid.training.cli"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", str(ROOT))
        forkserver.ensure_running()
    return context


@dataclass
class Started:
    """A command at work in a process group of its own, and the file that it writes to."""

    process: multiprocessing.process.BaseProcess
    output: Path


def start(*args: str, cwd: Path) -> Started:
    """`python -m m2svid ARGS` in another folder."""
    descriptor, output = tempfile.mkstemp()
    os.close(descriptor)
    process = forks().Process(target=_run, args=(args, cwd, {**os.environ, "COLUMNS": "200"}, output))
    process.start()
    return Started(process, Path(output))


def finish(started: Started, status: int = 0) -> str:
    """What the process wrote, once it has ended as expected."""
    started.process.join(300)
    output = started.output.read_text()
    started.output.unlink()
    assert started.process.exitcode == status, output
    return output


def _run(args: tuple[str, ...], cwd: Path, environment: dict[str, str], output: str) -> None:
    multiprocessing.set_start_method("fork", force=True)  # of its loaders, as in a program that just began
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):  # imported before logging was set up
        logging.getLogger(name).propagate = True
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(1)
    with open(output, "wb", buffering=0) as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    main(args)
