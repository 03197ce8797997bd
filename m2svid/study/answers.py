"""Files of answers, as a study's page hands them out, checked against the study's key."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2svid.errors import UserError
from m2svid.study.key import Key

FORMAT = "m2svid study answers 1"


@dataclass(frozen=True)
class Ranking:
    """A participant's ranks of the films of one video.

    Attributes:
        video: its name.
        shown: the methods in the order in which their films were shown.
        ranks: in the same order as given, 1 = best; equal ranks are ties.
    """

    video: str
    shown: list[str]
    ranks: list[int]


@dataclass(frozen=True)
class Answers:
    """One file.

    Attributes:
        path: of the file.
        participant: what they call themselves.
        part: number of the set or list.
        started: ISO 8601.
        finished: ISO 8601.
        remarks: free text.
        rankings: in the order of the part.
    """

    path: Path
    participant: str
    part: str
    started: str
    finished: str
    remarks: str
    rankings: list[Ranking]

    @property
    def trials(self) -> set[tuple[str, frozenset[str]]]:
        """The films that were compared."""
        return {(each.video, frozenset(each.shown)) for each in self.rankings}

    def same_person(self, other: Answers) -> bool:
        return self.participant.casefold() == other.participant.casefold()

    def same_answers(self, other: Answers) -> bool:
        return self.part == other.part and self.rankings == other.rankings


def read_answers(path: Path, key: Key) -> Answers:
    """Read a file of answers and name the methods.

    Raises:
        UserError: it is no such file, belongs to another study, was changed or isn't complete.
    """
    content = _content(path, key)
    trials = key.parts.get(content["part"])
    if trials is None:
        raise UserError(f"{path} answers part {content['part']}, and the study has {', '.join(key.parts)}")
    if len(content["answers"]) != len(trials):
        raise UserError(f"{path} isn't complete: it has {len(content['answers'])} of {len(trials)} answers")
    rankings = []
    for number, (trial, answer) in enumerate(zip(trials, content["answers"], strict=True), 1):
        films, ranks = answer["films"], answer["ranks"]
        if sorted(films) != sorted(trial) or len(ranks) != len(films):
            raise UserError(f"{path} isn't complete: answer {number} isn't about the films of the study")
        wrong = [rank for rank in ranks if not isinstance(rank, int) or not 1 <= rank <= len(films)]
        if wrong:
            raise UserError(f"{path}: a rank in answer {number} is {wrong[0]}, not 1 to {len(films)}")
        shown = [key.films[film].method for film in films]
        rankings.append(Ranking(key.films[films[0]].video, shown, ranks))
    texts = {name: content[name] for name in ("participant", "part", "started", "finished", "remarks")}
    return Answers(path=path, rankings=rankings, **texts)


def _content(path: Path, key: Key) -> dict[str, Any]:
    try:
        file = json.loads(path.read_text(encoding="utf-8"))
        content, checksum = file["content"], file["checksum"]
        if file["format"] != FORMAT or not content["participant"]:
            raise KeyError
        study, _ = content["study"], [content[name] for name in ("part", "started", "finished", "remarks")]
        [(answer["films"], answer["ranks"]) for answer in content["answers"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} holds no answers: give files that the study's page handed out") from error
    if study != key.study:
        raise UserError(f"{path} belongs to another study, {study} and not {key.study}")
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))  # as JSON.stringify writes it
    if f"{zlib.crc32(text.encode()):08x}" != checksum:
        raise UserError(f"{path} was changed after the page handed it out: ask for the original file")
    return content
