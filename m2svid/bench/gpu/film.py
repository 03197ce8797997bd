"""`convert` from film to stereo film with the model."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from m2svid.bench.convert import make_film
from m2svid.bench.gpu.refining import Size
from m2svid.bench.gpu.setting import GB, Setting
from m2svid.convert.setup import Models
from m2svid.convert.verbs import convert
from m2svid.video.read import Video


def film(setting: Setting, size: Size, window: int) -> dict[str, Any]:
    """Convert a made film with depth from a file: all that `convert` does, but for loading weights."""
    frames, height, width = size
    model, clock = setting.model("float16" if setting.device.type == "cuda" else "float32"), setting.clock
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(Models, "_load", lambda *_: model),
    ):
        source, depth = make_film(Path(folder), frames, width, height)
        (weights := Path(folder) / "weights").mkdir()  # which stay closed
        output = Path(folder) / "stereo.mp4"
        options = {"depth": str(depth), "window": window, "overlap": 1, "weights": str(weights)}
        options |= {"devices": str(setting.device), "progress": "quiet"}
        clock.restart_peak()
        seconds = clock.time(lambda: convert(str(source), output, **options))
        made = sum(1 for _ in Video(output).frames())
    if made != frames:
        raise RuntimeError(f"{made} frames came out of {frames}")
    return {
        "size": size,
        "seconds": seconds,
        "frames_per_s": frames / seconds,
        "peak_gb": clock.peak() / GB,
        "reserved_gb": clock.reserved() / GB,
    }
