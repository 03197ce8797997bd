"""Films that are dropped onto the page: whole or not at all, and never in place of another."""

from __future__ import annotations

import re
from pathlib import Path

from aiohttp import web

from m2svid.errors import UserError
from m2svid.files import whole
from m2svid.ui.access import Access, Refused
from m2svid.ui.films import SHOWN, check_content
from m2svid.ui.requests import in_query

_NAME = re.compile(r"[\w][\w .,()+=@&'!\[\]-]{0,199}")


def routes(access: Access, largest: int) -> list[web.RouteDef]:
    """The route of uploads.

    Args:
        access: says into which folder they go, the first one that may be written.
        largest: bytes of an upload.
    """

    arriving: set[Path] = set()

    async def upload(request: web.Request) -> web.Response:
        path = access.write[0].resolve() / checked_name(in_query(request, "name"))
        announced = request.content_length
        if announced is None or announced > largest:
            limit = f"{largest / 2**30:.3g} GiB"
            raise Refused(
                f"{path.name} is larger than {limit}: start the page with a larger --largest-upload"
            )
        if path.exists() or path in arriving:
            raise UserError(f"{path} exists: rename the film that you drop, or pick that one")
        arriving.add(path)
        try:
            with whole(path) as temporary:
                await _receive(request, temporary, announced)
        finally:
            arriving.remove(path)
        return web.json_response({"path": str(path)})

    return [web.put("/api/upload", upload)]


async def _receive(request: web.Request, path: Path, announced: int) -> None:
    with path.open("xb") as file:
        async for piece in request.content.iter_chunked(1 << 20):
            file.write(piece)
    if path.stat().st_size != announced:
        raise UserError("the film has not arrived whole: drop it again")
    check_content(path)


def checked_name(name: str) -> str:
    """The name of a dropped film as it is.

    Raises:
        Refused: it has signs that a film's name does not need, such as a slash, or another ending.
    """
    if not _NAME.fullmatch(name):
        raise Refused(
            f"{name!r} is no plain name of a file: rename it with letters, digits, spaces and - _ . only"
        )
    if Path(name).suffix.lower() not in SHOWN:
        raise Refused(f"{name} is neither a film nor a picture")
    return name
