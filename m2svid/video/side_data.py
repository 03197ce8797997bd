"""Side data of a decoded frame."""

from __future__ import annotations

import av
from av.sidedata.sidedata import Type


def side_data(raw: av.VideoFrame) -> dict[Type, bytes] | None:
    """Kind -> content; None where one is unknown to PyAV, such as Exif, as it then gives none at all."""
    try:
        return {data.type: bytes(data) for data in raw.side_data}
    except ValueError:
        return None
