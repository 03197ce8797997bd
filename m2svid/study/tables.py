"""A study's summary as tables: Markdown, LaTeX and what the page shows."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from m2svid.study.paper import COMPARISONS, RANKINGS, TABLE_2, TABLE_3
from m2svid.study.summary import Summary

_TITLES = {"desktop": "Rankings on a monitor", "headset": "Comparisons in a headset"}
_INTERVALS = "95 % intervals by bootstrap over participants and videos"


@dataclass(frozen=True)
class Table:
    """Rows under a head, and what has to be said of them."""

    head: list[str]
    rows: list[list[str]]
    note: str


def tables(summary: Summary, latency: Mapping[str, float]) -> list[Table]:
    """Ranks (of a desktop study), pairs, and strengths."""
    methods = summary["methods"]
    found = [_ranks(summary, latency)] if summary["kind"] == "desktop" else []
    rows = [
        [
            pair["first"],
            pair["second"],
            *(str(pair[name]) for name in ("first_better", "equal", "second_better")),
            p_text(pair["p_holm"]),
            f"{pair['participants_first']} : {pair['participants_second']}",
            p_text(pair["p_participants_holm"]),
        ]
        for pair in summary["pairs"]
    ]
    head = ["method", "other", "better", "equal", "worse", "p, answers", "participants", "p, participants"]
    note = (
        "Two-sided sign tests with Holm over the pairs: of all answers, as if those of one person were "
        "independent; and of the participants who prefer either method more often."
    )
    found.append(Table(head, rows, note))
    strengths = [[name, _with_interval(values["strength"], 3)] for name, values in methods.items()]
    ties = _with_interval(summary["davidson_ties"], 2)
    note = (
        f"Bradley-Terry strengths, which sum to 1, with Davidson's parameter for ties, {ties}. {_INTERVALS}."
    )
    return [*found, Table(["method", "strength"], strengths, note)]


def _ranks(summary: Summary, latency: Mapping[str, float]) -> Table:
    rows = [
        [name, _with_interval(values["average"], 2), f"{values['best']} / {values['rankings']}"]
        + [_with_interval(values["best_share"], 2), _with_interval(values["mean_at_ties"], 2)]
        + ([f"{latency[name]:.1f}" if name in latency else "-"] if latency else [])
        for name, values in summary["methods"].items()
    ]
    head = [
        "method",
        "average rank",
        "best",
        "share",
        "mean rank at ties",
        *(["latency (s)"] if latency else []),
    ]
    note = (
        "Ranks as the paper counts them: tied methods share the best of their places (1, 1, 3, 4), and all "
        f"at rank 1 are best. {summary['tied']:.0%} of the rankings have ties. {_INTERVALS}."
    )
    for name, test in summary["friedman"].items():
        if test:
            note += (
                f" Friedman over {test['blocks']} {name}: χ² = {test['chi2']:.1f}, p = {p_text(test['p'])}, "
                f"Kendall's W = {test['w']:.2f}."
            )
    shown = ", ".join(f"{rank:.2f}" for rank in summary["by_place"])
    return Table(head, rows, f"{note} Average rank by the place shown: {shown}.")


def counts_text(summary: Summary) -> str:
    answers, people, videos = (summary[name] for name in ("rankings", "participants", "videos"))
    return f"{answers} answers of {people} participants about {videos} videos"


def markdown(summaries: list[Summary], latency: Mapping[str, float]) -> str:
    parts = ["# User study", ""]
    for summary in summaries:
        parts += [f"## {_TITLES[summary['kind']]}", "", counts_text(summary), ""]
        for table in tables(summary, latency):
            lines = [table.head, ["---"] * len(table.head), *table.rows]
            parts += ["| " + " | ".join(line) + " |" for line in lines] + ["", table.note, ""]
    return "\n".join(parts)


def sections(summaries: list[Summary], latency: Mapping[str, float]) -> list[dict[str, Any]]:
    """The tables as the page takes them."""
    return [
        {
            "title": _TITLES[summary["kind"]],
            "counts": counts_text(summary),
            "tables": [asdict(table) for table in tables(summary, latency)],
        }
        for summary in summaries
    ]


def latex(summaries: list[Summary], latency: Mapping[str, float], rows: Mapping[str, str]) -> str:
    r"""The layout of the paper's Tables 2 and 3, with the paper's numbers beside; needs booktabs.

    Args:
        summaries: of the studies.
        latency: seconds by method.
        rows: names of the paper's rows by method.
    """
    made = [_table_2 if summary["kind"] == "desktop" else _table_3 for summary in summaries]
    return "\n".join(make(s, latency, rows) for make, s in zip(made, summaries, strict=True))


def _table_2(summary: Summary, latency: Mapping[str, float], rows: Mapping[str, str]) -> str:
    methods = summary["methods"]
    best_average = min(values["average"]["value"] for values in methods.values())
    most = max(values["best"] for values in methods.values())
    fastest = min((latency[name] for name in methods if name in latency), default=math.inf)
    lines = [f"% {counts_text(summary)}", r"\begin{tabular}{llcccc}", r"\toprule"]
    lines += [
        r"Method & & Denoising & Average rank$\downarrow$ & \# Chosen best & Latency (s)$\downarrow$ \\"
    ]
    lines += [r" & & steps & & (rank=1)$\uparrow$ & \\", r"\midrule"]
    for name, values in methods.items():
        known = TABLE_2.get(rows[name])
        average, seconds = values["average"]["value"], latency.get(name)
        cells = [
            _bold(f"{average:.2f}", average == best_average),
            _bold(f"{values['best']} / {values['rankings']}", values["best"] == most),
            "-" if seconds is None else _bold(f"{seconds:.1f}", seconds == fastest),
        ]
        steps = "-" if known is None else _steps(known.steps)
        lines.append(rf"{_escape(name)} & ours & {steps} & {' & '.join(cells)} \\")
        if known is not None:
            cells = [f"{known.average:.2f}", f"{known.best} / {RANKINGS}", f"{known.latency:.1f}"]
            lines.append(rf"\quad {known.label} & paper & {steps} & {' & '.join(cells)} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _table_3(summary: Summary, _: Mapping[str, float], rows: Mapping[str, str]) -> str:
    lines = [f"% {counts_text(summary)}", r"\begin{tabular}{llccc}", r"\toprule"]
    lines += [r"VR headset comparison & & first preferred & equal & second preferred \\", r"\midrule"]
    for pair in summary["pairs"]:
        names = [pair["first"], pair["second"]]
        counts = [pair["first_better"], pair["equal"], pair["second_better"]]
        cells = " & ".join(f"{count} / {sum(counts)}" for count in counts)
        lines.append(rf"{_escape(names[0])} vs.\ {_escape(names[1])} & ours & {cells} \\")
        known = [rows[name] for name in names]
        if set(known) == TABLE_3.keys():
            first, second = (TABLE_3[row] for row in known)
            cells = " & ".join(f"{n} / {COMPARISONS}" for n in (first, COMPARISONS - first - second, second))
            labels = [f"{TABLE_2[row].label}, {_steps(TABLE_2[row].steps)}" for row in known]
            lines.append(rf"\quad {labels[0]} vs.\ {labels[1]} & paper & {cells} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def p_text(p: float) -> str:
    return f"{p:.2g}"


def _with_interval(entry: Mapping[str, Any], digits: int) -> str:
    low, high = entry["interval"]
    ends = "" if math.isnan(low) else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{entry['value']:.{digits}f}{ends}"


def _steps(count: int) -> str:
    return f"{count} step{'s' * (count > 1)}"


def _bold(text: str, chosen: bool) -> str:
    return rf"\textbf{{{text}}}" if chosen else text


def _escape(text: str) -> str:
    return re.sub(r"([&%$#_{}])", r"\\\1", text)
