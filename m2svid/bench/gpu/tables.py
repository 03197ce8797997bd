"""Tables of a report, and their place in BENCHMARKS.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from m2svid.bench.gpu.report import Report
from m2svid.bench.gpu.stages import STAGES
from m2svid.errors import UserError
from m2svid.files import whole

BEGIN, END = "<!-- bench gpu: tables of `bench merge` begin -->", "<!-- bench gpu: tables end -->"
Row = Sequence[object]
Case = dict[str, Any]
Cases = dict[str, Case]


def merge(report: Path, into: Path = Path("BENCHMARKS.md")) -> dict[str, Any]:
    """Put the tables of a report into a Markdown file, in place of earlier ones of the same card.

    Args:
        report: JSON that `bench gpu` has written.
        into: the file, with the two comments between which the tables of all cards stand.

    Raises:
        UserError: the report or the file can't be used.
    """
    made = Report.read(report)
    if made.head.get("networks") != "full size":
        raise UserError(f"{report} was measured with --small, so its figures mean nothing: measure without")
    try:
        text = into.read_text()
        before, tables, after = re.split(f"{re.escape(BEGIN)}|{re.escape(END)}", text)
    except (OSError, ValueError) as error:
        raise UserError(f"{into} must be a file with one line {BEGIN} and one line {END}") from error
    title = f"### {made.head['device']}"
    sections = [section for section in re.split(r"(?m)^(?=### )", tables) if section.strip()]
    others = [section.strip() for section in sections if section.splitlines()[0] != title]
    found = len(others) < len(sections)
    tables = "\n\n".join([*others, f"{title}\n\n{describe(made)}"])
    with whole(into) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}")
    return {"file": str(into), "card": made.head["device"], "replaced": found}


def describe(report: Report) -> str:
    """A report as Markdown."""
    measured = {name: case for name, case in report.cases.items() if case["outcome"] == "measured"}
    parts = [_machine(report.head, measured)]
    for kind, head, row in _TABLES:
        parts.append(_table(head, [row(name, case) for name, case in _of(kind, measured).items()]))
    parts += [_loader(measured), _film(measured)]
    others = {name: case for name, case in report.cases.items() if name not in measured}
    whys = [(name, f"{case['outcome']}: {case['reason']}".replace("|", "/")) for name, case in others.items()]
    parts.append(_table("not measured | why", whys))
    return "\n\n".join(part for part in parts if part)


def _of(kind: str, cases: Cases) -> Cases:
    """The cases of a kind, by the rest of their names."""
    names = {name: name.partition(" ") for name in cases}
    return {rest: cases[name] for name, (first, _, rest) in names.items() if first == kind}


def _table(head: str, rows: Sequence[Row]) -> str:
    """Empty without rows."""
    lines = [f"| {head} |", f"|{'---|' * (head.count('|') + 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)]) if rows else ""


def _machine(head: dict[str, Any], measured: Cases) -> str:
    names = {
        "memory_gb": "{} GB",
        "driver": "driver {}",
        "cuda": "CUDA {}",
        "cudnn": "cuDNN {}",
        "python": "Python {}",
    }
    facts = [text.format(head[name]) for name, text in names.items() if name in head]
    facts += [f"{name} {head[name]}" for name in ("torch", "diffusers", "transformers", "lightning")]
    rates = dict(measured["limits"])
    copy = rates.pop("copy")
    products = ", ".join(
        f"{name} {rate:.4g}" for name, rate in rates.items() if name not in ("outcome", "took")
    )
    text = f"{', '.join(facts)}. Large matrix products: {products} TFLOP/s; copy: {copy:.4g} GB/s."
    if (agreement := measured.get("agreement")) is not None:
        errors = ", ".join(f"{name} {error:.1e}" for name, error in agreement["errors"].items())
        verdict = "all within" if agreement["agrees"] else "**not all within**"
        text += f" Small networks against the CPU in float32: {errors} of the norm, {verdict} the tolerance."
    return text


def _range(case: Case) -> str:
    return f"{case['seconds']:.3g} ({case['least']:.3g}–{case['most']:.3g})"


def _memory(case: Case) -> tuple[str, str]:
    return f"{case['peak_gb']:.1f}", f"{case['reserved_gb']:.1f}"


def _shares(case: Case) -> tuple[str, str, str]:
    return f"{case['tflop']:.4g}", f"{case['matrix_share']:.0%}", f"{case['memory_share']:.0%}"


def _speed_row(name: str, case: Case) -> Row:
    return (name, _range(case), f"{case['frames_per_s']:.3g}", *_memory(case), *_shares(case))


def _stage_row(name: str, case: Case) -> Row:
    stages = (case["stages"][stage] for stage in STAGES)
    return (
        name,
        *(f"{s['seconds']:.3g} ({s['matrix_share']:.0%})" for s in stages),
        f"{case['rest_seconds']:.3g}",
        case["plan"],
    )


def _vram_row(name: str, case: Case) -> Row:
    return (name, f"{case['seconds']:.3g}", *_memory(case), f"{case['taken_gb']:.1f}", case["plan"])


def _published_row(name: str, case: Case) -> Row:
    ours, theirs = case["ours"], case["published"]
    seconds = (_range(side) for side in (ours, theirs))
    peaks = (f"{side['peak_gb']:.1f}" for side in (ours, theirs))
    return (name, *seconds, f"{case['times_faster']:.2f}", *peaks, f"{case['difference']:.1e}")


_SPEED = "s (range) | frames/s | peak GB | reserved | TFLOP | matrix | memory"
_TABLES: tuple[tuple[str, str, Callable[[str, Case], Row]], ...] = (
    ("refine", f"one step | {_SPEED}", _speed_row),
    ("refine", f"s (matrix) by stage | {' | '.join(STAGES)} | rest | plan", _stage_row),
    ("train", f"training step | {_SPEED}", _speed_row),
    ("vram", "`--vram` | s | peak GB | reserved | taken from the card | plan", _vram_row),
    (
        "published",
        "published code | ours, s | published, s | times faster | peak GB, ours | published | difference",
        _published_row,
    ),
)
"""Kind of cases, head, row of a case."""


def _loader(measured: Cases) -> str:
    loader, trained = measured.get("loader"), _of("train", measured)
    if loader is None:
        return ""
    text = f"The loader takes {loader['seconds']:.3g} s a sample with {loader['workers']} workers"
    if not trained:
        return f"{text}."
    step = sum(case["seconds"] for case in trained.values()) / len(trained)
    verdict = "keeps up with" if loader["seconds"] <= step else "is **slower** than"
    return f"{text} and {verdict} a training step's mean of {step:.3g} s."


def _film(measured: Cases) -> str:
    film = measured.get("film")
    if film is None:
        return ""
    width, height = film["size"][2], film["size"][1]
    peak, reserved = _memory(film)
    return (
        f"`convert` of a film of {width}×{height} with depth from a file: {film['frames_per_s']:.3g} "
        f"frames/s, peak {peak} GB, {reserved} GB reserved, weights already loaded."
    )
