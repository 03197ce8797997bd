"""Films for the page: their files."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from aiohttp import web

from m2svid.errors import UserError
from m2svid.ui.access import Access, Refused
from m2svid.video.read import IMAGE_SUFFIXES, VIDEO_SUFFIXES

SHOWN = frozenset(VIDEO_SUFFIXES) | frozenset(IMAGE_SUFFIXES)


def routes(access: Access) -> list[web.RouteDef]:
    """The routes of films and pictures."""

    async def file(request: web.Request) -> web.StreamResponse:
        path = access.readable(_query(request, "path"))
        return _served(path)

    return [web.get("/api/file", file)]


def _query(request: web.Request, name: str) -> str:
    if name not in request.query:
        raise UserError(f"{request.path} needs ?{name}=...")
    return request.query[name]


def _served(path: Path) -> web.FileResponse:
    """A film or picture, of which a browser may ask for parts; anything else could be run by it."""
    if path.suffix.lower() not in SHOWN:
        raise Refused(f"{path} is neither a film nor a picture")
    if not path.is_file():
        raise web.HTTPNotFound(reason=f"there is no file {path}")
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return web.FileResponse(path, headers={"Content-Type": kind})
