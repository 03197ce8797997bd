"""The key of a study: which film is of which method. It stays with whoever made the study."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from m2svid.errors import UserError

FORMAT = "m2svid study key 1"
Kind = Literal["desktop", "headset"]


@dataclass(frozen=True)
class Film:
    """The contents of a film.

    Attributes:
        video: name of the video.
        method: that made the right view.
        source: path and checksum of the file that the maker gave.
    """

    video: str
    method: str
    source: dict[str, Any]


@dataclass(frozen=True)
class Key:
    """A study, as its maker knows it.

    Attributes:
        study: its number, which answers repeat.
        kind: desktop = every film is given a rank; headset = two stereo films are compared.
        seed: of all that was drawn.
        methods: names, in the order in which they were given.
        films: by the film's number, which says nothing.
        parts: by number, what one participant answers at a time (desktop: a set; headset: a list): trials of
            films that are compared with each other.
        encoding: what was lost when the films were encoded for the study.
    """

    study: str
    kind: Kind
    seed: int
    methods: list[str]
    films: dict[str, Film]
    parts: dict[str, list[list[str]]]
    encoding: dict[str, Any]

    def write(self, path: Path) -> None:
        path.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> Key:
        """Raise a UserError if it is no key."""
        try:
            content = json.loads(path.read_text())
            if content.pop("format") != FORMAT:
                raise KeyError
            films = {number: Film(**film) for number, film in content.pop("films").items()}
            return cls(films=films, **content)
        except FileNotFoundError as error:
            raise UserError(f"{path} does not exist: name the key.json that `study make` wrote") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is no key of a study: name the key.json of `study make`") from error
