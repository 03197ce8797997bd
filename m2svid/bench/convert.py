"""Speed of a conversion without a model, and of its stages.

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, Literal

import av
import numpy as np
import torch
from numpy.typing import NDArray

from m2svid.bench.process import measured
from m2svid.convert.setup import Models, stereo_encoding
from m2svid.convert.stereo_options import StereoOptions
from m2svid.convert.verbs import convert
from m2svid.depth.files import DepthFile
from m2svid.depth.shot import to_disparity
from m2svid.inference.inpainter import BackgroundFill
from m2svid.video.layouts import LAYOUTS, arrange
from m2svid.video.pictures import to_pixels, to_tensor
from m2svid.video.planes import Plane, to_planes
from m2svid.video.read import Video
from m2svid.video.write import encode
from m2svid.warping.edges import clean_edges
from m2svid.warping.view import warp_view

WINDOW = 16  # frames that each stage is timed on


def run(
    frames: int = 100,
    width: int = 512,
    height: int = 512,
    disparity: float = 25,
    film: Path | None = None,
    repeats: int = 1,
    long_frames: int = 0,
    weights: Path | None = None,
    window: int = WINDOW,
    tile: int = 0,
    device: str = "cpu",
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
) -> dict[str, float | int | str]:
    """Frames per second of the whole path without a model, decoding and encoding included, and of its stages.

    The reference is what any converter needs: decoding the film, and encoding a picture of twice its width
    with the same settings: the film's own twice, or what was made, where the right half differs. The
    stages are timed one after the other on the film's first frames; the whole path also looks for cuts, and
    joins what it has encoded. Time and memory of that are of a process of its own.

    Args:
        frames: length of the film.
        width: of a view, px.
        height: of a view, px.
        disparity: largest, px.
        film: to measure on, all of it, with one map of depth for all frames; None makes one, whose depth has
            a map for each frame. `frames`, `width` and `height` are for that.
        repeats: timed runs of the whole path and of both references, by turns; medians, and the least and the
            most of the ratios.
        long_frames: length of a second, longer film, to see what memory its conversion takes more; 0 = none.
        weights: folder of a model, whose stage is timed on one window, too.
        window: frames of that window.
        tile: side of the model's tiles, px; 0 = whole frames.
        device: where the model runs.
        dtype: numbers that it calculates with.
    """
    result: dict[str, float | int | str] = {"threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory() as folder:
        if film is None:
            film, depth = make_film(Path(folder), frames, width, height)
        else:
            width, height, depth = Video(film).info.width, Video(film).info.height, Path(folder) / "depth.npy"
            frames = sum(1 for _ in Video(film).frames())
            np.save(depth, _map(width, height))
            result["film"] = film.name
        result |= {"frames": frames, "width": width, "height": height}
        for name, spent in _stages(Video(film), depth, disparity, Path(folder) / "piece").items():
            result[f"{name}_frames_per_s"] = round(min(frames, WINDOW) / spent, 2)
        if weights is not None:
            model = {"weights": str(weights), "window": window, "tile": tile, "dtype": dtype}
            (spent, device_gb), took = measured(_refine, film, depth, disparity, model, device)
            result |= {
                **model,
                "device": device,
                "refine_frames_per_s": round(min(frames, window) / spent, 3),
            }
            result |= {"refine_peak_gb": round(took["gb"], 3), "refine_device_gb": round(device_gb, 3)}
        took: dict[str, list[float]] = {name: [] for name in ("convert", "left_twice", "same_pictures", "gb")}
        for _ in range(repeats):
            (seconds, output), process = measured(_convert, film, depth, disparity, Path(folder))
            took["convert"].append(seconds)
            took["gb"].append(process["gb"])
            for name, other in (("left_twice", None), ("same_pictures", output)):
                took[name].append(_time_reference(Video(film), other, Path(folder) / "piece"))
        result["convert_frames_per_s"] = round(frames / median(took["convert"]), 2)
        result["convert_peak_gb"] = round(median(took["gb"]), 3)
        for name in ("left_twice", "same_pictures"):
            ratios = [one / other for one, other in zip(took["convert"], took[name], strict=True)]
            result[f"{name}_frames_per_s"] = round(frames / median(took[name]), 2)
            result[f"{name}_ratio"] = round(median(ratios), 3)
            result[f"{name}_ratio_from"] = round(min(ratios), 3)
            result[f"{name}_ratio_to"] = round(max(ratios), 3)
        if long_frames:
            film, depth = make_film(Path(folder), long_frames, width, height)
            (seconds, _), longer = measured(_convert, film, depth, disparity, Path(folder))
            result["long_frames"] = long_frames
            result["long_convert_frames_per_s"] = round(long_frames / seconds, 2)
            result["long_convert_peak_gb"] = round(longer["gb"], 3)
            result["growth_mb"] = round((longer["gb"] - median(took["gb"])) * 1e3, 1)
    return result


def _convert(film: Path, depth: Path, disparity: float, folder: Path) -> tuple[float, Path]:
    """Seconds, and what was made."""
    options = {"depth": str(depth), "max_disparity": float(disparity), "refine": "none", "progress": "quiet"}
    output = folder / f"{film.stem}_sbs.mp4"
    output.unlink(missing_ok=True)
    seconds = _time(lambda: convert(str(film), output, **options))
    if (found := sum(1 for _ in Video(output).frames())) != (wanted := sum(1 for _ in Video(film).frames())):
        raise RuntimeError(f"{found} frames came out of {wanted}")
    return seconds, output


def _refine(
    film: Path, depth: Path, disparity: float, model: dict[str, Any], device: str
) -> tuple[float, float]:
    """Seconds for one window, and GB on the device where that is a GPU."""
    options = StereoOptions(max_disparity=float(disparity), devices=device, **model)
    video = Video(film)
    (refiner,) = Models(options).inpainters(options)
    rgb = [frame.rgb() for frame in islice(video.frames(), options.window)]
    left = to_tensor(rgb)
    maps = to_disparity(DepthFile(depth, "inverse")(rgb, 0), *left.shape[-2:], disparity)
    warped, hole = warp_view(left, maps)
    seconds = _time(lambda: to_pixels(refiner(left, warped, hole, float(video.info.rate), None), 8))
    return seconds, torch.cuda.max_memory_allocated(device) / 1e9 if device.startswith("cuda") else 0.0


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
        kept["left"] = left
        kept["warped"], kept["hole"] = BackgroundFill().warp(left, clean_edges(maps))

    def fill() -> None:
        views = (kept[name] for name in ("left", "warped", "hole"))
        kept["right"] = to_pixels(BackgroundFill()(*views, float(video.info.rate)), 8)

    def write() -> None:
        encoding, composer = stereo_encoding(video, StereoOptions(refine="none"))
        views = zip(kept["frames"], kept["right"], strict=True)
        encode((composer.picture(frame, None, right) for frame, right in views), encoding, piece)

    stages = {"read": read, "depth_from_file": estimate, "warp": warp, "fill": fill, "write": write}
    for work in stages.values():  # compiled loops are loaded when they are first called
        work()
    return {name: _time(work) for name, work in stages.items()}


def _time(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def make_film(folder: Path, frames: int, width: int, height: int) -> tuple[Path, Path]:
    """A moving textured film and its depth: a near square before a slope."""
    film, depth = folder / f"film{frames}.mp4", folder / f"depth{frames}.npz"
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (height // 4 + 1, width // 4 + frames + 1, 3), dtype=np.uint8)
    texture = np.kron(texture, np.ones((4, 4, 1), np.uint8))
    np.savez(depth, depth=np.broadcast_to(_map(width, height), (frames, height, width)))
    with av.open(str(film), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(24000, 1001), options={"preset": "veryfast"})
        stream.width, stream.height = width, height
        for index in range(frames):
            view = np.ascontiguousarray(texture[:height, index : index + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view, "rgb24")))
        container.mux(stream.encode(None))
    return film, depth


def _map(width: int, height: int) -> NDArray[np.float32]:
    """(H, W), 1 = near."""
    depth = np.repeat(np.linspace(0, 0.5, height, dtype=np.float32)[:, None], width, 1)
    depth[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] = 1
    return depth


def _time_reference(video: Video, made: Path | None, piece: Path) -> float:
    """Seconds for decoding a film and encoding what was made of it; None = each of its pictures twice."""
    encoding, _ = stereo_encoding(video, StereoOptions(refine="none"))
    pictures = [] if made is None else [to_planes(frame.raw) for frame in Video(made).frames()]

    def to_encode() -> Iterator[list[Plane]]:
        for place, frame in enumerate(video.frames()):
            left = frame.planes(encoding.pixel_format)
            yield pictures[place] if pictures else arrange([left] * 2, LAYOUTS["sbs"], encoding.pixel_format)

    return _time(lambda: encode(to_encode(), encoding, piece))
