"""The verb `study report`: a study's numbers as a page, as tables to paste, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from m2svid.errors import UserError
from m2svid.evaluation.results import spelled
from m2svid.files import check_output, whole
from m2svid.pages.fill import fill
from m2svid.study.paper import TABLE_2, row_name
from m2svid.study.summary import read_study, summarize
from m2svid.study.tables import latex, markdown, sections


def report(
    answers: list[str],
    output: Path = Path("study_report"),
    latency: Path | None = None,
    paper: dict[str, str] | None = None,
) -> dict[str, str]:
    """Report studies as the paper's Tables 2 and 3, with intervals and tests beside.

    Args:
        answers: JSON files that `study collect` wrote, of a desktop study, a headset study, or both.
        output: folder; what it holds of an earlier report is replaced.
        latency: JSON with seconds by method or row of the paper, as '{"ours": 2.1}' or as `bench methods`
            writes it, for the table's column.
        paper: names of the paper's rows by method (svg, stereocrafter_25, stereocrafter_1, m2svid), as
            '{"mine": "m2svid"}'; a method with the name of a row needs none.

    Returns:
        The files by kind.

    Raises:
        UserError: a file is none of `study collect`, or an option names what isn't there.
    """
    for method, row in (paper or {}).items():
        if row not in TABLE_2:
            raise UserError(f"--paper: {row!r} of {method!r} is no row of Table 2: {', '.join(TABLE_2)}")
    studies = [read_study(Path(path)) for path in answers]
    rows = {name: (paper or {}).get(name, row_name(name)) for study in studies for name in study["methods"]}
    seconds = {} if latency is None else _latency(latency, rows)
    summaries = [summarize(study) for study in studies]
    text = json.dumps(spelled(summaries), indent=1, ensure_ascii=False, allow_nan=False)
    content = {
        "index.html": fill("m2svid.study", {"sections": sections(summaries, seconds)}, "report.html"),
        "study.md": markdown(summaries, seconds),
        "study.tex": latex(summaries, seconds, rows),
        "study.json": text + "\n",
    }
    for name in content:
        check_output(output / name, [latency, *map(Path, answers)])
    for name, text in content.items():
        with whole(output / name) as temporary:
            temporary.write_text(text)
    return {name.partition(".")[2]: str(output / name) for name in content}


def _latency(path: Path, rows: Mapping[str, str]) -> dict[str, float]:
    try:
        content = json.loads(path.read_text())
        given = {name: entry["seconds"] for name, entry in content.get("methods", {}).items()} or content
        seconds = {name: float(value) for name, value in given.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f'--latency {path} must be JSON such as {{"ours": 2.1}}, seconds by method, or of `bench methods`'
        ) from error
    found = {name: seconds.get(name, seconds.get(row)) for name, row in rows.items()}
    known = {name: value for name, value in found.items() if value is not None}
    if not known:
        raise UserError(f"--latency {path} has none of the methods {', '.join(sorted(rows))}")
    return known
