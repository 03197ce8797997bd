"""A browser without a window: what a page becomes, or one tab that a test drives through two pipes."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
_PATIENCE = 60  # s
# Requests that a page's own policy refuses are told to nobody but the page.
_WATCH = """window.refused = [];
addEventListener("securitypolicyviolation", event => refused.push(event.blockedURI));"""

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium or Chrome to use the page")


def shown(address: str) -> str:
    """The HTML of a page after its scripts have run for some seconds."""
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=4000", "--dump-dom"]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM, *words, f"--user-data-dir={profile}", address]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


class Browser:
    """One tab.

    Args:
        profile: folder in which the browser keeps what it has to.
        size: of the window, px.
        webgl: draw with WebGL, in software.

    Attributes:
        document: the document that is open, by the number of its loader.
        requests: the addresses that each document has asked for; the last requests of a document may be told
            after the next one has been opened.
    """

    def __init__(self, profile: Path, size: tuple[int, int] = (1400, 1000), webgl: bool = False) -> None:
        ours_in, theirs_out = os.pipe()
        theirs_in, self._out = os.pipe()
        drawn = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"] if webgl else ["--disable-gpu"]
        words = [CHROMIUM, "--headless", "--no-sandbox", *drawn, "--remote-debugging-pipe"]
        words += ["--autoplay-policy=no-user-gesture-required", "--disable-features=BackForwardCache"]
        words += [f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}", "--mute-audio"]
        # The protocol's pipes are the descriptors 3 and 4.
        script = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", *words, "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._in, self._rest, self._numbers = ours_in, b"", itertools.count(1)
        self.requests: dict[str, list[str]] = defaultdict(list)
        self.document = self._loaded = ""
        self._session: dict[str, str] = {}
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Network", "Runtime"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)
        self.call("Page.addScriptToEvaluateOnNewDocument", source=_WATCH)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params, **self._session}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != number:
            pass
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def _read(self) -> dict[str, Any]:
        """The next answer or event, which is noted if it tells of documents and requests."""
        while b"\0" not in self._rest:
            assert select.select([self._in], [], [], _PATIENCE)[0], "the browser doesn't answer"
            received = os.read(self._in, 1 << 20)
            assert received, "the browser has ended"
            self._rest += received
        text, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(text)
        match message:
            case {"method": "Network.requestWillBeSent", "params": {"loaderId": loader, "request": request}}:
                self.requests[loader].append(request["url"])
            case {"method": "Page.frameNavigated", "params": {"frame": frame}} if "parentId" not in frame:
                self.document = frame["loaderId"]
            case {"method": "Page.lifecycleEvent", "params": {"name": "load", "loaderId": loader}}:
                if loader == self.document:
                    self._loaded = loader
        return message

    def open(self, address: str) -> None:
        """Open another document and wait until it is loaded."""
        self._replace("Page.navigate", url=address)

    def reload(self) -> None:
        """Open the same document again and wait until it is loaded."""
        self._replace("Page.reload")

    def _replace(self, method: str, **params: Any) -> None:
        before = self.document
        self.call(method, **params)
        while self.document == before or self._loaded != self.document:
            self._read()

    def asked(self) -> list[str]:
        """Addresses that the open document has asked for, including those that its policy refused."""
        return self.requests[self.document] + self.evaluate("refused")

    def evaluate(self, script: str) -> Any:
        """The value of an expression, or what its promise gives."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, userGesture=True
        )
        assert "exceptionDetails" not in found, (script, found["exceptionDetails"])
        return found["result"].get("value")

    def wait(self, script: str) -> None:
        """Wait until an expression is true."""
        until = time.monotonic() + _PATIENCE
        while not self.evaluate(script):
            assert time.monotonic() < until, f"this never became true: {script}"
            time.sleep(0.05)

    def click(self, selector: str) -> None:
        """Click with the mouse in the middle of the only element that is shown and matches; again if it was
        missed, since a page that has just been loaded may still move."""
        until = time.monotonic() + _PATIENCE
        while not self._hit(selector):
            assert time.monotonic() < until, f"{selector} can't be hit"

    def _hit(self, selector: str) -> bool:
        x, y = self.evaluate(
            f"""(async () => {{
              const all = [...document.querySelectorAll({selector!r})].filter(e => e.getClientRects().length);
              if (all.length !== 1) throw all.length + " elements match";
              all[0].scrollIntoView({{block: "center"}});
              const drawn = () => new Promise(requestAnimationFrame);
              await drawn().then(drawn);
              window.hit = false;
              all[0].addEventListener("click", () => window.hit = true, {{once: true, capture: true}});
              const box = all[0].getBoundingClientRect();
              return [box.x + box.width / 2, box.y + box.height / 2];
            }})()"""
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        for _ in range(20):
            if self.evaluate("window.hit"):
                return True
            time.sleep(0.05)
        return False

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def screenshot(self, path: Path) -> None:
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)
