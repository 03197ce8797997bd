"""The player by itself in the browser: what it shows, as arrays, and keys for it."""

from __future__ import annotations

import base64
import itertools
import json
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from m2svid.ui.access import Access
from tests.browser import Browser
from tests.ui.served import served

_BUILD = """(async () => {
  const {StereoPlayer} = await import("/page/player.js");
  const place = document.querySelector("main");
  place.replaceChildren();
  window.mistakes = [];
  addEventListener("error", event => mistakes.push(event.message));
  addEventListener("unhandledrejection", event => mistakes.push(String(event.reason)));
  window.player = new StereoPlayer(place);
})()"""

# of a canvas whose picture has just been drawn: width, height, RGBA from the lowest row on
READ = """function read(canvas) {
  const gl = canvas.getContext("webgl2"), [width, height] = [gl.drawingBufferWidth, gl.drawingBufferHeight];
  const pixels = new Uint8Array(width * height * 4);
  gl.bindFramebuffer(gl.FRAMEBUFFER, null);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
  let text = "";
  for (let i = 0; i < pixels.length; i += 8192) text += String.fromCharCode(...pixels.subarray(i, i + 8192));
  return [width, height, btoa(text)];
}"""


class PlayerPage:
    """The page of the server with nothing but a player in it, `window.player`."""

    def __init__(self, browser: Browser, address: str) -> None:
        self.browser, self.address, self._builds = browser, address, itertools.count()

    def build(self) -> None:
        """Load the page anew, at an address at which it shows none of its own parts."""
        self.browser.open(f"{self.address}/?{next(self._builds)}#main")
        self.browser.evaluate(_BUILD)
        self.browser.evaluate(f"{READ}; window.read = read; 0")

    def run(self, script: str):
        """The value of an expression; the page must make no mistake meanwhile."""
        value = self.browser.evaluate(script)
        assert self.browser.evaluate("mistakes") == []
        return value

    def show(self, pictures: dict[str, Path], placement: dict[str, float] | None = None) -> None:
        addresses = {name: address(path) for name, path in pictures.items()}
        self.run(f"player.show({json.dumps(addresses)}, {json.dumps(placement)})")

    def play(self, **film: str | Path) -> None:
        given = {name: address(value) if isinstance(value, Path) else value for name, value in film.items()}
        self.run(f"player.play({json.dumps(given)})")

    def drawn(self, settings: str = "") -> np.ndarray:
        """(H, W, 3) uint8: what the canvas has in it after some settings."""
        script = f'{settings}; player.draw(); read(document.querySelector(".player canvas"))'
        return picture(self.run(script))

    def shows(self, *grays: int) -> None:
        """Wait until the first and the last pixel of a row have these grays."""
        until = time.monotonic() + 30
        while (found := self.drawn()[5, [4, -4], 0].tolist()) != pytest.approx(grays, abs=3):
            assert time.monotonic() < until, found

    @property
    def message(self) -> str:
        return self.run('document.querySelector(".player-message").textContent')

    def press(self, key: str, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            typed = {"text": text} if text and kind == "keyDown" else {}
            self.browser.call("Input.dispatchKeyEvent", type=kind, key=key, **typed)


def address(path: Path) -> str:
    return f"/api/file?path={quote(str(path))}"


def picture(read: tuple[int, int, str]) -> np.ndarray:
    """(H, W, 3) uint8 of what `read` has read."""
    width, height, text = read
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)[::-1, :, :3]


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


@contextmanager
def player_page(folder: Path, size: tuple[int, int]):
    """The page with a window of some size, which may read a folder."""
    browser = Browser(folder / "profile", size, webgl=True)
    try:
        with served(Access([folder], [folder])) as server:
            page = PlayerPage(browser, server.address)
            page.build()
            yield page
    finally:
        browser.close()
