"""Pages in one file that need no other: a template with the common style and helpers, and its data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any


def fill(package: str, data: Mapping[str, Any], page: str = "page.html") -> str:
    """A page of a package, with data.

    Args:
        package: its name.
        data: what JSON can say; read by the page as `data`.
        page: the template's file.
    """
    template = resources.files(package).joinpath(page).read_text()
    for mark, name in (("@STYLE@", "common.css"), ("@HELPERS@", "common.js")):
        template = template.replace(mark, resources.files("m2svid.pages").joinpath(name).read_text())
    content = json.dumps(data, ensure_ascii=False, allow_nan=False)
    # In a script element only these could end it or begin a comment.
    return template.replace("@DATA@", content.replace("<", "\\u003c"))
