"""The command line as a user starts it, and the quickstart at a size that takes seconds."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
TINY = ROOT / "tests" / "tiny.yaml"
QUICKSTART = ("--config", str(CONFIGS / "quickstart.yaml"), "--config", str(TINY))
STEPS = 8  # of tiny.yaml
RUN = Path("runs/quickstart")  # in the folder that it is started from
LAST = RUN / "checkpoints" / "last.ckpt"


def start(*args, cwd, module="m2svid"):
    """`python -m m2svid ARGS` in a process group of its own, on one thread so that sums are repeatable."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.Popen(
        [sys.executable, "-m", module, *args],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process, status=0):
    """What the process wrote, once it has ended as expected."""
    output, _ = process.communicate(timeout=300)
    assert process.returncode == status, output
    return output
