"""The strip of a film: its shots around a moment, and how comfortable they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import web

from m2svid.comfort.profiles import open_profile
from m2svid.comfort.verdict import TEXTS, against_limits
from m2svid.convert.comfort import ShotSpread, find_spreads
from m2svid.convert.stereo_options import Options
from m2svid.errors import UserError
from m2svid.ui.films import readable_film
from m2svid.ui.form import Form, is_depth_file
from m2svid.ui.requests import apart, body, field

_AROUND = 15.0  # s before and after a moment, in which shots are looked for: quick in a film of any length
_KEPT = 100  # stretches whose shots are remembered


def routes(form: Form) -> list[web.RouteDef]:
    """The routes of the strip."""

    async def shots(request: web.Request) -> web.Response:
        given = await body(request)
        film = readable_film(form.access, field(given, "film", str))
        chosen = form.options(field(given, "options", dict))
        at = float(field(given, "at", (int, float)))
        return web.json_response(await apart(find_shots, form, film, chosen, at))

    async def verdicts(request: web.Request) -> web.Response:
        given = await body(request)
        chosen = form.options(field(given, "options", dict))
        return web.json_response(judge(field(given, "spreads", list), chosen, field(given, "width", int)))

    return [web.post("/api/shots", shots), web.post("/api/verdicts", verdicts)]


def find_shots(form: Form, film: Path, chosen: Options, at: float) -> dict[str, Any]:
    """The shots of a film if its comfort was measured, else those around a moment.

    How far their depth reaches is known of measured films, and of others where depth comes from a file.

    Args:
        form: says where measurements are.
        film: the film.
        chosen: says what its depth is.
        at: the moment, s.

    Raises:
        UserError: the film or its depth can't be read.
    """
    record = form.comfort_page(film).with_suffix(".json")
    if record.exists() and record.stat().st_mtime >= film.stat().st_mtime:
        return {"whole": True, "shots": [asdict(shot) for shot in _measured(record)]}
    depth = chosen.depth if is_depth_file(chosen) else None
    reading = {name: getattr(chosen, name) for name in ("cuts", "autocrop", "depth_kind", "depth_range")}
    first = max(0.0, at // _AROUND - 1) * _AROUND  # moments that are close give the same stretch
    try:
        found = _around(film, film.stat().st_mtime_ns, first, depth, tuple(reading.items()))
    except UserError as error:
        if depth is None:
            raise
        found = _around(film, film.stat().st_mtime_ns, first, None, tuple(reading.items()))
        return {"whole": False, "shots": [asdict(shot) for shot in found], "problem": str(error)}
    return {"whole": False, "shots": [asdict(shot) for shot in found]}


@lru_cache(_KEPT)
def _around(
    film: Path, modified: int, first: float, depth: str | None, reading: tuple[tuple[str, Any], ...]
) -> list[ShotSpread]:
    part: Mapping[str, Any] = {"start": f"{first:f}s", "end": f"+{3 * _AROUND:f}s", **dict(reading)}
    chosen = Options(refine="none", devices="cpu", **part)
    return find_spreads(film, chosen if depth is None else replace(chosen, depth=depth), depth is not None)


def _measured(record: Path) -> list[ShotSpread]:
    try:
        shots = json.loads(record.read_text())["shots"]
        return [ShotSpread(shot["begin"], shot["end"], _spread(shot)) for shot in shots]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{record} is damaged: measure the comfort again") from error


def _spread(shot: Mapping[str, Any]) -> tuple[float, float] | None:
    """Inverse depth of the far and the near end, from the parallax that it has with strength and screen."""
    if "near" not in shot or "placed" not in shot:
        return None
    strength, screen = 100 * shot["placed"]["max_disparity"], shot["placed"]["convergence"]
    return screen - shot["far"] / strength, screen - shot["near"] / strength


def judge(spreads: list[Any], chosen: Options, width: int) -> list[dict[str, Any]]:
    """Compare shots with what is comfortable.

    Args:
        spreads: of every shot, inverse depth of its far and near end.
        chosen: strength, screen plane, and way of watching.
        width: of the film, px.

    Raises:
        UserError: a spread is not two numbers.
    """
    profile, found = open_profile(chosen.profile, chosen.fov if chosen.profile == "headset" else None), []
    for spread in spreads:
        try:
            far, near = map(float, spread)
        except (TypeError, ValueError) as error:
            raise UserError(f"a spread must be two numbers, not {spread!r}") from error
        placed = chosen.placement(width, (far, near))
        ends = np.array([placed.convergence - near, placed.convergence - far]) * placed.max_disparity
        nearest, farthest = (100 / width * ends).tolist()
        verdict = against_limits((nearest, farthest), profile)
        found.append({"verdict": verdict, "text": TEXTS[verdict], "near": nearest, "far": farthest})
    return found
