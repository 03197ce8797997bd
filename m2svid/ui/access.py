"""What the page may touch, and which requests are its own."""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import web

from m2svid.errors import UserError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Middleware = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]

_LOCAL = ("localhost", "127.0.0.1", "::1")


class Refused(UserError):  # noqa: N818, a refusal is the answer
    """Something that the page may not do: the server answers with status 403."""


@dataclass(frozen=True)
class Access:
    """The folders that the page was started with.

    Args:
        read: folders whose files may be read.
        write: folders in which files may also be made.
    """

    read: Sequence[Path]
    write: Sequence[Path]

    def readable(self, path: str) -> Path:
        """The real place of a file or folder that may be read, links followed.

        Raises:
            Refused: it lies elsewhere.
        """
        return _inside(path, [*self.read, *self.write], "read")

    def writable(self, path: str) -> Path:
        """The real place of a file or folder that may be made or changed, links followed.

        Raises:
            Refused: it lies elsewhere.
        """
        return _inside(path, self.write, "write")


def _inside(path: str, folders: Sequence[Path], verb: str) -> Path:
    given = Path(path)
    if "\0" in path or not given.is_absolute():
        raise Refused(f"{path!r} is not the full path of a file or folder")
    try:
        real = given.resolve()
    except (OSError, RuntimeError) as error:  # links in a circle
        raise Refused(f"{path} can't be followed: {error}") from error
    if not any(real.is_relative_to(folder.resolve()) for folder in folders):
        raise Refused(f"{path} is not in a folder that this page may {verb}: start it with that folder")
    return real


def is_local(host: str) -> bool:
    """True for an address that only this machine reaches."""
    return host in _LOCAL


def guard(host: str, port: int, token: str | None) -> Middleware:
    """Make the middleware that lets only requests of the page itself through.

    A page of another site that has its name point to this machine gives itself away by `Host`; one that sends
    requests here, by `Origin` or `Sec-Fetch-Site`.

    Args:
        host: address that the server is bound to.
        port: its port.
        token: that a request must have as a cookie, which the address `/?token=...` sets; None = none.
    """
    cookie = f"m2svid-{port}"  # all ports of a machine share their cookies

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not _is_ours(urlsplit(f"//{request.host}").hostname or "", host):
            raise Refused(f"this server is not {request.host}: use the address that it printed")
        _check_origin(request)
        if token is None:
            return await handler(request)
        shown = request.query.get("token", "") if request.path == "/" else ""
        if shown and hmac.compare_digest(shown.encode(), token.encode()):
            answer = web.Response(status=HTTPStatus.FOUND, headers={"Location": "/"})
            answer.set_cookie(cookie, token, httponly=True, samesite="Strict", path="/")
            return answer
        if not hmac.compare_digest(request.cookies.get(cookie, "").encode(), token.encode()):
            raise Refused("the token is missing or wrong: use the address that the server printed")
        return await handler(request)

    return check


def _is_ours(name: str, host: str) -> bool:
    """Whether a name in `Host` may stand for the server; an address can't be made to point elsewhere."""
    if name in (host, *_LOCAL):
        return True
    if is_local(host):
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in (socket.gethostname(), socket.getfqdn())
    return True


def _check_origin(request: web.Request) -> None:
    origin = request.headers.get("Origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.host
    if foreign or (origin is None and request.method not in ("GET", "HEAD")):
        raise Refused(f"a request from {origin or 'an unknown place'} is not one of this page")
    # A link elsewhere may lead to the page, but nothing elsewhere may show or use what the server gives.
    site = request.headers.get("Sec-Fetch-Site", "none")
    if request.path != "/" and site not in ("same-origin", "none"):
        raise Refused("another page asks for this: only this server's own page may")
