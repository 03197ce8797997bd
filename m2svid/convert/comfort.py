"""The verb `comfort`: the parallax of a film with depth, or of any stereo film, against limits of comfort.

Shapes: h w pixels of a parallax map, % of the picture's width.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from m2svid.comfort.measures import ShotMeter, sampled
from m2svid.comfort.pairs import StereoFilm, Views, find_views, matched_parallax
from m2svid.comfort.profiles import Placement, Profile, open_profile
from m2svid.comfort.report import Measured, assess, draw_parallax
from m2svid.convert.options import WarpOptions
from m2svid.convert.report import Event, Reporter
from m2svid.convert.setup import Models, fit_depth, open_film
from m2svid.convert.stereo_options import PlacementOptions
from m2svid.depth.base import DepthEstimator
from m2svid.depth.shot import ShotDepth
from m2svid.errors import UserError
from m2svid.files import whole
from m2svid.pages.fill import fill
from m2svid.video.pictures import Pixels
from m2svid.video.read import Frame, Video
from m2svid.video.shots import Shot, Survey, survey
from m2svid.video.sliding import Sliding


@dataclass(frozen=True)
class ComfortOptions(PlacementOptions, WarpOptions):
    """Options of `comfort`; those on depth, strength and screen plane are for films with one view.

    Args:
        layout: of a stereo film: sbs, tb (top-bottom), each also -half; "single" = one view, which depth
            makes a stereo film of; "auto" finds it by the container, else by the film's name, and reads both
            layers of MV-HEVC.
        swap_eyes: the right eye's view comes first, in the first layer.
    """

    layout: Literal["auto", "single", "sbs", "sbs-half", "tb", "tb-half"] = "auto"
    swap_eyes: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fov is not None and self.profile != "headset":
            raise UserError("--fov is for --profile headset")


def comfort(
    input: Path, output: Path | None = None, right: Path | None = None, **options: Any
) -> dict[str, str]:
    """Measure how comfortable a film's parallax is, shot by shot, and say what keeps to the limits.

    Parallax is x in the right view minus x in the left view, in % of the width: below 0 in front of the
    screen. Of a film with depth it is known; between the views of a stereo film it is found by matching.

    Args:
        input: a film, with `--depth` as `convert` takes it; or a stereo film.
        output: the page, .html; the same as JSON lies beside it. The film's name with
            `_comfort` if not given.
        right: the right view, where it is a film of its own.
        **options: see `ComfortOptions`.

    Returns:
        Verdict, page and JSON.

    Raises:
        UserError: a mistake.
    """
    chosen = ComfortOptions(**options)
    page = output or input.with_name(f"{input.stem}_comfort.html")
    if page.suffix.lower() != ".html":
        raise UserError(f"-o {page} must end in .html")
    video, report = open_film(input, chosen), Reporter(chosen.progress)
    views = None if right is not None else _find_views(video, chosen)
    profile, shots = open_profile(chosen.profile, chosen.fov), []
    with report.stage("look for cuts", video.info.frames) as advance:
        film = survey(video, chosen.cuts, lambda: advance(1))
    times = [float((time - film.times[0]) * video.info.time_base) for time in (*film.times, film.end)]
    with report.stage("parallax", len(film.times)) as advance:
        if right is None and views is None:
            (depth, *_) = Models(chosen).depths(chosen, chosen.depth_range)
            fit_depth([depth], video, film)
            source = f"depth of {depth.description}"
            shots += _placed(video, film, times, depth, chosen, advance)
        else:
            where = f"{views.layout} ({views.reason})" if views else f"right view {right}"
            source = f"stereo film, {where}, matched"
            other = None if right is None else open_film(right, chosen)
            if views is not None and views.layout == "layers":
                other = open_film(input, chosen, second_layer=True)
            stereo = StereoFilm(video, views, other)
            shots += _matched(stereo, film, times, profile, advance)
    facts = {"name": input.name, "source": source, "frames": len(film.times), "seconds": round(times[-1], 3)}
    told = _write(page, {"film": facts} | assess(shots, profile))
    report.say(Event("done", f"{page} is complete", {"file": str(page)}))
    return told


@dataclass(frozen=True)
class ShotSpread:
    """A shot, and how far its depth reaches.

    Attributes:
        begin: s from the film's beginning.
        end: s.
        spread: inverse depth of its far and its near end; None = not known.
    """

    begin: float
    end: float
    spread: tuple[float, float] | None


def find_spreads(input: Path, chosen: WarpOptions, with_depth: bool) -> list[ShotSpread]:
    """Find the shots of a part of a film, and how far the depth of each reaches.

    Args:
        input: the film.
        chosen: the part, and its depth.
        with_depth: False leaves the depth out, which is quick.

    Raises:
        UserError: a mistake.
    """
    video = open_film(input, chosen)
    film = survey(video, chosen.cuts)
    opening = open_film(input, replace(chosen, start=None, end=None, hwaccel="off")).info.start
    base, start = video.info.time_base, video.info.start - opening
    times = [float(time * base + start) for time in (*film.times, film.end)]
    spreads: list[tuple[float, float] | None] = [None] * len(film.shots)
    if with_depth:
        (depth, *_) = Models(chosen).depths(chosen, chosen.depth_range)
        fit_depth([depth], video, film)
        spreads = [maps.spread for _, maps in _depth_by_shot(video, film, depth, lambda frames: None)]
    bounds = [(times[shot.start], times[shot.stop]) for shot in film.shots]
    return [ShotSpread(*bound, spread) for bound, spread in zip(bounds, spreads, strict=True)]


def _find_views(video: Video, options: ComfortOptions) -> Views | None:
    if options.layout == "single":
        return None
    if options.layout != "auto":
        return Views(options.layout, options.swap_eyes, "as given")
    found = find_views(video)
    return found and replace(found, swapped=found.swapped != options.swap_eyes)


def _matched(
    stereo: StereoFilm, film: Survey, times: Sequence[float], profile: Profile, advance: Callable[[int], None]
) -> Iterator[Measured]:
    rate = float(stereo.video.info.rate)
    pairs = stereo.pairs(film, {index for shot in film.shots for index in sampled(shot, rate)})
    for shot in film.shots:
        chosen = sampled(shot, rate)
        seen = (
            (index, matched_parallax(left, right), left if index == _middle(chosen) else None)
            for index, left, right in islice(pairs, len(chosen))
        )
        yield _measured(shot, times, seen, profile)
        advance(len(shot))


def _placed(
    video: Video,
    film: Survey,
    times: Sequence[float],
    depth: DepthEstimator,
    options: ComfortOptions,
    advance: Callable[[int], None],
) -> Iterator[Measured]:
    width, profile = video.info.width, open_profile(options.profile, options.fov)
    for shot, maps in _depth_by_shot(video, film, depth, advance):
        pixels = options.placement(width, maps.spread)
        placed = replace(pixels, max_disparity=100 * pixels.max_disparity / width)
        seen = _depths(video, film, maps, shot, placed)
        yield replace(_measured(shot, times, seen, profile), placed=placed, spread=maps.spread)


def _depth_by_shot(
    video: Video, film: Survey, depth: DepthEstimator, advance: Callable[[int], None]
) -> Iterator[tuple[Shot, ShotDepth]]:
    """The shots of a film, each with its depth, which is thrown away when the next is asked for."""
    frames = Sliding[Frame](lambda start: film.frames(video, start))

    def read(start: int, stop: int) -> list[Pixels]:
        return [frame.rgb() for frame in frames.get(start, stop)]

    with tempfile.TemporaryDirectory() as folder:
        for shot in film.shots:
            maps = ShotDepth(depth, shot, read, Path(folder))
            maps.prepare(advance)
            yield shot, maps
            maps.remove()


def _depths(
    video: Video, film: Survey, maps: ShotDepth, shot: Shot, placed: Placement
) -> Iterator[tuple[int, NDArray[np.float32], Pixels | None]]:
    chosen = sampled(shot, float(video.info.rate))
    for first, stretch in maps.maps():
        for index in chosen:
            if first <= index < first + len(stretch):
                shown = next(film.frames(video, index)).rgb() if index == _middle(chosen) else None
                yield index, placed.parallax(stretch[index - first]), shown


def _middle(chosen: list[int]) -> int:
    return chosen[len(chosen) // 2]


def _measured(
    shot: Shot,
    times: Sequence[float],
    seen: Iterable[tuple[int, NDArray[np.float32], Pixels | None]],
    profile: Profile,
) -> Measured:
    """Measure a shot by its frames: number, parallax (h, w), and the picture (H, W, 3) where it is shown."""
    meter, picture = ShotMeter(shot, times[shot.start], times[shot.stop]), ""
    for index, parallax, shown in seen:
        meter.add(parallax, times[index])
        if shown is not None:
            picture = draw_parallax(shown, parallax, profile)
    return Measured(meter.result(), picture)


def _write(page: Path, facts: dict[str, Any]) -> dict[str, str]:
    """Write the page, and beside it the same without its pictures as JSON."""
    record = page.with_suffix(".json")
    numbers = facts | {
        "shots": [{k: v for k, v in shot.items() if k != "picture"} for shot in facts["shots"]]
    }
    contents = {page: fill("m2svid.comfort", facts), record: json.dumps(numbers, indent=1, allow_nan=False)}
    for path, text in contents.items():
        with whole(path) as temporary:
            temporary.write_text(text)
    return {"verdict": facts["verdict"]["text"], "page": str(page), "json": str(record)}
