"""Presets: the options that suit a way of watching, as defaults that every given option replaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

from m2svid.errors import UserError

PresetName = Literal["quest", "vision", "tv", "youtube", "cardboard"]

_COMFORTABLE = {"max_disparity": "auto", "convergence": "auto"}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "quest": {"layout": "sbs", "codec": "h265", "bits": 8, "profile": "headset", **_COMFORTABLE},
    "vision": {"layout": "spatial", "profile": "headset", **_COMFORTABLE},
    "tv": {"layout": "sbs-half", "codec": "h264", "bits": 8, "profile": "tv", **_COMFORTABLE},
    "youtube": {"layout": "sbs", "bits": 8, "crf": 16, "profile": "tv", **_COMFORTABLE},
    "cardboard": {"layout": "sbs", "codec": "h264", "bits": 8, "profile": "headset", **_COMFORTABLE},
}


def defaults(words: Sequence[str]) -> dict[str, Any]:
    """Find the options that a preset among the words of a command sets.

    Raises:
        UserError: there is no such preset.
    """
    for word, following in pairwise([*words, ""]):
        name, equals, value = word.partition("=")
        if name == "--preset":
            return dict(_preset(value if equals else following))
    return {}


def with_preset(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options, and what their preset sets of others. Raises UserError where there is no such preset."""
    name = options.get("preset")
    return {**({} if name is None else _preset(name)), **options}


def describe(name: PresetName | None, options: Any) -> list[str]:
    """A line for each option that a preset sets.

    Args:
        name: of the preset.
        options: as they are used.
    """
    lines = []
    for option, value in PRESETS.get(name or "", {}).items():
        given = getattr(options, option)
        instead = "" if given == value else f", but {given} is given"
        lines.append(f"preset {name}: --{option.replace('_', '-')} {value}{instead}")
    return lines


def _preset(name: str) -> Mapping[str, Any]:
    if name not in PRESETS:
        raise UserError(
            f"--preset must be one of {', '.join(PRESETS)}, not {name!r}; the encoder's speed is --speed"
        )
    return PRESETS[name]
