"""The settings of the page: the options of `convert`, and the command that a choice of them makes."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from docstring_parser import parse

from m2svid.convert.comfort import ComfortOptions
from m2svid.convert.films import output_name
from m2svid.convert.options import DEFAULT_DEPTH, flag
from m2svid.convert.presets import PRESETS, with_preset
from m2svid.convert.stereo_options import Options, sections
from m2svid.depth.files import DepthFile
from m2svid.errors import UserError
from m2svid.ui.access import Access, Refused
from m2svid.ui.films import readable_film
from m2svid.video.read import Video

DEPTHS = (DEFAULT_DEPTH, "video-depth-anything", "tencent/DepthCrafter")
VISIBLE = ("preset", "layout", "refine", "max_disparity", "convergence")
"""The options that the page shows at first."""

_ELSEWHERE = ("progress", "depth", "start", "end", "weights")  # are set in other places of the page
_PATHS = ("depth", "depth_backbone")
_KINDS = {float: "number", int: "integer", bool: "switch", str: "text"}
_SECONDS = 2  # of a film that shows a moment

Kind = Literal["convert", "preview", "comfort"]


@dataclass(frozen=True)
class Order:
    """What the page asks for.

    Attributes:
        kind: the film, two seconds of it, or a measurement of its comfort.
        film: its full path.
        options: of `convert`, by name.
        at: the moment, for two seconds of it.
        output: the file to make; None = named after the film.
    """

    kind: Kind
    film: str
    options: Mapping[str, Any]
    at: str | None = None
    output: str | None = None


@dataclass(frozen=True)
class Command:
    """The words behind `python -m m2svid`, and the file that they make."""

    words: Sequence[str]
    output: Path

    def __str__(self) -> str:
        return shlex.join(["python", "-m", "m2svid", *self.words])


@dataclass(frozen=True)
class Form:
    """The settings that the page may choose.

    Args:
        access: the folders.
        weights: folders of models that it may choose.
        looks: folder for what is made to be looked at.
    """

    access: Access
    weights: Sequence[str]
    looks: Path

    def describe(self) -> dict[str, Any]:
        """The options with their types, defaults and help, for the page."""
        shown = [option for option in described() if option["name"] not in _ELSEWHERE]
        return {
            "options": shown,
            "visible": VISIBLE,
            "presets": PRESETS,
            "weights": list(self.weights),
            "depths": DEPTHS,
        }

    def options(self, given: Mapping[str, Any]) -> Options:
        """The options of `convert` with what the page gives.

        Raises:
            UserError: there is no such option, or it can't have the value.
            Refused: it names a file elsewhere.
        """
        known = {option["name"]: option for option in described()}
        for name, value in given.items():
            if name not in known or name == "progress":
                raise UserError(f"there is no setting {name!r}")
            _check(known[name], value)
        for name in _PATHS:
            self._check_path(name, given.get(name))
        if given.get("weights") not in (None, *self.weights):
            raise Refused(f"--weights {given['weights']} is none of those that the page was started with")
        return Options(**with_preset(given))

    def command(self, order: Order) -> Command:
        """The command that does what the page asks for: the one that is shown is the one that is run.

        Raises:
            UserError: a mistake.
            Refused: it names a file elsewhere.
        """
        film, chosen = readable_film(self.access, order.film), self.options(order.options)
        if order.kind == "convert":
            output = self._output(film, order.output, chosen)
            return Command(["convert", str(film), "-o", str(output), *_words(order.options)], output)
        if order.kind == "preview":
            output, at = self.look(film, f"_{(order.at or '0s').replace(':', '.')}.mp4"), order.at or "0s"
            part = ["--at", at, "--seconds", str(_SECONDS), "-o", str(output)]
            return Command(["preview", str(film), *part, *_words(_of_preview(order.options, film))], output)
        if order.kind == "comfort":
            output = self.comfort_page(film)
            return Command(
                ["comfort", str(film), "-o", str(output), *_words(_of_comfort(order.options))], output
            )
        raise UserError(f"kind must be convert, preview or comfort, not {order.kind!r}")

    def look(self, film: Path, end: str) -> Path:
        """A name for what is made of a film to be looked at; films of one name in two folders get two."""
        place = hashlib.sha256(str(film).encode()).hexdigest()[:8]
        return self.looks / f"{film.stem[:80]}-{place}{end}"

    def comfort_page(self, film: Path) -> Path:
        """The page with the comfort of a film."""
        return self.look(film, "_comfort.html")

    def _output(self, film: Path, given: str | None, chosen: Options) -> Path:
        if given is None:
            return output_name(film, self.access.write[0], chosen)
        output = self.access.writable(given)
        if output.is_relative_to(self.looks.parent):
            raise Refused(f"{output} is the page's own folder: give another name")
        return output

    def _check_path(self, name: str, value: str | None) -> None:
        if value is not None and value not in DEPTHS:
            self.access.readable(value)


def is_depth_file(options: Options) -> bool:
    """True where depth comes from a file, and is quickly there."""
    return DepthFile.accepts(options.depth)


@cache
def described() -> list[dict[str, Any]]:
    """The options of `convert`: name, flag, section of --help, help, kind, choices, and default."""
    helps = {p.arg_name: p.description for base in Options.__mro__ for p in parse(base.__doc__ or "").params}
    hints, titles = get_type_hints(Options), sections()
    found = []
    for field in fields(Options):
        kind, choices = _kind(hints[field.name])
        text = " ".join(str(helps[field.name]).split())
        found.append(
            {
                "name": field.name,
                "flag": flag(field.name),
                "section": titles.get(field.name, "most used"),
                "help": text,
                "kind": kind,
                "choices": choices,
                "default": field.default,
            }
        )
    return found


def _kind(hint: Any) -> tuple[str, list[Any]]:
    """The kind of a value, and the words that it may also be."""
    parts = (hint,) if get_origin(hint) is Literal else get_args(hint) or (hint,)
    choices = [value for part in parts if get_origin(part) is Literal for value in get_args(part)]
    return next((_KINDS[part] for part in parts if part in _KINDS), "choice"), choices


def _check(option: Mapping[str, Any], value: Any) -> None:
    kind = {name: kind for kind, name in _KINDS.items()}.get(option["kind"], ())
    fits = isinstance(value, (int, float) if kind is float else kind)
    if not (fits and isinstance(value, bool) == (kind is bool)) and value not in [*option["choices"], None]:
        raise UserError(f"{option['flag']} can't be {value!r}")


def _words(options: Mapping[str, Any]) -> list[str]:
    given = {name: value for name, value in options.items() if value is not None}
    return [
        word
        for name, value in given.items()
        for word in (flag(name), str(value).lower() if isinstance(value, bool) else str(value))
    ]


def _of_preview(options: Mapping[str, Any], film: Path) -> dict[str, Any]:
    """The same in a kind of film that browsers play."""
    without = {name: value for name, value in options.items() if name not in ("start", "end", "restart")}
    chosen = _without_angle({**without, "layout": "sbs", "codec": "h264", "bits": 8})
    return {**chosen, "to_sdr": True} if Video(film).info.hdr else chosen


def _of_comfort(options: Mapping[str, Any]) -> dict[str, Any]:
    known = {field.name for field in fields(ComfortOptions)} - {"layout"}
    return _without_angle({name: value for name, value in with_preset(options).items() if name in known})


def _without_angle(options: Mapping[str, Any]) -> dict[str, Any]:
    """Without the angle of the camera, which only some layouts need; that of a headset is kept."""
    headset = with_preset(options).get("profile") == "headset"
    return {name: value for name, value in options.items() if headset or name != "fov"}
