"""Command lines that the page starts for runs: evaluate a checkpoint, make the report of some runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from m2svid.errors import UserError
from m2svid.evaluation.results import MODEL
from m2svid.training.runs import RUNS
from m2svid.ui.run_folders import RunFolders, Scores

_MEASURED_BY = {"validate": "val", "test": "test"}


def evaluate(runs: RunFolders, name: str, verb: str, checkpoint: str) -> list[str]:
    """The words that measure a checkpoint of a run.

    Args:
        runs: all runs.
        name: of the run.
        verb: validate or test.
        checkpoint: its file name.

    Raises:
        UserError: it is not there, or a command started here would look for the run elsewhere.
    """
    if verb not in _MEASURED_BY:
        raise UserError(f"a checkpoint is measured by {' or '.join(_MEASURED_BY)}, not {verb!r}")
    if runs.folder.resolve() != RUNS.resolve():
        raise UserError(
            f"{runs.folder} is not the folder `{RUNS}` in which {verb} looks for runs: start the page in "
            f"{runs.folder.parent}"
        )
    found = {each["name"]: each for each in runs.checkpoints(name)}
    if checkpoint not in found:
        raise UserError(f"the run {name} has no checkpoint {checkpoint!r}")
    words = [verb, "--run", name]
    if not found[checkpoint]["last"]:
        words += ["--ckpt_path", str(RUNS / name / "checkpoints" / checkpoint)]
    return words


def report(runs: RunFolders, names: Sequence[str], output: Path) -> list[str]:
    """The words that make the report of some runs, of their newest tests, else of their newest validations.

    A method that several runs have measured, such as a baseline, is taken from the first of them.

    Args:
        runs: all runs.
        names: of those that are compared.
        output: folder of the report.

    Raises:
        UserError: a run has no results, or several of one method.
    """
    scores = {name: runs.scores(name)[0] for name in names}
    stage = next(
        (
            stage
            for stage in ("test", "val")
            if scores and all(any(each.stage == stage for each in found) for found in scores.values())
        ),
        None,
    )
    if stage is None:
        raise UserError(
            "the runs have no results of one kind: test each of them, or validate each, or choose others"
        )
    chosen: dict[tuple[str, str], str] = {}  # (method, dataset) -> NAME=PATH
    for name, found in scores.items():
        for label, each in _newest(name, [each for each in found if each.stage == stage]).items():
            chosen.setdefault(label, f"{label[0]}={runs.results(name, each.file)}")
    return ["report", *chosen.values(), "--output", str(output)]


def _newest(name: str, scores: Sequence[Scores]) -> dict[tuple[str, str], Scores]:
    """Results of the largest step by method and dataset; the trained model has the run's name."""
    step = max(each.step for each in scores)
    found: dict[tuple[str, str], Scores] = {}
    for each in (each for each in scores if each.step == step):
        label = (name if each.method == MODEL else each.method, each.dataset)
        if label in found:
            raise UserError(
                f"the run {name} has several results of {each.method} on {each.dataset}, {found[label].file} "
                f"and {each.file}: make the report by the command line, which takes files"
            )
        found[label] = each
    return found
