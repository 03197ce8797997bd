"""The server of the local page: its files, the routes of all parts, and how mistakes are answered."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

from aiohttp import web

from m2svid.errors import UserError
from m2svid.ui import films
from m2svid.ui.access import Access, Handler, Refused, guard

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


def application(access: Access, host: str, port: int, token: str | None = None) -> web.Application:
    """Make the server's application.

    Args:
        access: the folders that it may read and write.
        host: address that it is bound to.
        port: its port.
        token: that every request must have; None = none.
    """
    app = web.Application(middlewares=[_answer_mistakes, guard(host, port, token)])
    app.on_response_prepare.append(_add_headers)
    app.add_routes([web.get("/", _index), web.static("/page", PAGE)])
    app.add_routes(films.routes(access))
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
