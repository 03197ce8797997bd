"""The verb `table`: train, measure and show the rows of one of the paper's tables."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

import torch
import yaml
from jsonargparse import ArgumentParser
from rich.console import Console

from m2svid.errors import UserError
from m2svid.evaluation.methods import Method
from m2svid.evaluation.results import MODEL, Results
from m2svid.files import whole
from m2svid.synthetic.networks import make_networks
from m2svid.training.runs import CONFIG, LAST, RUNS

log = logging.getLogger(__name__)

# Rows are overlays in configs/experiment; some are other evaluations of weights that another row trains.
MAIN = ("table1_svg", "table1_stereocrafter_25", "table1_stereocrafter_1", "table1_m2svid")
INPUTS = (
    "table4_diffusion_warped_mask",
    "table4_diffusion_left_warped_mask",
    "table4_warped_mask",
    "table4_left_warped_mask",
    "table4_full_attention",
)
LOSSES = ("table5_a", "table5_b", "table5_c", "table5_d")
STEPS = tuple(f"table10_{training}_{steps}" for training in ("diffusion", "e2e") for steps in (1, 5, 25))
TABLES = {1: MAIN, 4: INPUTS, 5: LOSSES, 6: MAIN, 7: INPUTS, 8: LOSSES, 10: STEPS}
TRAINED_AS = {
    "table1_m2svid": "table4_full_attention",
    "table4_diffusion_left_warped_mask": "table5_a",
    "table4_left_warped_mask": "table5_d",
    "table5_b": "table5_a",
} | {row: "table5_a" if "diffusion" in row else "table5_d" for row in STEPS}
REGIONS = {6: ("inside", "outside"), 7: ("inside",), 8: ("inside",)}  # beside the full view

WEIGHTS = "m2svid.evaluation.methods.Weights"
NETWORKS = RUNS / "quickstart" / "networks"
SMALL: dict[str, dict[str, Any]] = {
    "m2svid.evaluation.methods.StereoCrafter": {
        "path": str(NETWORKS / "stereocrafter" / "unet_diffusers"),
        "backbone": str(NETWORKS / "svd"),
    },
    "m2svid.evaluation.methods.SVG": {
        "path": str(NETWORKS / "zeroscope"),
        "vae": str(NETWORKS / "svd"),
        "num_views": 3,
        "schedule": {"num_steps": 10, "rounds": 2, "last_rounds": 1},
    },
}
"""Arguments of published methods at small size: random networks, fewer steps, rounds and views."""


def table(
    number: int,
    small: bool = False,
    seeds: list[int] | None = None,
    weights: dict[str, str] | None = None,
    overlays: list[Path] | None = None,
    regions: Literal["painted", "masked"] = "painted",
    films: bool = False,
    configs: Path = Path("configs"),
) -> None:
    """Train, measure and show the rows of a table of the paper.

    Models are trained as runs of their own, such as runs/e2e+table5_a, and shared by rows and tables. What is
    there already is kept: a finished run isn't trained again, a stopped one continues, and rows aren't
    measured again unless their weights are newer. Results go to a folder in runs/tables that is named after
    the configuration files, for `report`; the table that is shown, to a file there that is named after the
    seeds and regions.

    Args:
        number: 1, 4, 5, 6, 7, 8 or 10.
        small: train the quickstart's models on the procedural world instead of the paper's.
        seeds: train and measure with each; values are means over them. By default 0.
        weights: weights of rows that aren't to be trained, as '{"table1_m2svid": PATH}'.
        overlays: further configuration files, between the base and the rows'.
        regions: values inside and outside the holes (Tables 6 to 8): the paper's, with the rest painted
            white, or those of the region's pixels alone.
        films: keep every row's clips as lossless films, for `report` to show.
        configs: folder of the configuration files.

    Raises:
        UserError: there is no such table, or files are missing; the folder holds results of other weights; or
            a run fails.
    """
    if number not in TABLES:
        raise UserError(f"there is no table {number} to make: choose from {', '.join(map(str, TABLES))}")
    job = _Job(number, small, configs, overlays or [], weights or {}, films)
    plans = {seed: job.plan(seed) for seed in sorted(seeds or [0])}
    results = [job.results(seed, methods, runs) for seed, (methods, runs) in plans.items()]
    text = show(TABLES[number], results, REGIONS.get(number, ()), regions)
    path = job.folder / f"table_seed{'+'.join(map(str, plans))}{'_masked' * (regions == 'masked')}.md"
    with whole(path) as temporary:
        temporary.write_text(text)
    Console().print(text, markup=False, highlight=False, soft_wrap=True)
    log.info("this is %s; `report %s` compares the rows with intervals", path, job.folder)


@dataclass
class _Job:
    """Everything that the command line says about a table."""

    number: int
    small: bool
    configs: Path
    overlays: Sequence[Path]
    weights: dict[str, str]
    films: bool

    def __post_init__(self) -> None:
        self.base = self.configs / ("quickstart.yaml" if self.small else "e2e.yaml")
        rows = TABLES[self.number]
        for path in (self.base, *self.overlays, *map(self.overlay, rows)):
            if not path.is_file():
                raise UserError(f"there is no {path}: start in the repository, or give --configs")
        unknown = sorted(self.weights.keys() - set(rows))
        if unknown:
            raise UserError(f"--weights names {', '.join(unknown)}, but the rows are {', '.join(rows)}")
        self.name = "+".join(path.stem for path in (self.base, *self.overlays))
        self.folder = RUNS / "tables" / f"{self.name}+table{self.number}"

    def overlay(self, row: str) -> Path:
        return self.configs / "experiment" / f"{row}.yaml"

    def plan(self, seed: int) -> tuple[list[dict[str, Any]], dict[str, Path]]:
        """Methods of all rows, and the checkpoint of each row that is trained for them.

        Raises:
            UserError: weights are missing or don't fit, or the seed's folder has results of others.
        """
        options = {row: yaml.safe_load(self.overlay(row).read_text())["model"] for row in TABLES[self.number]}
        trained = {row: TRAINED_AS.get(row, row) for row in options if row not in self.weights}
        trained = {row: name for row, name in trained.items() if "methods" not in options[row]}
        ready = {row: self.untrained(row, model) for row, model in options.items() if row not in trained}
        _check([method for methods in ready.values() for method in methods])
        checkpoints = {name: RUNS / self.run(name, seed) / "checkpoints" / LAST for name in trained.values()}
        methods: list[dict[str, Any]] = []
        for row, model in options.items():
            methods += ready.get(row) or [_weights(row, checkpoints[trained[row]], model)]
        record = self.record(seed)
        if record.exists() and yaml.safe_load(record.read_text())["model"]["methods"] != methods:
            raise UserError(
                f"{record} names other weights than this table's: move {record.parent} away or delete it, "
                "then start the table again"
            )
        return methods, checkpoints

    def run(self, row: str, seed: int) -> str:
        return f"{self.name}+{row}" + (f"+seed{seed}" if seed else "")

    def record(self, seed: int) -> Path:
        """The file that says of which methods the results beside it are."""
        return self.folder / f"seed{seed}" / "methods.yaml"

    def results(
        self, seed: int, methods: list[dict[str, Any]], checkpoints: dict[str, Path]
    ) -> list[Results]:
        """Results of all rows on all datasets, with everything done that they need."""
        for row, checkpoint in checkpoints.items():
            self.train(row, seed, checkpoint)
        return self.measure(methods, list(checkpoints.values()), seed)

    def untrained(self, row: str, model: dict[str, Any]) -> list[dict[str, Any]]:
        """Methods of a row that needs no training: given weights, or those that its overlay names."""
        if row in self.weights:
            return [_weights(row, self.weights[row], model)]
        return [self.published(method, row) for method in model["methods"]]

    def published(self, method: dict[str, Any], row: str) -> dict[str, Any]:
        """A method that an overlay names, under the row's name."""
        given = {**method.get("init_args", {}), "name": row}
        if self.small:
            make_networks(NETWORKS)
            given |= SMALL[method["class_path"]]
            log.warning("%s has random networks here: its values only show that it runs", row)
        return {**method, "init_args": given}

    def train(self, row: str, seed: int, checkpoint: Path) -> None:
        """Train a row's run to its end."""
        name = self.run(row, seed)
        if _finished(checkpoint, RUNS / name / CONFIG):
            log.info("%s is trained already", RUNS / name)
            return
        words = ["--config", str(self.overlay(row)), "--run", name, "--ckpt_path", "last"]
        self.call("fit", [*words, "--seed_everything", str(seed)])

    def measure(self, methods: list[dict[str, Any]], checkpoints: list[Path], seed: int) -> list[Results]:
        """All methods in one test."""
        record = self.record(seed)
        folder = record.parent
        files = sorted(folder.glob("*.json"))
        newest = max((path.stat().st_mtime for path in checkpoints), default=0.0)
        measured = files and all(file.stat().st_mtime > newest for file in files)
        if measured and yaml.safe_load(record.read_text())["model"]["films"] >= self.films:
            log.info("%s is measured already", folder)
            return [Results.read(file) for file in files]
        for file in files:
            file.unlink()
        with whole(record) as temporary:
            content = {"model": {"methods": methods, "films": self.films}}
            temporary.write_text(yaml.safe_dump(content, sort_keys=False))
        begin = time.time()
        run = f"{self.folder.name}+seed{seed}"
        self.call("test", ["--config", str(record), "--run", run, "--seed_everything", str(seed)])
        found = [
            Results.read(path) for path in (RUNS / run).glob("test_*.json") if path.stat().st_mtime >= begin
        ]
        found = [results for results in found if results.method != MODEL]
        for results in found:
            results.write(folder / f"{results.dataset}_{results.method}.json")
        return found

    def call(self, verb: str, words: list[str]) -> None:
        """A verb of the command line in a process of its own, which may start others."""
        configs = [word for path in (self.base, *self.overlays) for word in ("--config", str(path))]
        command = [sys.executable, "-m", "m2svid", verb, *configs, *words]
        status = subprocess.run(command, env=os.environ, check=False).returncode
        if status in (130, -2):
            raise KeyboardInterrupt
        if status:
            raise UserError(
                f"`{verb} {' '.join(words)}` failed, as it says above: mend that and start the table again"
            )


def _weights(row: str, path: str | Path, model: dict[str, Any]) -> dict[str, Any]:
    arguments = {"path": str(path), "name": row, "num_steps": _steps(model)}
    return {"class_path": WEIGHTS, "init_args": arguments}


def _check(methods: list[dict[str, Any]]) -> None:
    """Raise a UserError where weights are missing or don't fit, before others are trained for days."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--methods", type=list[Method])
    for method in parser.instantiate(parser.parse_object({"methods": methods})).methods:
        method.check()


def _finished(checkpoint: Path, config: Path) -> bool:
    if not (checkpoint.exists() and config.is_file()):
        return False
    steps = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["global_step"]
    return steps >= yaml.safe_load(config.read_text())["trainer"]["max_steps"]


def _steps(model: dict[str, Any]) -> int | None:
    """Steps of the sampler that an overlay names."""
    recipe = model.get("recipe", {}).get("init_args", {})
    return recipe.get("sampler", {}).get("num_steps")


def show(rows: Sequence[str], runs: Sequence[Sequence[Results]], areas: Sequence[str], regions: str) -> str:
    """A Markdown table: a row a method, columns by dataset, region and metric.

    Args:
        rows: names of the methods, in order.
        runs: results of each seed.
        areas: regions beside the full view.
        regions: "painted" or "masked".
    """
    first = runs[0]
    datasets = sorted({results.dataset for results in first})
    masked = "masked_" if regions == "masked" else ""
    ends = ["", *(f"_{masked}{area}" for area in areas)]
    metrics = [name for name in ("psnr", "ssim", "ms_ssim", "lpips") if name in first[0].means]
    columns = [(dataset, f"{metric}{end}") for dataset in datasets for end in ends for metric in metrics]
    heads = [f"{dataset} {column}" for dataset, column in columns]
    lines = [f"| row | {' | '.join(heads)} |", f"|---|{'---:|' * len(columns)}"]
    for row in rows:
        cells = [
            _cell(
                [r.means[column] for run in runs for r in run if (r.method, r.dataset) == (row, dataset)],
                column,
            )
            for dataset, column in columns
        ]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    count = len(runs)
    videos = ", ".join(
        f"{dataset} {next(len(r.videos) for r in first if r.dataset == dataset)}" for dataset in datasets
    )
    names = sorted({str(results.protocol["name"]) for run in runs for results in run})
    lines += ["", f"Protocol: {', '.join(names)}. Videos: {videos}. Seeds: {count}"]
    lines[-1] += "; mean ± standard deviation over seeds." if count > 1 else "."
    return "\n".join(lines) + "\n"


def _cell(values: Sequence[float], column: str) -> str:
    digits = 2 if column.startswith("psnr") else 3
    mean = f"{fmean(values):.{digits}f}"
    return f"{mean} ± {stdev(values):.{digits}f}" if len(values) > 1 else mean
