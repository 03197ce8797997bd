"""Films for the page: the files of a folder, facts about one, pictures of its moments."""

from __future__ import annotations

import asyncio
import mimetypes
import os
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import cv2
from aiohttp import web

from m2svid.errors import UserError
from m2svid.files import natural
from m2svid.ui.access import Access, Refused
from m2svid.ui.requests import apart, in_query, number
from m2svid.video.decode import decoded_since, opened
from m2svid.video.read import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Frame, Video

SHOWN = VIDEO_SUFFIXES | IMAGE_SUFFIXES
_PAGE = 60  # films that a listing gives at once
_FOLDERS = 20  # whose names are remembered until they change
_WIDEST = 480  # px of a thumbnail
_KEPT = 600  # thumbnails, of about 10 kB
_AT_ONCE = 2  # thumbnails that are decoded at a time
_DEPTHS = {".mkv", ".mp4", ".mov", ".npz", ".npy"}
_MOST = 20  # of them that are offered
_PLAYED = {"h264", "vp8", "vp9", "libdav1d", "av1"}  # decoders' names
_LISTS = (b"#EXTM3U", b"ffconcat", b"<", b"v=0", b"[playlist]", b"\xef\xbb\xbf")  # HLS, concat, DASH, SDP
_CONTAINERS = {".mp4", ".m4v", ".mov", ".mkv", ".webm"}


def routes(access: Access) -> list[web.RouteDef]:
    """The routes of films and pictures."""
    turn = asyncio.Semaphore(_AT_ONCE)

    async def folders(request: web.Request) -> web.Response:
        given = request.query.get("folder")
        if given is None:
            found = dict.fromkeys(str(folder.resolve()) for folder in (*access.read, *access.write))
            return web.json_response({"folders": [folder for folder in found if Path(folder).is_dir()]})
        first = int(number(request, "first", 0, 1e9))
        path, search = access.readable(given), in_query(request, "search", "")
        return web.json_response(await apart(list_films, path, search, first))

    async def film(request: web.Request) -> web.Response:
        path = readable_film(access, in_query(request, "path"))
        return web.json_response(await apart(describe, path))

    async def thumbnail(request: web.Request) -> web.Response:
        path = readable_film(access, in_query(request, "path"))
        at, width = number(request, "at", 0, 1e7), int(number(request, "width", 240, _WIDEST))
        exact = "exact" in request.query
        async with turn:
            jpeg = await apart(_thumbnail, path, path.stat().st_mtime_ns, at, width, exact)
        return web.Response(body=jpeg, content_type="image/jpeg", headers={"Cache-Control": "max-age=600"})

    async def file(request: web.Request) -> web.StreamResponse:
        path = readable_film(access, in_query(request, "path"))
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return web.FileResponse(path, headers={"Content-Type": kind})

    return [
        web.get("/api/films", folders),
        web.get("/api/film", film),
        web.get("/api/thumbnail", thumbnail),
        web.get("/api/file", file),
    ]


def readable_film(access: Access, path: str) -> Path:
    """A film or picture that may be read.

    Raises:
        Refused: it is something else, or lies elsewhere.
        UserError: there is no such file.
    """
    real = access.readable(path)
    if real.suffix.lower() not in SHOWN:  # a browser would run a page
        raise Refused(f"{path} is neither a film nor a picture")
    check_content(real)
    return real


def check_content(path: Path) -> None:
    """Check that a file is no list of other files, which FFmpeg would follow wherever they lie.

    Raises:
        Refused: it is one.
        UserError: it can't be read.
    """
    try:
        with path.open("rb") as file:
            begins = file.read(64).lstrip()
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror}") from error
    if begins.startswith(_LISTS):
        raise Refused(f"{path} is a list of other files, not a film")


def list_films(folder: Path, search: str = "", first: int = 0) -> dict[str, Any]:
    """A page of the folders, films and pictures of a folder; only those of the page are looked at.

    Args:
        folder: that is listed.
        search: is in the names, in any letter case.
        first: number of the page's first film.

    Raises:
        UserError: the folder can't be read.
    """
    try:
        films, folders = _names(folder, folder.stat().st_mtime_ns)
    except OSError as error:
        raise UserError(f"{folder} can't be read: {error.strerror}") from error
    wanted = [[name for name in names if search.casefold() in name.casefold()] for names in (films, folders)]
    shown = [folder / name for name in wanted[0][first : first + _PAGE]]
    return {
        "folder": str(folder),
        "folders": [str(folder / name) for name in wanted[1]],
        "films": [{"path": str(path), "bytes": _bytes(path)} for path in shown],
        "total": len(wanted[0]),
    }


@lru_cache(_FOLDERS)
def _names(folder: Path, modified: int) -> tuple[list[str], list[str]]:
    """Names of the films and pictures, and of the folders, of a folder, in order."""
    with os.scandir(folder) as entries:
        seen = [entry for entry in entries if not entry.name.startswith(".")]
    films = [Path(entry.name) for entry in seen if entry.name.lower().endswith(tuple(SHOWN))]
    folders = [Path(entry.name) for entry in seen if entry.is_dir()]
    return [path.name for path in sorted(films, key=natural)], [
        path.name for path in sorted(folders, key=natural)
    ]


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # a link to nothing, or removed since
        return 0


def describe(path: Path) -> dict[str, Any]:
    """Facts about a film or picture.

    Raises:
        UserError: it can't be read.
    """
    video = Video(path)
    info, seconds = video.info, 0.0
    if video.is_container:
        with opened(path) as (container, stream):
            own = stream.duration and stream.duration * stream.time_base
            seconds = float(own or Fraction(container.duration or 0, av.time_base))
    return {
        "path": str(path),
        "width": info.width,
        "height": info.height,
        "rate": float(info.rate),
        "seconds": seconds,
        "picture": video.is_picture,
        "hdr": info.hdr,
        "unplayable": why_unplayable(path),
        "depths": [str(file) for file in _depths(path)],
    }


def why_unplayable(path: Path) -> str | None:
    """A sentence on why browsers don't play a film; None where they do.

    Raises:
        UserError: it can't be read.
    """
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return None
    with opened(path) as (_, stream):
        codec, pixels = stream.codec_context.name, stream.codec_context.pix_fmt or ""
    if codec == "hevc":
        return (
            "It is H.265, which Chromium and Firefox don't play: to look at it here, choose the codec h264."
        )
    if codec == "h264" and pixels not in ("yuv420p", "yuvj420p"):
        return f"It is H.264 of the kind {pixels}, which browsers don't play: download it."
    if codec not in _PLAYED or path.suffix.lower() not in _CONTAINERS:
        return f"It is {codec} in {path.suffix}, which browsers don't play: download it."
    return None


def _depths(film: Path) -> list[Path]:
    """Files beside a film whose names say that they hold depth; its own first."""
    with os.scandir(film.parent) as entries:
        files = [Path(entry.path) for entry in entries if "depth" in entry.name.lower()]
    found = [file for file in files if file.suffix.lower() in _DEPTHS and file != film]
    return sorted(found, key=lambda file: (not file.name.startswith(film.stem), natural(file)))[:_MOST]


@lru_cache(_KEPT)
def _thumbnail(path: Path, modified: int, at: float, width: int, exact: bool) -> bytes:
    """JPEG of a moment, s; if it need not be exact, of the key frame before it, which is found at once."""
    video = _video(path, modified)
    raw = (_raw(video, at, exact) if at > 0 and video.is_container else None) or next(video.frames()).raw
    rgb = Frame(0, None, raw, video.info).rgb()
    height = max(1, round(width * rgb.shape[0] / rgb.shape[1] / video.info.aspect))
    bgr = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)[..., ::-1]
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()


def _raw(video: Video, at: float, exact: bool) -> av.VideoFrame | None:
    """The frame of a moment, s; None behind the film's end."""
    place = round((Fraction(at) + video.info.start) / video.info.time_base)
    if exact:
        return next(decoded_since(video.path, place), None)
    with opened(video.path) as (container, stream):
        container.seek(place, stream=stream)
        return next(container.decode(stream), None)


@lru_cache(_KEPT)
def _video(path: Path, modified: int) -> Video:
    return Video(path)
