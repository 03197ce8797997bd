"""The server of the page in a thread of the test's own process, and requests to it."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from m2svid.ui.access import Access
from m2svid.ui.server import application


@dataclass
class Answer:
    """What the server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Served:
    """A server at work."""

    port: int
    access: Access = field(repr=False)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, path: str, method: str = "GET", body: Any = None, timeout: float = 30, **headers: str
    ) -> Answer:
        """Send a request as it is written, without making its path tidy; a body that isn't bytes as JSON.

        Requests that change something have the page's own origin, if no other is given.
        """
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if method != "GET":
            given.setdefault("Origin", self.address)
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.putrequest(method, path, skip_host="Host" in given)
            for name, value in given.items():
                connection.putheader(name, value)
            if content is not None and "Content-Length" not in given:
                connection.putheader("Content-Length", str(len(content)))
            connection.endheaders(content)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def first_event(self, path: str) -> Any:
        """The first of server-sent events."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().readline().removeprefix(b"data: "))
        finally:
            connection.close()


@contextmanager
def served(access: Access, token: str | None = None, **options: Any) -> Iterator[Served]:
    """Serve the page at a free port while the context lasts; options are those of `application`."""
    place = socket.create_server(("127.0.0.1", 0))
    port = place.getsockname()[1]
    loop, ready = asyncio.new_event_loop(), threading.Event()

    async def start() -> web.AppRunner:
        runner = web.AppRunner(application(access, "127.0.0.1", port, token, **options))
        await runner.setup()
        await web.SockSite(runner, place).start()
        return runner

    def serve() -> None:
        runner = loop.run_until_complete(start())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        left = asyncio.all_tasks(loop)
        for task in left:  # connections that a test has left open
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield Served(port, access)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
