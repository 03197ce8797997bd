"""Verdicts on the numbers of a shot, for those who watch it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from m2svid.comfort.measures import ShotParallax
from m2svid.comfort.profiles import Profile

VerdictName = Literal["comfortable", "flat", "short", "strong", "unknown"]
TEXTS: dict[VerdictName, str] = {
    "comfortable": "comfortable",
    "flat": "comfortable, but flat",
    "short": "for short excursions only",
    "strong": "too strong",
    "unknown": "not measured: too little of it matches",
}
SEVERITY: tuple[VerdictName, ...] = ("unknown", "flat", "comfortable", "short", "strong")

TOLERANCE = 0.1  # %: half a pixel of a view of 500, to which views are shifted and matched
# These three have no source but what this project finds reasonable; the report says so.
FLAT = 0.2  # of what a profile allows from near to far
WINDOW = 0.05  # of a border
JUMP = 0.5  # of a profile's range


@dataclass(frozen=True)
class Verdict:
    """Attributes:
    name: against the profile's limits.
    notes: sentences on what else may hurt.
    """

    name: VerdictName
    notes: tuple[str, ...]


def judge(shot: ShotParallax, before: ShotParallax | None, profile: Profile) -> Verdict:
    """Compare a shot with a profile."""
    notes = []
    for side, share in zip(("left", "right"), shot.window, strict=True):
        if share > WINDOW:
            notes.append(f"{100 * share:.0f} % of the {side} border is in front of the screen and cut off")
    jump = shot.jump(before)
    if jump is not None and abs(jump) > JUMP * profile.range:
        notes.append(f"its middle jumps by {jump:+.1f} % at the cut before")
    return Verdict(against_limits(shot.ends, profile), tuple(notes))


def against_limits(ends: tuple[float, float] | None, profile: Profile) -> VerdictName:
    """Compare a shot's nearest and farthest parallax, % of the width, with a profile; None = not known."""
    if ends is None:
        return "unknown"
    near, far = ends
    inside = profile.nearest - TOLERANCE <= near and far <= profile.farthest + TOLERANCE
    if not inside or far - near > profile.range + 2 * TOLERANCE:
        return "strong"
    if near < profile.near - TOLERANCE or far > profile.far + TOLERANCE:
        return "short"
    return "flat" if far - near < FLAT * (profile.far - profile.near) else "comfortable"
