"""The verb `measure`: metrics of films, whoever made them.

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from rich.progress import Progress
from torch import Tensor

from m2svid.errors import UserError
from m2svid.evaluation.films import ViewFilm, ViewLayout, find_films, open_view, pair_up
from m2svid.evaluation.holes import Disparities, Holes, Masks, Matched, NoHoles, left_frames
from m2svid.evaluation.kept import Kept
from m2svid.evaluation.results import Results, VideoResult, versions
from m2svid.files import check_output
from m2svid.inference.windows import window_borders
from m2svid.metrics.measures import check_weight_names
from m2svid.metrics.perceptual import Perceptual
from m2svid.metrics.stereo import MetricName, StereoMetrics
from m2svid.video.pictures import to_tensor
from m2svid.video.read import Video
from m2svid.video.shots import survey

log = logging.getLogger(__name__)

_BOTH_EYES = {"siou", "siou_wrapped", "ematch_sift", "disparity_sgbm", "color_difference"}
_WITHOUT_TRUTH = {
    "psnr": ("psnr_outside", "psnr_masked_outside"),
    "ssim": ("ssim_outside", "ssim_masked_outside"),
    "ms_ssim": ("ms_ssim_outside", "ms_ssim_masked_outside"),
    "lpips": ("lpips_outside", "lpips_masked_outside"),
    "ematch_sift": ("ematch_sift",),
    "color_difference": ("color_difference",),
    "flicker": ("flicker", "flicker_inside"),
    "seam": ("seam",),
}
"""By metric: the values that mean something where the warped view stands in for the true one."""
_DEPTH = {".npz"}  # files of disparities that are no films
_MEMORY = 400  # bytes a pixel and frame: the views as float, and what the metrics make of them


def measure(
    predictions: Path,
    truth: Path,
    left: Path | None = None,
    output: Path = Path("measured.json"),
    metrics: Sequence[MetricName] = ("psnr", "ssim", "ms_ssim", "lpips", "siou", "ematch_sift"),
    method: str | None = None,
    dataset: str | None = None,
    layout: ViewLayout | Literal["auto"] = "auto",
    truth_layout: ViewLayout = "single",
    truth_is: Literal["true", "warped"] = "true",
    disparity: str = "matched",
    max_disparity: float | None = None,
    hole: Path | None = None,
    clip_frames: int | None = None,
    window: int = 25,
    overlap: int = 3,
    vgg_weights: Path | None = None,
    metric_weights: dict[str, str] | None = None,
    restart: bool = False,
) -> dict[str, float]:
    """Measure right views in films, made by any program, against true ones.

    Films in folders belong together by their names, without what tells layout or eye at the end. An
    interrupted measurement continues where it stopped when it is started again.

    Args:
        predictions: a film, a folder of films, or a folder of pictures.
        truth: the true right views, in the same forms.
        left: the left views, in the same forms; not needed where the truth's films show both, or without
            holes and metrics of both eyes.
        output: JSON with every video's values, versions and checksums.
        metrics: names as in `model.metrics`.
        method: its name in tables; if not given, the name of PREDICTIONS.
        dataset: its name in tables; if not given, the name of TRUTH.
        layout: of the predictions; auto tells single views, sbs and tb by their size.
        truth_layout: of the true films.
        truth_is: warped = nobody has true views, and TRUTH holds the warped left ones: of the values only
            those are kept that need no more, outside the holes and against the left view.
        disparity: where the holes are from: matched (left with the true right view), none, or a file or
            folder of disparities of the left views: floats are pixels, others inverse depth with
            --max-disparity.
        max_disparity: between the eyes where the inverse depth is 1, as a share of the width.
        hole: masks as films, white in the holes, instead of a disparity.
        clip_frames: cut films into videos of so many frames; a film is one video if not given.
        window: frames of a window of the method, for `seam`.
        overlap: frames that its windows share.
        vgg_weights: VGG16 file for lpips; if not given, the one in torch hub's cache.
        metric_weights: file of fvd, folder of clip_consistency, as '{"fvd": PATH}'.
        restart: forget what an interrupted measurement has found.

    Returns:
        Means over the videos.

    Raises:
        UserError: films are missing or don't fit, which is found before anything is measured.
    """
    if clip_frames is not None and clip_frames < 1:
        raise UserError(f"--clip-frames must be at least 1, not {clip_frames}")
    if left is None and truth_layout == "single":
        _check_left_is_not_needed(metrics, disparity if hole is None else "none")
    if truth_is == "warped":
        _check_truth_is_not_needed(metrics, disparity if hole is None else "masks")
    chosen = _make_metrics(metrics, vgg_weights, metric_weights)
    elsewhere = None if disparity in ("matched", "none") else Path(disparity)
    given = {"prediction": predictions, "left": left, "hole": hole, "disparity": None if hole else elsewhere}
    found = {
        role: find_films(path, _DEPTH if role == "disparity" else (), "left" if role == "left" else "right")
        for role, path in given.items()
        if path is not None
    }
    films, pairs = [], pair_up(find_films(truth), found)
    check_output(output, (path for paths in pairs.values() for path in paths.values()))
    for name, paths in pairs.items():
        films.append(_open(name, paths, layout, truth_layout, disparity, max_disparity))
        films[-1].check(chosen, clip_frames)
    protocol: dict[str, Any] = {
        "holes": "masks" if hole else disparity,
        "max_disparity": max_disparity,
        "clip_frames": clip_frames,
        "pixels": "8-bit RGB",
    } | ({"window": window, "overlap": overlap} if "seam" in metrics else {})
    if truth_is == "warped":
        protocol["truth"] = "warped"
    facts = {film.name: film.facts() for film in films}
    settings = {**protocol, "metrics": list(metrics), "weights": chosen.checksums, "versions": versions()}
    kept = Kept(output, settings, restart)
    sources = {}
    with Progress(transient=True) as progress:
        task = progress.add_task("measure", total=sum(film.truth.num_frames for film in films))
        for film in films:
            borders, cuts = film.borders(window, overlap) if "seam" in metrics else (set(), set())
            for start, videos in film.videos(clip_frames):
                stop = start + len(videos["truth"])
                key = film.name if clip_frames is None else f"{film.name}/{start:06d}"
                sources[key] = facts[film.name]
                if not kept.restore(chosen, key, facts[film.name]):
                    chosen.update(
                        videos["prediction"][None],
                        videos["truth"][None],
                        videos["hole"][None],
                        [key],
                        videos["left"][None] if "left" in videos else None,
                        borders=[at - start for at in borders if start < at < stop],
                        cuts=[at - start for at in cuts if start < at < stop],
                    )
                    kept.add(chosen, key, facts[film.name])
                progress.advance(task, stop - start)
    videos = [
        VideoResult(row.pop("key"), _told(row, truth_is), films=sources[key])
        for row, key in ((row, row["key"]) for row in chosen.per_video())
    ]
    name, data = method or predictions.stem, dataset or truth.stem
    means = _told(chosen.compute(), truth_is)
    Results(name, data, videos, means, protocol, chosen.checksums).write(output)
    kept.remove()
    log.info("%d videos measured, every value is in %s", len(videos), output)
    return means


def _told(values: dict[str, Any], truth_is: str) -> dict[str, Any]:
    """The values that mean something."""
    if truth_is == "true":
        return values
    kept = {"hole_share", *(name for names in _WITHOUT_TRUTH.values() for name in names)}
    return {name: value for name, value in values.items() if name in kept or name.startswith("num_videos")}


def _check_left_is_not_needed(metrics: Sequence[str], disparity: str) -> None:
    needing = sorted(_BOTH_EYES & set(metrics))
    if needing:
        raise UserError(f"{', '.join(needing)} need the left views: give them with --left")
    if disparity != "none":
        raise UserError("The holes need the left views: give them with --left, or use --disparity none")


def _check_truth_is_not_needed(metrics: Sequence[str], holes: str) -> None:
    needing = [name for name in metrics if name not in _WITHOUT_TRUTH]
    if needing:
        raise UserError(
            f"{', '.join(needing)} need true right views, not --truth-is warped: choose --metrics of "
            f"{', '.join(_WITHOUT_TRUTH)}"
        )
    if holes in ("matched", "none"):
        raise UserError("--truth-is warped needs the holes: give them with --hole, or a file of --disparity")


def _make_metrics(
    metrics: Sequence[MetricName], vgg_weights: Path | None, metric_weights: dict[str, str] | None
) -> StereoMetrics:
    check_weight_names(metric_weights or ())
    try:
        perceptual = Perceptual(vgg_weights) if "lpips" in metrics else None
    except UserError as error:
        others = [name for name in metrics if name != "lpips"]
        raise UserError(f"{error}: --metrics '[{', '.join(others)}]'") from error
    return StereoMetrics(metrics, perceptual, weights=metric_weights)


def _open(
    name: str,
    paths: dict[str, Path],
    layout: ViewLayout | Literal["auto"],
    truth_layout: ViewLayout,
    disparity: str,
    max_disparity: float | None,
) -> Film:
    truth = ViewFilm(paths["truth"], truth_layout, "right")
    size = truth.size
    if "left" in paths and paths["left"] != paths["truth"]:
        left = open_view(paths["left"], "auto", "left", size)
    else:
        left = None if truth_layout == "single" else ViewFilm(paths["truth"], truth_layout, "left")
    holes: Holes
    if "hole" in paths:
        holes = Masks(paths["hole"], size)
    elif "disparity" in paths:
        holes = Disparities(paths["disparity"], size, max_disparity)
    else:
        holes = Matched() if disparity == "matched" else NoHoles()
    return Film(name, open_view(paths["prediction"], layout, "right", size), truth, left, holes)


@dataclass(frozen=True)
class Film:
    """A film with everything that belongs to it.

    Attributes:
        name: unique.
        prediction: the view that is measured.
        truth: the true one.
        left: the left one; None = not given.
        holes: where its holes are.
    """

    name: str
    prediction: ViewFilm
    truth: ViewFilm
    left: ViewFilm | None
    holes: Holes

    @property
    def views(self) -> dict[str, ViewFilm]:
        views = {"truth": self.truth, "prediction": self.prediction}
        return views if self.left is None else {**views, "left": self.left}

    def check(self, metrics: StereoMetrics, clip_frames: int | None) -> None:
        """Raise a UserError where the film can't be measured."""
        for role, count in [(r, v.num_frames) for r, v in self.views.items()] + [
            ("holes", self.holes.num_frames)
        ]:
            if count is not None and count != self.truth.num_frames:
                raise UserError(
                    f"{self.name}: {role} has {count} frames, the truth {self.truth.num_frames}; cut the "
                    "longer one to the same frames"
                )
        frames = min(clip_frames or self.truth.num_frames, self.truth.num_frames)
        shortest = self.truth.num_frames % frames or frames
        height, width = self.truth.size
        metrics.check_size(shortest, height, width)
        needed, there = (
            _MEMORY * frames * height * width,
            os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        )
        if needed > there:
            raise UserError(
                f"{self.name}: {frames} frames of {width}×{height} as one video need about "
                f"{needed / 1e9:.0f} GB and there are {there / 1e9:.0f}: cut it with --clip-frames"
            )

    def facts(self) -> dict[str, dict[str, Any]]:
        return {role: view.facts() for role, view in self.views.items()}

    def borders(self, window: int, overlap: int) -> tuple[set[int], set[int]]:
        """Frames at borders of windows, and frames that begin a shot of the truth."""
        shots = survey(Video(self.truth.path)).shots
        return window_borders(shots, window, overlap)[1], {shot.start for shot in shots}

    def videos(self, clip_frames: int | None) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """First frame and videos of each stretch: (T, 3, H, W) float in [0, 1], hole (T, 1, H, W) bool."""
        streams: dict[str, Iterator[Any]] = {role: view.frames() for role, view in self.views.items()}
        streams["hole"] = self.holes.masks(left_frames(self.left), self.truth.frames())
        start = 0
        while start < self.truth.num_frames:
            count = min(clip_frames or self.truth.num_frames, self.truth.num_frames - start)
            read = {role: list(islice(stream, count)) for role, stream in streams.items()}
            for role, frames in read.items():
                if len(frames) < count:
                    raise UserError(f"{self.name}: {role} ends after {start + len(frames)} frames, too early")
            holes = torch.stack(read.pop("hole"))
            yield (
                start,
                {role: to_tensor(views).float() / 255 for role, views in read.items()} | {"hole": holes},
            )
            start += count
        for role, stream in streams.items():
            if next(stream, None) is not None:
                raise UserError(f"{self.name}: {role} has more than {start} frames, the number announced")
