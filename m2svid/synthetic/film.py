"""A film to try a conversion on: the procedural world, with its depth and the true right view.

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from rich.progress import track
from torch import Tensor

from m2svid.errors import UserError
from m2svid.synthetic.world import ProceduralWorld
from m2svid.video.info import Color
from m2svid.video.layouts import LAYOUTS
from m2svid.video.mux import assemble
from m2svid.video.planes import PixelFormat, Plane, rgb_to_planes
from m2svid.video.read import parse_rate
from m2svid.video.shots import Survey
from m2svid.video.write import Encoding, encode, inverse_depth

WORLD_RATE = 8  # moments a second in which a world counts its time
_CHUNK = 25  # frames drawn and encoded together
_CRF = 12
_BT709 = 1  # ITU-T H.273


def make_film(
    out: Path,
    frames: int = 100,
    width: int = 512,
    height: int = 288,
    fps: str = "24",
    seed: int = 0,
    objects: int = 12,
    max_disparity: float = 0.05,
) -> dict[str, str | float]:
    """Make a film of a procedural world, to be converted and compared with the truth.

    Args:
        out: folder for film.mp4 (left view), right.mp4 (the true right view) and depth.mkv (16-bit gray,
            inverse depth: white has the largest disparity), which `--depth` takes.
        frames: T.
        width: pixels, even.
        height: pixels, even.
        fps: frames a second, for instance 24 or 24000/1001.
        seed: of the world.
        objects: number of objects, without floor and wall.
        max_disparity: of the nearest point, as a share of the width; `convert` needs the same.

    Raises:
        UserError: a film of these settings can't be made, or is there already.
    """
    rate = parse_rate(fps)
    if width % 2 or height % 2:
        raise UserError(f"--width and --height must be even, not {width}×{height}")
    if frames < 1:
        raise UserError(f"--frames must be at least 1, not {frames}")
    files = {"film": out / "film.mp4", "right": out / "right.mp4", "depth": out / "depth.mkv"}
    for path in files.values():
        if path.exists():
            raise UserError(f"{path} exists: name another folder, or remove it")
    out.mkdir(parents=True, exist_ok=True)
    world = ProceduralWorld(seed, height, width, frames, objects, max_disparity * width)
    color, gray = _encodings(width, height, rate)
    encodings = {"film": color, "right": color, "depth": gray}
    pieces: dict[str, list[Path]] = {name: [] for name in files}
    with tempfile.TemporaryDirectory(dir=out) as folder:
        for start in track(range(0, frames, _CHUNK), description="frames of the world"):
            for name, pictures in _draw(world, range(start, min(start + _CHUNK, frames)), rate).items():
                pieces[name].append(Path(folder) / f"{name}{start:08d}.npz")
                encode(pictures, encodings[name], pieces[name][-1])
        survey = Survey(tuple(range(frames)), frames, ())
        for name, path in files.items():
            assemble(pieces[name], encodings[name], LAYOUTS["right"], 1 / rate, survey, None, path)
    return {name: str(path) for name, path in files.items()} | {"max_disparity": max_disparity}


def _draw(world: ProceduralWorld, places: range, rate: Fraction) -> dict[str, list[list[Plane]]]:
    """File -> its pictures."""
    pictures: dict[str, list[list[Plane]]] = {"film": [], "right": [], "depth": []}
    for place in places:
        left, right, disparity, _ = world.frame(float(place * WORLD_RATE / rate))
        pictures["film"].append(_color(left))
        pictures["right"].append(_color(right))
        inverse_depth = disparity[0].numpy() / world.largest_disparity
        pictures["depth"].append([np.round(inverse_depth * 65535).astype("<u2")])
    return pictures


def _color(view: Tensor) -> list[Plane]:
    rgb = view.permute(1, 2, 0).numpy()
    return rgb_to_planes(rgb, PixelFormat("420", 8), Colorspace.ITU709, ColorRange.MPEG)


def _encodings(width: int, height: int, rate: Fraction) -> tuple[Encoding, Encoding]:
    bt709 = Color(int(ColorRange.MPEG), _BT709, _BT709, _BT709)
    size = {"width": width, "height": height, "rate": rate}
    color = Encoding(
        "h264", PixelFormat("420", 8), color=bt709, aspect=Fraction(1), crf=_CRF, speed="medium", **size
    )
    return color, inverse_depth(**size)
