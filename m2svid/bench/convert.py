"""Speed of a conversion without a model, and of its stages.

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from m2svid.convert.convert import convert
from m2svid.convert.disparity import to_disparity
from m2svid.convert.layouts import LAYOUTS
from m2svid.convert.planes import to_planes
from m2svid.convert.read import Video
from m2svid.convert.stereo import warp_closed
from m2svid.convert.views import Composer, to_pixels, to_tensor
from m2svid.convert.write import Encoding, encode
from m2svid.depth.files import DepthFile
from m2svid.warping.fill import fill_from_background

WINDOW = 16  # frames that each stage is timed on


def run(
    frames: int = 100, width: int = 512, height: int = 512, disparity: float = 25
) -> dict[str, float | int]:
    """Frames per second of the whole path without a model, decoding and encoding included, and of its stages.

    The reference is what any converter needs: decoding the film, and encoding a picture of twice its width
    with the same settings. The stages are timed one after the other on the film's first frames; the whole
    path also looks for cuts, and joins what it has encoded.

    Args:
        frames: length of the film.
        width: of a view, px.
        height: of a view, px.
        disparity: largest, px.
    """
    with tempfile.TemporaryDirectory() as folder:
        film, depth = Path(folder) / "film.mp4", Path(folder) / "depth.npz"
        _make(film, depth, frames, width, height)
        reference = _time(lambda: _reference(Video(film), Path(folder) / "piece"))
        options = {
            "depth": str(depth),
            "max_disparity": float(disparity),
            "refine": "none",
            "progress": "quiet",
        }
        seconds = _time(lambda: convert(str(film), Path(folder) / "out.mp4", **options))
        stages = _stages(Video(film), depth, disparity, Path(folder) / "piece")
    count = min(frames, WINDOW)
    return {
        "frames": frames,
        "width": width,
        "height": height,
        "threads": torch.get_num_threads(),
        **{f"{name}_frames_per_s": round(count / spent, 2) for name, spent in stages.items()},
        "convert_frames_per_s": round(frames / seconds, 2),
        "decode_and_encode_frames_per_s": round(frames / reference, 2),
        "ratio": round(seconds / reference, 3),
    }


def _stages(video: Video, depth: Path, disparity: float, piece: Path) -> dict[str, float]:
    """Name -> seconds for the first `WINDOW` frames."""
    kept: dict[str, Any] = {}

    def read() -> None:
        kept["frames"] = list(islice(video.frames(), WINDOW))
        kept["rgb"] = [frame.rgb() for frame in kept["frames"]]

    def estimate() -> None:
        kept["depth"] = DepthFile(depth, "inverse")(kept["rgb"], 0)

    def warp() -> None:
        left = to_tensor(kept["rgb"])
        maps = to_disparity(kept["depth"], *left.shape[-2:], disparity)
        kept["warped"], kept["hole"] = warp_closed(left, maps)

    def fill() -> None:
        kept["right"] = to_pixels(fill_from_background(kept["warped"], kept["hole"]), 8)

    def write() -> None:
        layout, info = LAYOUTS["sbs"], video.info
        composer = Composer(layout, info.pixel_format, info, "dubois")
        encode(composer.pictures(kept["frames"], None, kept["right"]), _encoding(video), piece)

    return {
        "read": _time(read),
        "depth_from_file": _time(estimate),
        "warp": _time(warp),
        "fill": _time(fill),
        "write": _time(write),
    }


def _time(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _make(film: Path, depth: Path, frames: int, width: int, height: int) -> None:
    """A moving textured film and its depth: a near square before a slope."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (height // 4 + 1, width // 4 + frames + 1, 3), dtype=np.uint8)
    texture = np.kron(texture, np.ones((4, 4, 1), np.uint8))
    maps = np.repeat(np.linspace(0, 0.5, height, dtype=np.float32)[:, None], width, 1)
    maps[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] = 1
    np.savez(depth, depth=np.broadcast_to(maps, (frames, height, width)))
    with av.open(str(film), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(24000, 1001), options={"preset": "veryfast"})
        stream.width, stream.height = width, height
        for index in range(frames):
            view = np.ascontiguousarray(texture[:height, index : index + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view, "rgb24")))
        container.mux(stream.encode(None))


def _reference(video: Video, piece: Path) -> None:
    pictures = ([np.concatenate([p, p], 1) for p in to_planes(frame.raw)] for frame in video.frames())
    encode(pictures, _encoding(video), piece)


def _encoding(video: Video) -> Encoding:
    info = video.info
    width, height = info.width * 2, info.height
    return Encoding(
        "h264", info.pixel_format, width, height, info.rate, info.color, info.aspect, 18, "medium"
    )
