"""The server of the local page: its files, the routes of all parts, and how mistakes are answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus
from pathlib import Path

from aiohttp import web

from m2svid.errors import UserError
from m2svid.training.runs import RUNS
from m2svid.ui import films, strip, uploads
from m2svid.ui import runs as run_routes
from m2svid.ui.access import Access, Handler, Refused, guard
from m2svid.ui.form import Form
from m2svid.ui.previews import Previews
from m2svid.ui.queue import Queue

PAGE = Path(__file__).parent / "page"

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
        "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def application(
    access: Access,
    host: str,
    port: int,
    token: str | None = None,
    weights: Sequence[str] = (),
    runs: Path = RUNS,
    largest_upload: int = 32 << 30,
    downloads: bool = False,
) -> web.Application:
    """Make the server's application.

    Args:
        access: the folders that it may read and write; its own are made in the first that it may write.
        host: address that it is bound to.
        port: its port.
        token: that every request must have; None = none.
        weights: folders of models that may be chosen.
        runs: folder of the runs, one that may be read.
        largest_upload: bytes of a film that is dropped onto the page.
        downloads: whether jobs may fetch models that are not on this machine.

    Raises:
        UserError: another server is at work in the folder.
    """
    app = web.Application(middlewares=[_answer_mistakes, guard(host, port, token)])
    app.on_response_prepare.append(_add_headers)
    own = access.write[0].resolve() / ".m2svid"
    form = Form(access, weights, own / "looks")
    previews = Previews(form, form.looks)
    queue = Queue(own / "queue", form, previews.forget, downloads)

    async def settings(request: web.Request) -> web.Response:
        return web.json_response(form.describe())

    async def tend(app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(queue.tend())
        yield
        task.cancel()

    async def stop(app: web.Application) -> None:
        await queue.stop()

    app.cleanup_ctx.append(tend)
    app.on_shutdown.append(stop)
    app.add_routes([web.get("/", _index), web.static("/page", PAGE), web.get("/api/settings", settings)])
    for part in (films.routes(access), uploads.routes(access, largest_upload), strip.routes(form)):
        app.add_routes(part)
    app.add_routes(run_routes.routes(access, runs, queue.add_command))
    app.add_routes([*previews.routes(lambda: queue.busy), *queue.routes()])
    return app


async def _index(request: web.Request) -> web.FileResponse:
    return web.FileResponse(PAGE / "index.html")


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)


@web.middleware
async def _answer_mistakes(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A mistake becomes `{"error": sentence}`."""
    try:
        return await handler(request)
    except Refused as error:
        return _error(error, HTTPStatus.FORBIDDEN)
    except UserError as error:
        return _error(error, HTTPStatus.BAD_REQUEST)
    except web.HTTPException as error:
        return _error(f"{request.path}: {error.reason}", error.status)


def _error(error: object, status: int) -> web.Response:
    return web.json_response({"error": str(error)}, status=status)
