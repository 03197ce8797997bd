"""The verb `preview`: one moment of a film as pictures, or some seconds as a film, before all of it is made.

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from m2svid.comfort.profiles import Placement
from m2svid.convert.films import output_name, output_path
from m2svid.convert.report import Reporter
from m2svid.convert.setup import Models, fit_depth, named_files, open_film
from m2svid.convert.stereo_makers import FromDepth
from m2svid.convert.stereo_options import Options
from m2svid.convert.verbs import convert_films
from m2svid.depth.normalize import PERCENTILES
from m2svid.depth.shot import ShotDepth, to_disparity
from m2svid.errors import UserError
from m2svid.files import check_output
from m2svid.inference.inpainter import unit
from m2svid.inference.windows import plan_windows
from m2svid.sheets.draw import contact_sheet, mark_hole, save_png, stack
from m2svid.video.anaglyph import anaglyph
from m2svid.video.colormap import colorize
from m2svid.video.layouts import LAYOUTS
from m2svid.video.pictures import Composer, to_tensor
from m2svid.video.planes import Plane
from m2svid.video.shots import survey
from m2svid.warping.view import warp_view

_WIDTH = 640  # px of a panel


def preview(
    input: Path, *, at: str, seconds: float | None = None, output: Path | None = None, **options: Any
) -> dict[str, Any]:
    """Show what `convert` with the same options makes of a moment: both views, anaglyph, depth, holes.

    An earlier preview is replaced.

    Args:
        input: the film.
        at: the moment: a time such as 00:01:10.5 or 70.5s, or the number of a frame, such as 1692f.
        seconds: make a stereo film of so many seconds from there on instead, as `convert` does.
        output: the PNG, the stereo film, or a folder; if not given, it lies beside the film, with `_preview`
            in its name.
        **options: see `Options`.

    Returns:
        The file, and how many seconds it took.

    Raises:
        UserError: a mistake.
    """
    began = time.monotonic()
    if seconds is not None and seconds <= 0:
        raise UserError(f"--seconds must be above 0, not {seconds}")
    end = None if seconds is None else f"+{seconds:f}s"
    chosen = Options(start=at, end=end, **options)
    if seconds is None:
        path = output_path(output, input.with_name(f"{input.stem}_preview.png"))
        check_output(path, [input, *named_files(chosen).values()])
        save_png(_sheet(make_moment(input, chosen), chosen, f"{input.name} at {at}"), path)
    else:
        named = output_name(input, None, replace(chosen, start=None, end=None))
        default = named.with_name(named.name.replace(input.stem, f"{input.stem}_preview", 1))
        path = output_path(output, default)
        convert_films([input], path, replace(chosen, restart=True), Reporter(chosen.progress))
    return {"file": str(path), "seconds": round(time.monotonic() - began, 1)}


@dataclass(frozen=True)
class Moment:
    """A frame, and what `convert` makes of it; without black bars.

    Attributes:
        left: (1, 3, H, W) in [0, 1].
        right: (1, 3, H, W) in [0, 1].
        depth: (1, 1, H, W) in [0, 1], 1 = near.
        warped: (1, 3, H, W) in [0, 1], the left view as it is warped for a model.
        hole: (1, 1, H, W) bool, its holes.
        placed: strength, % of the width, and screen plane.
        spread: inverse depth of the far and the near end, of the shot if it is known.
    """

    left: Tensor
    right: Tensor
    depth: Tensor
    warped: Tensor
    hole: Tensor
    placed: Placement
    spread: tuple[float, float]


def make_moment(input: Path, chosen: Options, models: Models | None = None) -> Moment:
    """Make of the first frame of a part what `convert` with the same options makes of it.

    Args:
        input: the film, or a picture.
        chosen: the part, and all else.
        models: opened before with the same options; opened here if not given.

    Raises:
        UserError: a mistake.
    """
    chosen = replace(chosen, devices=chosen.devices.split(",")[0])
    whole, models = open_film(input, chosen), models or Models(chosen)
    width = whole.info.width
    chosen.placement(width, (0.0, 1.0))  # checks the disparity before models are opened
    depths = models.depths(chosen, chosen.depth_range)
    (inpainter,) = models.inpainters(chosen, depths)
    count = inpainter.window
    part = whole if whole.is_picture else open_film(input, replace(chosen, end=f"+{count}f"))
    film = survey(part, chosen.cuts and count > 1)
    shot = film.shots[0]
    pair = _flat_views(chosen)
    composer = Composer(LAYOUTS["pair"], None, part.info, chosen.anaglyph)
    maker = FromDepth(depths[0], pair, part, None, composer, inpainter)
    fit_depth(depths, part, film)
    frames = list(islice(film.frames(part, 0), len(shot)))
    with TemporaryDirectory() as folder:
        rgb = [frame.rgb() for frame in frames]
        depth = ShotDepth(depths[0], shot, lambda start, stop: rgb[start:stop], Path(folder))
        if depths[0].relative or maker.whole_shots:
            depth.prepare(lambda frames: None)
        window = plan_windows([shot], maker.window, maker.overlap)[0]
        if maker.together:
            prepared = maker.prepare(window, frames[: window.stop], depth)
            pictures = next(iter(maker.make(window, prepared, None)[0]))
        else:
            pictures = maker.task(window, frames[0], depth)()
        maps = depth.get(0, 1, rgb[:1])
        far, near = depth.spread if maker.whole_shots else np.percentile(maps, PERCENTILES).tolist()
    placed = chosen.placement(width, (far, near))
    inside = (..., *(film.picture.inside if film.picture else ()))
    left, right = (_unit(pictures[name])[inside] for name in ("left", "right"))
    source = to_tensor(rgb[:1])
    share = 0.5 if chosen.eyes == "both" else 1.0
    warped, hole = warp_view(source, to_disparity(maps, *source.shape[-2:], placed.max_disparity * share))
    inverse_depth = to_disparity(maps, *source.shape[-2:], 1.0)
    percent = replace(placed, max_disparity=100 * placed.max_disparity / width)
    return Moment(left, right, inverse_depth, unit(warped), hole, percent, (far, near))


def _sheet(seen: Moment, chosen: Options, place: str) -> Tensor:
    """(3, H', W') in [0, 1]."""
    left, right, placed = seen.left, seen.right, seen.placed
    title = f"{place}: {placed.max_disparity:.3g} % of the width, screen at {placed.convergence:.3g}"
    views = {"left": left, "right": right, "anaglyph": anaglyph(left, right, chosen.anaglyph)}
    near, holes = colorize(seen.depth, 0, 1, "turbo"), mark_hole(seen.warped, seen.hole)
    made_of = {"depth, red is near": near, "warped, with holes": holes}
    return stack([contact_sheet(views, title, _WIDTH), contact_sheet(made_of, "made of", _WIDTH)])


def _flat_views(chosen: Options) -> Options:
    """The same options, but for the layout: each view by itself and seen straight on."""
    fov = chosen.fov if chosen.profile == "headset" else None
    return replace(chosen, layout="pair", fov=fov, refine="model" if chosen.needs_model else "none")


def _unit(picture: list[Plane]) -> Tensor:
    """(1, 3, H, W) in [0, 1], of red, green and blue."""
    return unit(torch.from_numpy(np.stack(picture))[None])
