"""Results of several methods, put side by side: the same videos, runs of one method averaged."""

from __future__ import annotations

import json
import logging
import math
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from m2svid.errors import UserError
from m2svid.evaluation.results import FORMAT, MODEL, Results
from m2svid.files import split_name
from m2svid.report.columns import compared
from m2svid.report.paper import ROWS

log = logging.getLogger(__name__)

_SEED = re.compile(r"seed\d+")  # folders in which `table` puts the results of each seed
_ORDER = {name: place for place, name in enumerate(ROWS)}
_CLIP = re.compile(r"/\d{6}$")  # what `measure --clip-frames` adds to the name of a film


@dataclass
class Method:
    """A method's values on a dataset.

    Attributes:
        name: unique in its dataset.
        runs: the results that are averaged, for instance of several seeds.
        values: by metric and video, finite or not; a video without a value is left out.
    """

    name: str
    runs: list[Results] = field(default_factory=list)
    values: dict[str, dict[str, float]] = field(default_factory=dict)

    def mean(self, metric: str) -> float:
        """Mean over videos; of a metric of all videos together (fvd), the mean over runs."""
        each = self.run_means(metric)
        return fmean(each) if each else math.nan

    def run_means(self, metric: str, videos: Collection[str] | None = None) -> list[float]:
        """Each run's mean over the same videos: those given, or all with a value in every run."""
        if metric not in self.values:
            return [run.means[metric] for run in self.runs if metric in run.means]
        kept = self.values[metric].keys() if videos is None else set(videos)
        return [fmean(video.values[metric] for video in run.videos if video.key in kept) for run in self.runs]

    def films(self, video: str) -> dict[str, Any]:
        """Facts of the first run's films of a video, by role."""
        return next((found.films for found in self.runs[0].videos if found.key == video), {})


def spread(means: Sequence[float]) -> float:
    """Standard deviation of the means of runs; NaN for fewer than two, or where one isn't finite."""
    return stdev(means) if len(means) > 1 and all(map(math.isfinite, means)) else math.nan


@dataclass
class Dataset:
    """All methods on one dataset, in the order given; those of a folder in the order of the paper's rows.

    Attributes:
        name: of the dataset.
        videos: keys that all methods have, sorted.
        methods: by name.
        metrics: that all methods have values of, in the order of the first method's; then those of all
            videos together.
        notes: sentences on what isn't alike for all methods.
    """

    name: str
    videos: list[str]
    methods: dict[str, Method]
    metrics: list[str]
    notes: list[str]


def collect(given: Sequence[str]) -> list[Dataset]:
    """Read results.

    Args:
        given: JSON files that `measure` or `test` wrote, or folders of runs with some in them; `NAME=PATH`
            calls the trained model of a run, or the only method of a file, NAME. Results of one name on one
            dataset are runs of one method (several seeds) and are averaged video by video. A folder may hold
            several of a name only in subfolders seed0, seed1, ..., as `table` makes them.

    Raises:
        UserError: a file is none, or methods have no videos or metrics in common.
    """
    grouped: dict[str, dict[str, Method]] = defaultdict(dict)
    for word in given:
        name, place = split_name(word)
        paths: dict[tuple[str, str], list[Path]] = defaultdict(list)
        found = []
        for path in _files(place):
            found.append(Results.read(path))
            paths[found[-1].method, found[-1].dataset].append(path)
        for (method, dataset), files in paths.items():
            if len(files) > 1 and not _of_seeds(files):
                raise UserError(
                    f"{place} holds {len(files)} results of {method} on {dataset}, of several steps or "
                    "protocols: name the files that are meant"
                )
        found.sort(key=lambda result: _ORDER.get(result.method, len(ROWS)))
        for result in found:
            if result.method == MODEL or len({each.method for each in found}) == 1:
                result.method = name or (place.resolve().name if result.method == MODEL else result.method)
            methods = grouped[result.dataset]
            methods.setdefault(result.method, Method(result.method)).runs.append(result)
    names = list(dict.fromkeys(name for methods in grouped.values() for name in methods))
    return [_dataset(name, methods, names) for name, methods in grouped.items()]


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise UserError(
            f"{path} does not exist: give a folder of a run, or a JSON that `measure` or `test` wrote"
        )
    if path.is_file():
        return [path]
    found = [file for file in sorted(path.rglob("*.json")) if _is_result(file)]
    if not found:
        raise UserError(f"{path} holds no results: run `test` there, or `measure` films")
    tests = [file for file in found if file.name.startswith("test_")]
    return tests or found  # validations during training are none where the run was tested


def _of_seeds(files: Sequence[Path]) -> bool:
    folders = {file.parent for file in files}
    return len(folders) == len(files) and all(_SEED.fullmatch(folder.name) for folder in folders)


def _is_result(path: Path) -> bool:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def _dataset(name: str, methods: dict[str, Method], names: Sequence[str]) -> Dataset:
    """A dataset on which some of the methods named were measured."""
    keys = [{video.key for video in run.videos} for method in methods.values() for run in method.runs]
    videos = sorted(set.intersection(*keys))
    if not videos:
        raise UserError(f"{name}: {', '.join(methods)} have no video in common, so they can't be compared")
    for method in methods.values():
        method.values = _averaged(method.runs, videos)
    measured = list(dict.fromkeys(metric for method in methods.values() for metric in method.values))
    metrics = [m for m in measured if all(m in method.values for method in methods.values())]
    first = next(iter(methods.values()))
    together = [
        m
        for m in first.runs[0].means
        if m == "fvd" and all("fvd" in r.means for x in methods.values() for r in x.runs)
    ]
    if not metrics:
        raise UserError(f"{name}: {', '.join(methods)} have no metric in common, so they can't be compared")
    notes = _differences_of_protocols(methods)
    left_out = len(set.union(*keys)) - len(videos)
    if left_out:
        notes.append(f"{left_out} videos are left out, which only some methods have")
    for metric in measured:
        lacking = [method.name for method in methods.values() if metric not in method.values]
        if lacking and compared(metric):
            notes.append(f"{metric} is left out, which {', '.join(lacking)} lack")
    if len(methods) < len(names):
        notes.append(f"no results of {', '.join(each for each in names if each not in methods)}")
    for note in notes:
        log.warning("%s: %s", name, note)
    return Dataset(name, videos, methods, metrics + together, notes)


def _differences_of_protocols(methods: Mapping[str, Method]) -> list[str]:
    """A note for each setting that isn't the same in all results; what a method is alone is its own."""
    found: dict[str, dict[str, dict[str, None]]] = {}  # setting -> value -> names of methods
    settings = {key for method in methods.values() for run in method.runs for key in run.protocol}
    for setting in sorted(settings - {"method", "name"}):
        for method in methods.values():
            for run in method.runs:
                value = json.dumps(run.protocol.get(setting), sort_keys=True)
                found.setdefault(setting, {}).setdefault(value, {})[method.name] = None
    return [
        f"measured by different protocols, so that values don't compare: {setting} is "
        + ", ".join(f"{value} for {' and '.join(names)}" for value, names in values.items())
        for setting, values in found.items()
        if len(values) > 1
    ]


def _averaged(runs: list[Results], videos: list[str]) -> dict[str, dict[str, float]]:
    tables = [{video.key: video.values for video in run.videos} for run in runs]
    metrics = [
        metric for metric in tables[0][videos[0]] if all(metric in table[videos[0]] for table in tables)
    ]
    values: dict[str, dict[str, float]] = {}
    for metric in metrics:
        found = {video: [table[video][metric] for table in tables] for video in videos}
        kept = {
            video: fmean(each)
            for video, each in found.items()
            if not any(_no_value(metric, x, tables[0][video]) for x in each)
        }
        if kept:
            values[metric] = kept
    return values


def _no_value(metric: str, value: float | None, values: dict[str, float | None]) -> bool:
    """The video has no such region, or the metric nothing to measure; not: the prediction is broken."""
    share = values.get("hole_share")
    empty = {"inside": 0.0, "outside": 1.0}.get(metric.rpartition("_")[2])
    return value is None or (math.isnan(value) and empty is not None and share == empty)


def source_of(video: str, pattern: re.Pattern[str] | None) -> str:
    """The source video of a clip: the pattern's first group (or match) in its key, else the key without what
    `--clip-frames` added."""
    if pattern is None:
        return _CLIP.sub("", video)
    match = pattern.search(video)
    if match is None:
        raise UserError(f"--source {pattern.pattern!r} matches nothing in the name {video!r}")
    return match.group(1) if pattern.groups else match.group()
