"""The verb `study collect`: files of answers to one table with the methods' names."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from m2svid.errors import UserError
from m2svid.files import check_output, whole
from m2svid.study.answers import Answers, read_answers
from m2svid.study.key import Key

log = logging.getLogger(__name__)

FORMAT = "m2svid study 1"


def collect(
    answers: list[str], key: Path = Path("study/key.json"), output: Path = Path("answers.json")
) -> dict[str, Any]:
    """Merge the files that participants sent back, with the methods' names.

    A file that can't be used is left out, and one sentence says why.

    Args:
        answers: files, or folders of files.
        key: of the study, as `study make` wrote it.
        output: JSON for `study report`; a CSV file of the same name lies beside it.

    Returns:
        The files, how many answers and participants they hold, and what was left out.

    Raises:
        UserError: no file can be used.
    """
    study = Key.read(key)
    found, left_out = _read([file for word in answers for file in _files(Path(word))], study)
    for sentence in left_out:
        log.warning("left out: %s", sentence)
    if not found:
        raise UserError("no file of answers can be used: " + (left_out or ["there is none"])[0])
    rows = [(answer, ranking) for answer in found for ranking in answer.rankings]
    content = {
        "format": FORMAT,
        "study": study.study,
        "kind": study.kind,
        "methods": study.methods,
        "rankings": [
            {"participant": answer.participant, "part": answer.part, **asdict(ranking)}
            for answer, ranking in rows
        ],
        "files": [
            {"file": answer.path.name, "participant": answer.participant, "part": answer.part}
            | {"started": answer.started, "finished": answer.finished, "remarks": answer.remarks}
            for answer in found
        ],
        "left_out": left_out,
    }
    for path in (output, output.with_suffix(".csv")):
        check_output(path, [key, *(answer.path for answer in found)])
    with whole(output) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    with whole(output.with_suffix(".csv")) as temporary, temporary.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["participant", "part", "video", "method", "rank", "place"])
        for answer, ranking in rows:
            films = zip(ranking.shown, ranking.ranks, strict=True)
            for place, (method, rank) in enumerate(films, 1):
                table.writerow([answer.participant, answer.part, ranking.video, method, rank, place])
    people = len({answer.participant.casefold() for answer in found})
    files = {"json": str(output), "csv": str(output.with_suffix(".csv"))}
    return files | {"answers": len(rows), "participants": people, "left_out": left_out}


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise UserError(f"{path} does not exist: give files of answers, or a folder of them")
    return sorted(path.glob("*.json")) if path.is_dir() else [path]


def _read(files: Sequence[Path], study: Key) -> tuple[list[Answers], list[str]]:
    """The usable answers, and a sentence for each other file."""
    found: list[Answers] = []
    left_out: list[str] = []
    for file in dict.fromkeys(files):
        try:
            answers = read_answers(file, study)
        except UserError as error:
            left_out.append(str(error))
            continue
        same = [a for a in found if a.same_person(answers) and a.same_answers(answers)]
        if same:
            left_out.append(f"{file} repeats {same[0].path}")
        else:
            found.append(answers)
    clear = []
    for answers in found:
        others = [a for a in found if a is not answers and a.same_person(answers)]
        twice = [a for a in others if a.trials & answers.trials]
        if twice:
            left_out.append(
                f"{answers.path} and {twice[0].path} are different answers of {answers.participant} about "
                "the same films: give only the one that counts"
            )
        else:
            clear.append(answers)
    return clear, left_out
