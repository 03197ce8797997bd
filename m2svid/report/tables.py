"""Means, intervals and comparisons as JSON, Markdown and LaTeX."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

from m2svid.report.collect import Dataset, Method, spread
from m2svid.report.columns import compared, digits, heading, score
from m2svid.report.paper import METRICS, ROWS, Triple
from m2svid.report.statistics import bootstrap, compare, holm

Summary = dict[str, Any]


def summarize(dataset: Dataset, reference: str, source: Callable[[str], str]) -> Summary:
    """Everything the tables say of a dataset, as JSON has it.

    p values are adjusted by Holm over the methods that are compared with the reference in one metric. The
    spread is the standard deviation over runs; that of a difference takes runs in pairs, in their order.
    """
    methods = {
        name: {
            metric: {"mean": method.mean(metric), "spread": spread(method.run_means(metric))}
            | {"videos": len(method.values.get(metric, dataset.videos))}
            | {"interval": _interval(method.values.get(metric), source)}
            for metric in dataset.metrics
        }
        for name, method in dataset.methods.items()
    }
    others = [name for name in dataset.methods if name != reference]
    comparisons: dict[str, dict[str, Any]] = {}
    for metric in dataset.metrics:
        theirs = dataset.methods[reference].values.get(metric)
        if theirs is None or not compared(metric):
            continue
        found = {}
        for name in others:
            ours = dataset.methods[name].values[metric]
            shared = [video for video in dataset.videos if video in ours and video in theirs]
            sources = [source(video) for video in shared]
            values = [[values[video] for video in shared] for values in (ours, theirs)]
            scores = [[score(metric, value) for value in each] for each in values]
            best = compare(*scores, sources, higher_is_better=True)
            raw = compare(*values, sources, higher_is_better=True)
            if best is not None and raw is not None:
                found[name] = asdict(best) | {"difference": raw.difference, "interval": raw.interval}
                pair = dataset.methods[name], dataset.methods[reference]
                found[name]["spread"] = _spread_of_difference(*pair, metric, shared)
        for entry, p in zip(found.values(), holm([entry["p"] for entry in found.values()]), strict=True):
            entry["p_holm"] = p
        comparisons[metric] = found
    return {
        "reference": reference,
        "videos": len(dataset.videos),
        "sources": len({source(video) for video in dataset.videos}),
        "notes": dataset.notes,
        "runs": {name: len(method.runs) for name, method in dataset.methods.items()},
        "methods": methods,
        "comparisons": comparisons,
    }


def _spread_of_difference(ours: Method, theirs: Method, metric: str, videos: Sequence[str]) -> float:
    if len(ours.runs) != len(theirs.runs):
        return math.nan
    pairs = zip(ours.run_means(metric, videos), theirs.run_means(metric, videos), strict=True)
    return spread([a - b for a, b in pairs])


def _interval(values: Mapping[str, float] | None, source: Callable[[str], str]) -> tuple[float, float]:
    if values is None or not all(math.isfinite(value) for value in values.values()):
        return math.nan, math.nan
    return bootstrap(list(values.values()), [source(video) for video in values])


def value_text(metric: str, value: float) -> str:
    """A number with the metric's digits."""
    return f"{value:.{digits(metric)}f}" if math.isfinite(value) else {"inf": "∞"}.get(str(value), "NaN")


def mean_text(metric: str, entry: Mapping[str, Any]) -> str:
    """A mean with its standard deviation over runs, where there are several."""
    return value_text(metric, entry["mean"]) + _spread_text(metric, entry)


def _spread_text(metric: str, entry: Mapping[str, Any]) -> str:
    return f" ± {entry['spread']:.{digits(metric) + 1}f}" if math.isfinite(entry["spread"]) else ""


def interval_text(metric: str, interval: tuple[float, float], further: int = 0) -> str:
    """The two ends, or nothing where there is no interval; differences need further digits."""
    if not all(map(math.isfinite, interval)):
        return ""
    low, high = (f"{end:.{digits(metric) + further}f}" for end in interval)
    return f"[{low}, {high}]"


def markdown(summaries: Mapping[str, Summary], metrics: Mapping[str, list[str]]) -> str:
    """Tables of means with intervals and of differences from the reference, by dataset."""
    parts = ["# Results", ""]
    for dataset, summary in summaries.items():
        shown = metrics[dataset]
        parts += [f"## {dataset}", "", counts_text(summary), ""]
        parts += _table(["method", *map(heading, shown)])
        for name, values in summary["methods"].items():
            cells = [f"{mean_text(m, values[m])} {interval_text(m, values[m]['interval'])}" for m in shown]
            parts.append(_line([name, *cells]))
        rows = [
            (name, metric, entry)
            for metric in shown
            for name, entry in summary["comparisons"].get(metric, {}).items()
        ]
        if rows:
            parts += ["", f"Against {summary['reference']}, on the same videos:", ""]
            parts += _table(["method", "metric", "difference", "95 % interval", "won", "tied", "p (Holm)"])
            parts += [
                _line([name, heading(metric), *comparison_cells(metric, e)]) for name, metric, e in rows
            ]
        parts.append("")
    return "\n".join(parts)


def comparison_cells(metric: str, entry: Mapping[str, Any]) -> list[str]:
    """Difference, interval, shares and p of a comparison as text."""
    p = entry["p_holm"]
    return [
        f"{entry['difference']:+.{digits(metric) + 1}f}" + _spread_text(metric, entry),
        interval_text(metric, entry["interval"], further=1),
        f"{entry['won']:.0%}",
        f"{entry['tied']:.0%}",
        "-" if math.isnan(p) else f"{p:.2g}",
    ]


def counts_text(summary: Summary) -> str:
    """The number of videos, sources and runs behind the values, and what isn't alike for all methods."""
    text = (
        f"{summary['videos']} videos of {summary['sources']} sources; 95 % intervals by bootstrap over them"
    )
    if summary["sources"] < 2:
        text += " (one source: none)"
    runs = summary["runs"]
    if max(runs.values()) > 1:
        each = [f"{count} of {name}" for name, count in runs.items()]
        which = ", ".join(each) if len(set(runs.values())) > 1 else f"{max(runs.values())} of each method"
        text += f"; means over runs ({which}) ± their standard deviation"
    return ". ".join([text, *summary["notes"]])


def _table(names: list[str]) -> list[str]:
    return [_line(names), _line(["---"] * len(names))]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.strip() for cell in cells) + " |"


def latex(summaries: Mapping[str, Summary], rows: Mapping[str, str]) -> str:
    r"""The paper's layout: a row a method, PSNR, MS-SSIM and LPIPS of each dataset, the paper's beside ours.

    A table of the full view, then of the inside and of the outside of the holes (the paper's protocol: the
    rest painted white) where they were measured. The best value of a column is bold. Needs the package
    booktabs.

    Args:
        summaries: by dataset.
        rows: names of the paper's rows (`paper.ROWS`) by method.
    """
    tables = [_latex_table(summaries, rows, region) for region in ("full", "inside", "outside")]
    return "\n".join(filter(None, tables)) or "% none of PSNR, MS-SSIM and LPIPS was measured\n"


def _latex_table(
    summaries: Mapping[str, Summary], rows: Mapping[str, str], region: Literal["full", "inside", "outside"]
) -> str:
    suffix = "" if region == "full" else f"_{region}"
    columns = [
        (dataset, metric)
        for dataset, summary in summaries.items()
        for metric in METRICS
        if all(metric + suffix in values for values in summary["methods"].values())
    ]
    if not columns:
        return ""
    counts = Counter(dataset for dataset, _ in columns)
    names = list(dict.fromkeys(name for summary in summaries.values() for name in summary["methods"]))
    spans = " & ".join(rf"\multicolumn{{{count}}}{{c}}{{{_escape(name)}}}" for name, count in counts.items())
    heads = " & ".join(heading(metric) for _, metric in columns)
    heads = heads.replace("↑", r"$\uparrow$").replace("↓", r"$\downarrow$")
    lines = [f"% {region}", rf"\begin{{tabular}}{{ll{'c' * len(columns)}}}", r"\toprule"]
    lines += [rf" & & {spans} \\", rf"Method & & {heads} \\", r"\midrule"]
    for name in names:
        cells = [_latex_cell(summaries[d], name, m + suffix) for d, m in columns]
        lines.append(rf"{_escape(name)} & ours & {' & '.join(cells)} \\")
        row = ROWS.get(rows.get(name, name))
        if row is not None:
            cells = [_paper_cell(getattr(row, region), d, m) for d, m in columns]
            label = f"{row.table}, {row.label}, {row.steps} step{'s' * (row.steps > 1)}"
            lines.append(rf"\quad {_escape(label)} & paper & {' & '.join(cells)} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex_cell(summary: Summary, name: str, metric: str) -> str:
    if name not in summary["methods"]:
        return "-"
    means = {method: values[metric]["mean"] for method, values in summary["methods"].items()}
    text = value_text(metric, means[name]).replace("∞", r"$\infty$")
    best = max(score(metric, mean) for mean in means.values())
    text = rf"\textbf{{{text}}}" if score(metric, means[name]) == best else text
    return text + _spread_text(metric, summary["methods"][name][metric]).replace("±", r"$\pm$")


def _paper_cell(full: Mapping[str, Triple], dataset: str, metric: str) -> str:
    known = next((triple for name, triple in full.items() if name in dataset.lower()), None)
    value = math.nan if known is None else known[METRICS.index(metric)]
    return "-" if math.isnan(value) else value_text(metric, value)


def _escape(text: str) -> str:
    return re.sub(r"([&%$#_{}])", r"\\\1", text)
