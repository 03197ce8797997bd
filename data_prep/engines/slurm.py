"""A Slurm array: every job of it takes its share of the videos and works on it with local processes."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from typing import TypeVar

from m2svid.errors import UserError

T = TypeVar("T")


def array_share() -> tuple[int, int]:
    """Which job of the array this is, from 0, and how many there are.

    Raises:
        UserError: this is no job of an array.
    """
    try:
        index, first, last, step = (
            int(os.environ[f"SLURM_ARRAY_TASK_{name}"]) for name in ("ID", "MIN", "MAX", "STEP")
        )
    except KeyError as error:
        command = (
            shlex.join(["python", "-m", *sys.orig_argv[sys.orig_argv.index("-m") + 1 :]])
            if "-m" in sys.orig_argv
            else "..."
        )
        raise UserError(
            "--engine slurm runs in the jobs of an array, and this is none; submit it, for example with "
            f"sbatch --array=0-99 --cpus-per-task=8 --requeue --wrap {shlex.quote(command)}"
        ) from error
    return (index - first) // step, (last - first) // step + 1


def share_of(items: Sequence[T], index: int, count: int) -> list[T]:
    """The items of one job: every `count`-th one."""
    return list(items[index::count])
