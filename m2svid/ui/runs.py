"""Runs for the page: curves, pictures, results, configurations; and the commands that it starts for them."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from m2svid.errors import UserError
from m2svid.evaluation.results import spelled
from m2svid.report.collect import collect
from m2svid.report.columns import compared, digits, heading, score
from m2svid.training.runs import differences, written
from m2svid.ui import run_commands
from m2svid.ui.access import Access
from m2svid.ui.events import Curve, smoothed, thinned
from m2svid.ui.requests import apart, in_query, number
from m2svid.ui.run_folders import RunFolders

Enqueue = Callable[[Sequence[str], str], int]
"""Puts the words of a command and a title into the queue; gives the job's number."""

_POINTS = 1000  # of a curve
_PICTURES = {b"\x89PNG": "image/png", b"GIF8": "image/gif", b"\xff\xd8\xff": "image/jpeg"}
# A report has its own scripts in its one file: they run where they see nothing of this server.
_ALONE = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; media-src data:"
)


def routes(access: Access, folder: Path, enqueue: Enqueue) -> list[web.RouteDef]:
    """The routes of runs.

    Args:
        access: what may be read, and the folder that reports go to.
        folder: with a folder for each run.
        enqueue: starts commands.
    """
    runs = RunFolders(access, folder)
    reports = access.write[0].absolute() / "reports"

    def get(path: str, make: Callable[[RunFolders, web.Request], Any]) -> web.RouteDef:
        async def handler(request: web.Request) -> web.Response:
            return _json(await apart(make, runs, request))

        return web.get(f"/api/runs{path}", handler)

    async def picture(request: web.Request) -> web.Response:
        content, kind = await apart(_picture, runs, request)
        return web.Response(body=content, content_type=kind)

    def evaluation(request: web.Request) -> tuple[list[str], str]:
        name, checkpoint = in_query(request, "run"), in_query(request, "checkpoint")
        verb = in_query(request, "verb")
        return run_commands.evaluate(runs, name, verb, checkpoint), f"{verb} {name}, {checkpoint}"

    def report_place(request: web.Request) -> tuple[list[str], str]:
        names = request.query.getall("run", [])
        for name in names:
            runs.place(name)
        return names, str(reports / "+".join(names))

    def comparison(request: web.Request) -> tuple[list[str], str]:
        names, place = report_place(request)
        output = access.writable(place)
        return run_commands.report(runs, names, output), f"report of {', '.join(names)}"

    def command(path: str, make: Callable[[web.Request], tuple[list[str], str]]) -> list[web.RouteDef]:
        """GET shows the command that POST puts into the queue."""

        async def show(request: web.Request) -> web.Response:
            words, _ = await apart(make, request)
            return _json({"command": shlex.join(["python", "-m", "m2svid", *words])})

        async def put(request: web.Request) -> web.Response:
            words, title = await apart(make, request)
            return _json({"job": enqueue(words, title)})

        return [web.get(f"/api/runs{path}", show), web.post(f"/api/runs{path}", put)]

    async def report_page(request: web.Request) -> web.FileResponse:
        _, place = report_place(request)
        page = access.readable(f"{place}/index.html")
        if not page.is_file():
            raise web.HTTPNotFound(reason="this report is not made yet")
        return web.FileResponse(page, headers={"Content-Security-Policy": _ALONE})

    return [
        get("", lambda runs, request: {"runs": runs.listed(), "folder": str(runs.folder)}),
        get("/contents", _contents),
        get("/curves", _curves),
        web.get("/api/runs/picture", picture),
        get("/results", _results),
        get("/configuration", _configuration),
        *command("/evaluate", evaluation),
        *command("/report", comparison),
        web.get("/api/runs/report/page", report_page),
    ]


_dumps = partial(json.dumps, allow_nan=False)


def _json(content: Any) -> web.Response:
    return web.json_response(spelled(content), dumps=_dumps)


def _contents(runs: RunFolders, request: web.Request) -> Any:
    """What a run has: names of curves, steps of pictures, results, checkpoints and films."""
    name = in_query(request, "run")
    events = runs.events(name)
    scores, notes = runs.scores(name)
    return {
        "read": events.share,
        "notes": [*events.damaged.values(), *notes],
        "curves": events.tags(),
        "pictures": events.pictures(),
        "results": [asdict(each) for each in scores],
        "checkpoints": runs.checkpoints(name),
        "films": runs.predictions(name),
    }


def _curves(runs: RunFolders, request: web.Request) -> Any:
    """Curves of some tags and runs; with ?smooth=... also the moving average, made of all points."""
    weight = number(request, "smooth", 0, 0.999)
    made, share = [], 1.0
    for name in request.query.getall("run", []):
        events = runs.events(name)
        share = min(share, events.share)
        for tag in request.query.getall("tag", []):
            curve = events.curve(tag)
            if not len(curve.steps):
                continue
            drawn = {"points": curve.values} | ({"smooth": smoothed(curve.values, weight)} if weight else {})
            made.append(
                {"run": name, "tag": tag}
                | {
                    kind: _points(curve._replace(values=values), events.start)
                    for kind, values in drawn.items()
                }
            )
    return {"curves": made, "read": share}


def _points(curve: Curve, start: float) -> dict[str, list[float | None]]:
    """What is drawn of a curve: steps, hours since the start, values; None for those that aren't finite."""
    steps, times, values = curve.at(thinned(curve.values, _POINTS))
    return {
        "steps": steps.tolist(),
        "hours": [round(hours, 5) for hours in ((times - start) / 3600).tolist()],
        "values": [float(f"{value:.6g}") if math.isfinite(value) else None for value in values.tolist()],
    }


def _picture(runs: RunFolders, request: web.Request) -> tuple[bytes, str]:
    """A logged picture and its media type."""
    events, step = runs.events(in_query(request, "run")), int(number(request, "step", 0, 1e12))
    content = events.picture(in_query(request, "tag"), step)
    for begin, kind in _PICTURES.items():
        if content.startswith(begin):
            return content, kind
    raise UserError("the picture is neither PNG, GIF nor JPEG")


def _results(runs: RunFolders, request: web.Request) -> Any:
    """The values of every video in one or two files of results, ?run=...&file=... for each, and their gains.

    A gain is 1 where the second is better than the first, -1 where it is worse.
    """
    given = list(zip(request.query.getall("run", []), request.query.getall("file", []), strict=False))
    if len(given) not in (1, 2):
        raise UserError("the request needs one or two of run=... with file=...")
    names = [f"{side}: {name}, {Path(file).stem}" for side, (name, file) in zip("AB", given, strict=False)]
    words = [f"{name}={runs.results(*each)}" for name, each in zip(names, given, strict=True)]
    datasets = collect(words)
    if len(datasets) > 1:
        raise UserError(f"{' and '.join(names)} are of different data sets: choose results of one")
    dataset = datasets[0]
    methods = list(dataset.methods.values())

    def entry(metric: str, values: list[float | None]) -> dict[str, Any]:
        known = len(values) == 2 and compared(metric) and None not in values
        first, second = (score(metric, value) for value in values) if known else (0.0, 0.0)
        return {"values": values, "gain": (second > first) - (second < first)}

    return {
        "names": list(dataset.methods),
        "notes": dataset.notes,
        "metrics": [
            {"name": m, "heading": heading(m), "digits": digits(m) + 1, "compared": compared(m)}
            for m in dataset.metrics
        ],
        "means": [entry(metric, [each.mean(metric) for each in methods]) for metric in dataset.metrics],
        "videos": [
            {
                "key": video,
                "entries": [
                    entry(metric, [each.values.get(metric, {}).get(video) for each in methods])
                    for metric in dataset.metrics
                ],
            }
            for video in dataset.videos
        ],
    }


def _configuration(runs: RunFolders, request: web.Request) -> Any:
    """The options of a run, or of two and what differs."""
    names = request.query.getall("run", [])
    options = [runs.configuration(name) for name in names]
    if len(options) not in (1, 2):
        raise UserError("the request needs one or two of run=...")
    changed = differences(*({**each, "run": None} for each in options)) if len(options) == 2 else {}
    return {
        "options": [yaml.safe_dump(each, sort_keys=False) for each in options],
        "changed": [[name, *map(written, pair)] for name, pair in changed.items()],
    }
