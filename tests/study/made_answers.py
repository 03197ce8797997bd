"""Files of answers as the page writes them, made without it."""

from __future__ import annotations

import binascii
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def answer_file(
    path: Path,
    key: dict[str, Any],
    part: str,
    participant: str,
    ranks: Sequence[dict[str, int]],
    /,
    **changes: Any,
) -> Path:
    """Ranks by method for each trial of a part; `changes` to the content are under the checksum too."""
    answers = [
        {"films": trial, "ranks": [given[key["films"][film]["method"]] for film in trial]}
        for trial, given in zip(key["parts"][part], ranks, strict=True)
    ]
    content = {
        "study": key["study"],
        "part": part,
        "participant": participant,
        "started": "2026-01-02T03:04:05.678Z",
        "finished": "2026-01-02T03:14:05.678Z",
        "remarks": 'schön "flach"\n',
        "answers": answers,
    } | changes
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    checksum = f"{binascii.crc32(text):08x}"
    file = {"format": "m2svid study answers 1", "content": content, "checksum": checksum}
    path.write_text(json.dumps(file, ensure_ascii=False, indent=1))
    return path


def made_key(
    path: Path, kind: str, methods: Sequence[str], parts: dict[str, Sequence[str]]
) -> dict[str, Any]:
    """A key without films: the videos of each part; in a headset study each list has all pairs (A, B)."""
    films = {
        f"{video} {method}": {"video": video, "method": method, "source": {}}
        for videos in parts.values()
        for video in videos
        for method in methods
    }
    key = {
        "format": "m2svid study key 1",
        "study": f"the {kind} one",
        "kind": kind,
        "seed": 1,
        "methods": list(methods),
        "films": films,
        "parts": {
            part: [[f"{video} {method}" for method in methods] for video in videos]
            for part, videos in parts.items()
        },
        "encoding": {},
    }
    path.write_text(json.dumps(key))
    return key
