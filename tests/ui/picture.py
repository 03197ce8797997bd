"""Take the README's picture of the page: `python -m tests.ui.picture assets/ui.jpg`."""

from __future__ import annotations

import base64
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av

from m2svid.synthetic.film import make_film
from m2svid.ui.access import Access
from tests.browser import Browser
from tests.ui.served import served

_FRAMES = 32  # of a shot
_SIZE = {"width": 1320, "height": 1010, "deviceScaleFactor": 1, "mobile": False}


def join(parts: list[Path], path: Path) -> None:
    """Join films of one kind into one with a cut between them."""
    with av.open(str(path), "w") as film:
        stream = None
        for place, part in enumerate(parts):
            with av.open(str(part)) as shot:
                stream = stream or film.add_stream_from_template(shot.streams.video[0])
                for packet in shot.demux(video=0):
                    if packet.dts is not None:
                        offset = round(place * _FRAMES / Fraction(24) / packet.time_base)
                        packet.pts, packet.dts, packet.stream = (
                            packet.pts + offset,
                            packet.dts + offset,
                            stream,
                        )
                        film.mux(packet)


def take(path: Path) -> None:
    """Save the page with a film of four shots of the procedural world."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        films, made = root / "films", root / "stereo"
        films.mkdir()
        made.mkdir()
        worlds = [root / str(seed) for seed in range(4)]
        for seed, world in enumerate(worlds):
            make_film(world, _FRAMES, 640, 360, seed=seed)
        for file in ("film.mp4", "depth.mkv"):
            join([world / file for world in worlds], films / file.replace("film", "worlds"))
        with served(Access([films], [made])) as server:
            browser = Browser(root / "profile", webgl=True)
            browser.call("Emulation.setDeviceMetricsOverride", **_SIZE)
            browser.open(f"{server.address}/")
            browser.wait("document.querySelectorAll('.convert-film').length === 2")
            browser.click(".convert-film[title$='worlds.mp4']")
            browser.wait("document.querySelectorAll('[class^=comfort-]').length === 4")
            browser.wait("document.querySelector('.convert-told').textContent.startsWith('Made')")
            browser.evaluate("document.querySelector('.convert-told').textContent = ''")
            browser.evaluate(
                "[...document.querySelectorAll('button')].find(b => b.textContent === 'Preview').click()"
            )
            browser.wait("document.querySelector('.convert-told').textContent.startsWith('Made')")
            time.sleep(1)  # pictures of the strip
            shot = browser.call("Page.captureScreenshot", format="jpeg", quality=80)
            path.write_bytes(base64.b64decode(shot["data"]))
            browser.close()


if __name__ == "__main__":
    take(Path(sys.argv[1]))
