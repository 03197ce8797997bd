"""Previews: one frame as pictures that the page's player puts together, with models that stay open."""

from __future__ import annotations

import asyncio
import gc
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from aiohttp import web
from torch import Tensor

from m2svid.convert.preview import Moment, make_moment
from m2svid.convert.setup import Models
from m2svid.convert.stereo_options import Options
from m2svid.files import whole
from m2svid.ui.films import readable_film
from m2svid.ui.form import Form
from m2svid.ui.requests import apart, body, field
from m2svid.video.excerpt import parse_place
from m2svid.video.read import IMAGE_SUFFIXES

_KEPT = 20  # previews; the oldest are removed
_LOSSLESS = ("depth", "hole")
_MODEL = ("devices", "vram", "dtype", "depth", "depth_backbone", "depth_kind", "depth_range", "weights")


class Previews:
    """Make previews, one at a time.

    Args:
        form: checks what is asked for.
        folder: in which the pictures are kept.
    """

    def __init__(self, form: Form, folder: Path) -> None:
        self._form, self._folder = form, folder
        self._turn = asyncio.Lock()
        self._models: tuple[tuple[Any, ...], Models] | None = None

    def routes(self, busy: Callable[[], bool]) -> list[web.RouteDef]:
        """The route of previews.

        Args:
            busy: whether a film is being converted, which needs the memory that open models take.
        """

        async def preview(request: web.Request) -> web.Response:
            given = await body(request)
            film = readable_film(self._form.access, field(given, "film", str))
            options = {**field(given, "options", dict), "start": field(given, "at", str), "end": None}
            parse_place("at", options["start"])
            chosen = self._form.options(options)
            if film.suffix.lower() in IMAGE_SUFFIXES:
                chosen = replace(chosen, start=None)
            async with self._turn:
                made = await apart(self._make, film, chosen)
            if busy():
                self.forget()
            return web.json_response(made)

        return [web.post("/api/preview", preview)]

    def forget(self) -> None:
        """Close the models."""
        self._models = None
        gc.collect()

    def _make(self, film: Path, chosen: Options) -> dict[str, Any]:
        began = time.monotonic()
        seen = make_moment(film, chosen, self._open(chosen))
        folder = self._folder / f"{time.time_ns()}"
        pictures = _save(seen, folder)
        self._tidy()
        return {
            "pictures": {name: str(path) for name, path in pictures.items()},
            "max_disparity": seen.placed.max_disparity / 100,
            "convergence": seen.placed.convergence,
            "spread": seen.spread,
            "seconds": round(time.monotonic() - began, 2),
        }

    def _open(self, chosen: Options) -> Models:
        chosen = replace(chosen, devices=chosen.devices.split(",")[0])
        key = tuple(getattr(chosen, name) for name in _MODEL)
        if self._models is None or self._models[0] != key:
            self.forget()  # before others take their memory
            self._models = key, Models(chosen)
        return self._models[1]

    def _tidy(self) -> None:
        for folder in sorted(path for path in self._folder.iterdir() if path.name.isdigit())[:-_KEPT]:
            shutil.rmtree(folder, ignore_errors=True)


def _save(seen: Moment, folder: Path) -> dict[str, Path]:
    """Name -> picture: depth in gray, near is white; the hole is white."""
    pictures = {name: getattr(seen, name) for name in ("left", "right", "depth", "warped", "hole")}
    paths = {name: folder / f"{name}.{'png' if name in _LOSSLESS else 'jpg'}" for name in pictures}
    with whole(folder) as temporary:
        temporary.mkdir(parents=True)
        for name, path in paths.items():
            quality = [] if name in _LOSSLESS else [cv2.IMWRITE_JPEG_QUALITY, 95]
            (temporary / path.name).write_bytes(_encoded(pictures[name], path.suffix, quality))
    return paths


def _encoded(picture: Tensor, suffix: str, quality: list[int]) -> bytes:
    rgb = np.rint(picture[0].float().permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    return cv2.imencode(suffix, np.ascontiguousarray(rgb[..., ::-1]), quality)[1].tobytes()
