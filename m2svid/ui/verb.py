"""The verb `ui`: serve the local page."""

from __future__ import annotations

import logging
import secrets
from pathlib import Path

from aiohttp import web

from m2svid.convert.films import made_folder
from m2svid.errors import UserError
from m2svid.training.runs import RUNS
from m2svid.ui.access import Access, is_local
from m2svid.ui.server import application

log = logging.getLogger(__name__)


def ui(
    folders: list[str] | str,
    output: Path | None = None,
    weights: list[str] | str | None = None,
    runs: Path = RUNS,
    host: str = "127.0.0.1",
    port: int = 8123,
    token: str | None = None,
    largest_upload: float = 32.0,
    downloads: bool = False,
) -> None:
    """Convert films, and look at runs, in a browser: serve one page until Ctrl-C.

    The page reads and writes only in the folders given here. Nothing that it needs comes from elsewhere.
    Films in its queue are continued when it is started again.

    Args:
        folders: folders with films, which are only read if an output is given.
        output: folder in which stereo films, previews and the queue are made; the first of the folders if
            not given; it is made if need be.
        weights: folder of a model, as `weights import` writes it, that films may be refined with; or several
            as a list: '[one, two]'.
        runs: folder of the runs of `fit`, which is only read; `validate` and `test`, where the page starts
            them, write into it.
        host: address to bind to; any but this machine's own demands a token.
        port: to bind to.
        token: that the page's address must have; made up if not given and `host` demands one.
        largest_upload: GiB of a film that is dropped onto the page.
        downloads: let conversions download a model of depth that is not on this machine; else they say how
            to get it.

    Raises:
        UserError: a folder is not there, the port is taken, or another page is at work in the output.
    """
    read = [Path(folder) for folder in _several(folders)]
    for folder in (*read, *map(Path, _several(weights))):
        if not folder.is_dir():
            raise UserError(f"the folder {folder} is not there: name one that is")
    write = read[0] if output is None else made_folder(output)
    if token is None and not is_local(host):
        token = secrets.token_urlsafe()
    access = Access([*read, runs], [write])
    models = [str(Path(folder).resolve()) for folder in _several(weights)]
    app = application(access, host, port, token, models, runs, int(largest_upload * 2**30), downloads)
    shown = f"http://{f'[{host}]' if ':' in host else host}:{port}/{f'?token={token}' if token else ''}"
    log.info("the page is at %s (Ctrl-C ends it)", shown)
    try:
        web.run_app(app, host=host, port=port, print=None, access_log=None)
    except OSError as error:
        raise UserError(
            f"port {port} of {host} can't be used: {error.strerror}; give another --port"
        ) from error


def _several(given: list[str] | str | None) -> list[str]:
    return [given] if isinstance(given, str) else given or []
