"""The report on a film's parallax, as JSON and as a page.

Shapes: H W pixels of a frame, h w of a parallax map.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from m2svid.comfort.measures import BORDER, IN_FRONT, ShotParallax
from m2svid.comfort.profiles import Placement, Profile, keep
from m2svid.comfort.verdict import FLAT, JUMP, SEVERITY, TEXTS, WINDOW, Verdict, judge

_WIDTH = 400  # px of a picture in the page
_QUALITY = 80  # of JPEG
_RED, _BLUE = (225, 45, 35), (30, 90, 235)  # in front of the screen, behind it
_COVER = 0.7  # of a tint at a limit
_CONVENTION = (
    "parallax is x in the right view minus x in the left view, in % of the picture's width: below 0 in front "
    "of the screen, above 0 behind it; near and far are the 1st and 99th percentile of a shot's pixels"
)


@dataclass(frozen=True)
class Measured:
    """A shot as it was measured.

    Attributes:
        parallax: its numbers.
        picture: data URI of a frame of it.
        placed: strength, % of the width, and screen plane that it was measured with; None = a stereo film.
        spread: inverse depth of its far and near end; None = a stereo film.
    """

    parallax: ShotParallax
    picture: str
    placed: Placement | None = None
    spread: tuple[float, float] | None = None


def assess(shots: Sequence[Measured], profile: Profile) -> dict[str, Any]:
    """Everything that is told of a film, as JSON has it, pictures included."""
    verdicts = [
        judge(shot.parallax, before and before.parallax, profile)
        for before, shot in zip([None, *shots], shots, strict=False)
    ]
    told = [_shot(shot, verdict, profile) for shot, verdict in zip(shots, verdicts, strict=True)]
    for entry, before, shot in zip(told[1:], shots, shots[1:], strict=False):
        entry["jump"] = _rounded(shot.parallax.jump(before.parallax))
    seconds = dict.fromkeys(SEVERITY, 0.0)
    for shot, verdict in zip(shots, verdicts, strict=True):
        seconds[verdict.name] += shot.parallax.end - shot.parallax.begin
    worst = max((verdict.name for verdict in verdicts), key=SEVERITY.index)
    limits = {name: getattr(profile, name) for name in ("near", "far", "nearest", "farthest", "range")}
    return {
        "convention": _CONVENTION,
        "profile": asdict(profile)
        | {name: round(value, 3) for name, value in limits.items()}
        | {"degrees": {name: round(profile.degrees(value), 3) for name, value in limits.items()}},
        "own_limits": (
            f"Flat (under {100 * FLAT:g} % of what the profile allows), cut by a border (more than "
            f"{100 * WINDOW:g} % of the outer {100 * BORDER:g} % farther in front than {-IN_FRONT:g} %) and "
            f"jumps (more than {100 * JUMP:g} % of the profile's range) are this project's own limits."
        ),
        "verdict": {
            "name": worst,
            "text": _sentence(worst, seconds),
            "seconds": {name: round(value, 2) for name, value in seconds.items()},
        },
        "keep": _keep_all(shots, profile),
        "shots": told,
    }


def _sentence(worst: str, seconds: dict[str, float]) -> str:
    whole = sum(seconds.values())
    parts = [
        f"{seconds[name]:.1f} s ({100 * seconds[name] / whole:.0f} %) {TEXTS[name]}"
        for name in reversed(SEVERITY)
        if seconds[name]
    ]
    return f"{TEXTS[worst].capitalize()}: {', '.join(parts)}" if len(parts) > 1 else TEXTS[worst].capitalize()


def _shot(shot: Measured, verdict: Verdict, profile: Profile) -> dict[str, Any]:
    parallax = shot.parallax
    entry: dict[str, Any] = {
        "shot": parallax.shot.index + 1,
        "frames": [parallax.shot.start, parallax.shot.stop],
        "begin": round(parallax.begin, 3),
        "end": round(parallax.end, 3),
        "verdict": verdict.name,
        "text": TEXTS[verdict.name],
        "notes": list(verdict.notes),
    }
    if parallax.ends is not None:
        near, far = parallax.ends
        values = {"near": near, "far": far, "range": far - near}
        entry |= {name: round(value, 2) for name, value in values.items()}
        entry["degrees"] = {name: round(profile.degrees(value), 2) for name, value in values.items()}
        share = parallax.spread.share
        entry["beyond"] = {
            "near": round(1 - share(profile.near, np.inf), 4),
            "far": round(1 - share(-np.inf, profile.far), 4),
            "nearest": round(1 - share(profile.nearest, np.inf), 4),
            "farthest": round(1 - share(-np.inf, profile.farthest), 4),
        }
        entry["window"] = [round(side, 4) for side in parallax.window]
        entry["speed"] = round(parallax.speed, 2)
    if shot.placed is not None:
        entry["placed"] = _options(shot.placed)
    entry["keep"] = _keep(shot, verdict, profile)
    entry["picture"] = shot.picture
    entry["samples"] = [[round(value, 3) for value in astuple(frame)] for frame in parallax.frames]
    return entry


def _keep(shot: Measured, verdict: Verdict, profile: Profile) -> dict[str, float] | None:
    """The change that keeps the profile: options of `convert`, or factor and shift of a stereo film."""
    if shot.spread is not None:
        return _options(keep(profile, *shot.spread))
    if shot.parallax.ends is None or verdict.name in ("comfortable", "flat"):
        return None
    return _change([shot.parallax.ends], profile)


def _keep_all(shots: Sequence[Measured], profile: Profile) -> dict[str, float] | None:
    """The same, one for the whole film."""
    spreads = [shot.spread for shot in shots if shot.spread is not None]
    if spreads:
        return _options(keep(profile, min(far for far, _ in spreads), max(near for _, near in spreads)))
    ends = [shot.parallax.ends for shot in shots if shot.parallax.ends is not None]
    return _change(ends, profile) if ends else None


def _options(placement: Placement) -> dict[str, float]:
    return {
        "max_disparity": round(placement.max_disparity / 100, 4),
        "convergence": round(placement.convergence, 3),
    }


def _change(ends: Sequence[tuple[float, float]], profile: Profile) -> dict[str, float]:
    """Factor, at most 1, and shift, %, of parallax; -parallax takes the place of inverse depth in `keep`."""
    near, far = min(near for near, _ in ends), max(far for _, far in ends)
    kept = keep(profile, -far, -near, largest=1.0)
    return {"factor": round(kept.max_disparity, 3), "shift": round(kept.offset, 2)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def draw_parallax(rgb: NDArray[np.uint8], parallax: NDArray[np.float32], profile: Profile) -> str:
    """Data URI of a frame in gray, the more red the farther in front of the screen, the more blue behind it.

    Args:
        rgb: (H, W, 3), squeezed or not; drawn in the shape of the map.
        parallax: (h, w), NaN where not known.
        profile: its short excursions have the strongest tint.
    """
    h, w = parallax.shape
    size = (_WIDTH, max(1, round(_WIDTH * h / w)))
    gray = cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
    near = parallax < 0
    cover = np.where(near, parallax / profile.nearest, parallax / profile.farthest).clip(0, 1) * _COVER
    tint = np.where(near[..., None], np.float32(_RED), np.float32(_BLUE))
    known = np.isfinite(parallax)[..., None]
    layers = np.concatenate([tint, cover[..., None]], -1) * known  # the colour, and how much of it
    layers = cv2.resize(np.nan_to_num(layers).astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
    mixed = gray[..., None] * (1 - layers[..., 3:]) + layers[..., :3] * layers[..., 3:]
    bgr = mixed[..., ::-1].round().astype(np.uint8)
    _, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()
