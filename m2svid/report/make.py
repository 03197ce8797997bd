"""The verb `report`: results as a page, as tables to paste, and as JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from m2svid.errors import UserError
from m2svid.evaluation.results import spelled
from m2svid.files import check_output, split_name, whole
from m2svid.pages.fill import fill
from m2svid.report.clips import films_of, pick
from m2svid.report.collect import Dataset, collect, source_of
from m2svid.report.columns import compared, digits, heading, score
from m2svid.report.paper import ROWS
from m2svid.report.tables import (
    Summary,
    comparison_cells,
    counts_text,
    interval_text,
    latex,
    markdown,
    mean_text,
    summarize,
    value_text,
)


def report(
    results: list[str],
    output: Path = Path("report"),
    metrics: list[str] | None = None,
    reference: str | None = None,
    source: str | None = None,
    paper: dict[str, str] | None = None,
    clips: int = 6,
    film_width: int = 320,
) -> dict[str, str]:
    """Compare methods: index.html, report.md, report.tex and report.json in one folder.

    Args:
        results: JSON files that `measure` or `test` wrote, or folders of runs; NAME=PATH gives a name.
            Results of one name on one dataset are runs of one method, such as those of several seeds (in
            subfolders seed0, seed1, ... of a folder that `table` made): they are averaged video by video, and
            their standard deviation stands beside the intervals.
        output: folder; what it holds of an earlier report is replaced.
        metrics: columns; if not given, those that all methods have and that have a better and a worse.
        reference: the method that others are compared with; if not given, the first.
        source: regular expression whose first group in a video's name is its source: videos of one source are
            no independent evidence. If not given, each film is a source.
        paper: names of the paper's rows by method, as '{"mine": "table4_full_attention"}'; a method with the
            name of a row needs none.
        clips: how many clips are shown as films, the reference's worst and best in the first metric.
        film_width: pixels of a film in the page, at most.

    Returns:
        The files by kind.

    Raises:
        UserError: a file holds no results, or an option names what isn't there.
    """
    pattern = _pattern(source)
    for method, row in (paper or {}).items():
        if row not in ROWS:
            raise UserError(
                f"--paper: {row!r} of {method!r} is no row of the paper; known are {', '.join(ROWS)}"
            )
    datasets = collect(results)
    summaries, shown = {}, {}
    for dataset in datasets:
        base = reference or next(iter(dataset.methods))
        if base not in dataset.methods:
            raise UserError(f"--reference {base!r} is none of {', '.join(dataset.methods)} on {dataset.name}")
        shown[dataset.name] = _columns(dataset, metrics)
        summaries[dataset.name] = summarize(dataset, base, lambda video: source_of(video, pattern))
    page = [_section(d, summaries[d.name], shown[d.name], clips, film_width) for d in datasets]
    provenance = [_provenance(dataset) for dataset in datasets]
    content = {
        "index.html": fill("m2svid.report", spelled({"datasets": page, "provenance": provenance})),
        "report.md": markdown(summaries, shown),
        "report.tex": latex(summaries, paper or {}),
        "report.json": _json({"summaries": summaries, "videos": _values(datasets), "results": provenance}),
    }
    files = [path for path in (split_name(word)[1] for word in results) if path.is_file()]
    for name in content:
        check_output(output / name, files)
    for name, text in content.items():
        with whole(output / name) as temporary:
            temporary.write_text(text)
    return {name.partition(".")[2]: str(output / name) for name in content}


def _pattern(source: str | None) -> re.Pattern[str] | None:
    try:
        return None if source is None else re.compile(source)
    except re.error as error:
        raise UserError(f"--source {source!r} is no regular expression: {error}") from error


def _columns(dataset: Dataset, metrics: list[str] | None) -> list[str]:
    if metrics is None:
        return [metric for metric in dataset.metrics if compared(metric)] or dataset.metrics
    missing = [metric for metric in metrics if metric not in dataset.metrics]
    if missing:
        raise UserError(
            f"--metrics: {', '.join(missing)} was not measured for all methods on {dataset.name}; there are "
            f"{', '.join(dataset.metrics)}"
        )
    return metrics


def _section(
    dataset: Dataset, summary: Summary, metrics: list[str], clips: int, width: int
) -> dict[str, Any]:
    """The page's content for a dataset."""
    base = summary["reference"]
    rows = [
        [name, heading(metric), *comparison_cells(metric, entry)]
        for metric in metrics
        for name, entry in summary["comparisons"].get(metric, {}).items()
    ]
    first = next((metric for metric in metrics if metric in dataset.methods[base].values), None)
    films = []
    for video, why in pick(dataset, base, first, clips).items() if first else ():
        found = films_of(dataset, video, width)
        if found is not None:
            values = [
                f"{name}: {value_text(first, method.values[first][video])}"
                for name, method in dataset.methods.items()
                if video in method.values[first]
            ]
            films.append(
                {"key": video, "why": why, "values": f"{heading(first)} {', '.join(values)}", **found}
            )
    return {
        "name": dataset.name,
        "counts": counts_text(summary),
        "reference": base,
        "videos": dataset.videos,
        "metrics": [_metric(dataset, metric) for metric in metrics],
        "means": [
            {"method": name, "cells": [_cell(summary, name, metric) for metric in metrics]}
            for name in summary["methods"]
        ],
        "comparisons": rows,
        "clips": films,
        "clips_heading": f"Worst and best clips of {base} in {heading(first)}" if first else "",
    }


def _metric(dataset: Dataset, metric: str) -> dict[str, Any]:
    each = {
        name: [method.values[metric].get(video) for video in dataset.videos]
        for name, method in dataset.methods.items()
        if metric in method.values
    }
    return {
        "name": metric,
        "heading": heading(metric),
        "digits": digits(metric),
        "compared": compared(metric),
        "values": each or None,
    }


def _cell(summary: Summary, name: str, metric: str) -> dict[str, Any]:
    means = {method: values[metric]["mean"] for method, values in summary["methods"].items()}
    best = max(score(metric, mean) for mean in means.values())
    return {
        "text": mean_text(metric, summary["methods"][name][metric]),
        "interval": interval_text(metric, summary["methods"][name][metric]["interval"]),
        "best": compared(metric) and score(metric, means[name]) == best,
    }


def _provenance(dataset: Dataset) -> dict[str, Any]:
    return {
        "dataset": dataset.name,
        "methods": {
            name: [
                {
                    "protocol": run.protocol,
                    "weights": run.weights,
                    "versions": run.versions,
                    "films": {video.key: video.films for video in run.videos if video.films},
                }
                for run in method.runs
            ]
            for name, method in dataset.methods.items()
        },
    }


def _values(datasets: list[Dataset]) -> dict[str, Any]:
    return {d.name: {name: method.values for name, method in d.methods.items()} for d in datasets}


def _json(data: Any) -> str:
    return json.dumps(spelled(data), ensure_ascii=False, allow_nan=False)
