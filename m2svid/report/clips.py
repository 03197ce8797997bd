"""Films of some clips, small and in a page: left, truth, every method and its errors.

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

import base64
import logging
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from m2svid.data.codec import encode_video
from m2svid.evaluation.films import ViewFilm
from m2svid.report.collect import Dataset
from m2svid.report.columns import score
from m2svid.sheets.draw import error_map
from m2svid.video.pictures import to_tensor

log = logging.getLogger(__name__)

_CRF = 16
_MOST_FRAMES = 50  # of a clip in the page


def pick(dataset: Dataset, method: str, metric: str, count: int) -> dict[str, str]:
    """The videos in which a method is worst and best, and why they are shown, the worst first."""
    values = dataset.methods[method].values[metric]
    order = sorted(values, key=lambda video: score(metric, values[video]))
    half = min(count, len(order)) // 2
    worst, best = order[: min(count, len(order)) - half], order[len(order) - half :] if half else []
    return {video: f"worst {place + 1}" for place, video in enumerate(worst)} | {
        video: f"best {half - place}" for place, video in enumerate(best)
    }


def films_of(dataset: Dataset, video: str, width: int) -> dict[str, Any] | None:
    """A clip's films as data URIs with their labels; None where the results name no films.

    The errors are those of the films as measured, drawn before they are made smaller.
    """
    facts = {name: method.films(video) for name, method in dataset.methods.items()}
    first = next(iter(facts.values()))
    if "truth" not in first or any("prediction" not in films for films in facts.values()):
        return None
    cut = next(iter(dataset.methods.values())).runs[0].protocol.get("clip_frames")
    start, count = (
        (0, _MOST_FRAMES) if cut is None else (int(video.rpartition("/")[2]), min(cut, _MOST_FRAMES))
    )
    truth, rate = _read(first["truth"], start, count)
    films = []
    if "left" in first:
        films.append(("left", "left", _read(first["left"], start, count)[0]))
    films.append(("truth", "truth", truth))
    for name, roles in facts.items():
        prediction, _ = _read(roles["prediction"], start, count)
        films.append((name, "method", prediction))
        films.append((f"{name}: error", "error", error_map(prediction, truth)))
    return {
        "rate": float(rate),
        "frames": len(truth),
        "films": [
            {"label": label, "kind": kind, "uri": _uri(film, rate, width)} for label, kind, film in films
        ],
    }


def _read(facts: dict[str, Any], start: int, count: int) -> tuple[Tensor, Fraction]:
    """(T, 3, H, W) in [0, 1] and frames per second."""
    film = ViewFilm(Path(facts["path"]), facts["layout"], facts["eye"])
    if film.facts()["sha256"] != facts["sha256"]:
        log.warning("%s has changed since it was measured", film.path)
    frames = list(islice(film.frames(), start, start + count))
    return to_tensor(frames).float() / 255, film.rate


def _uri(film: Tensor, rate: Fraction, width: int) -> str:
    height = film.shape[-2] * min(width, film.shape[-1]) / film.shape[-1]
    size = [2 * max(1, round(side / 2)) for side in (height, min(width, film.shape[-1]))]
    small = film if list(film.shape[-2:]) == size else F.interpolate(film, size, mode="area")
    pixels = (small.clamp(0, 1) * 255).round().to(torch.uint8)
    return "data:video/mp4;base64," + base64.b64encode(encode_video(pixels, rate, _CRF)).decode()
