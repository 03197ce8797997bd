"""The metrics that take a whole video and its left view, by name.

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from m2svid.errors import UserError
from m2svid.metrics import binocular, temporal
from m2svid.metrics.pretrained import ClipConsistency, VideoFeatures

Value = float | None | dict[str, list[float]]  # None = the metric has no value for this video
Values = dict[str, Value]


@dataclass(frozen=True)
class Views:
    """The data of one video.

    Attributes:
        prediction: (T, 3, H, W) float in [0, 1], a generated right view.
        truth: the true one, of the same shape.
        hole: (T, 1, H, W) bool, True = disoccluded.
        left: like `prediction`, or None where only metrics are chosen that don't need it.
        borders: numbers of the frames that a new window brings in.
        cuts: numbers of the frames that begin a shot.
    """

    prediction: Tensor
    truth: Tensor
    hole: Tensor
    left: Tensor | None = None
    borders: Sequence[int] = ()
    cuts: Sequence[int] = ()

    @cached_property
    def binocular(self) -> tuple[binocular.Frames, binocular.Frames, binocular.Frames]:
        """Prediction, truth and left, (T, H, W, 3) uint8."""
        if self.left is None:
            raise ValueError("metrics of both eyes need the left view")
        videos = (_frames(video) for video in (self.prediction, self.truth, self.left))
        prediction, truth, left = ((video * 255).round().astype(np.uint8) for video in videos)
        return prediction, truth, left

    @cached_property
    def temporal(self) -> dict[str, NDArray[np.float32]]:
        """The right views by the end of the column's name, (T, H, W, 3) float32."""
        return {"": _frames(self.prediction), "_truth": _frames(self.truth)}

    @cached_property
    def regions(self) -> dict[str, NDArray[np.bool_] | None]:
        return {"": None, "_inside": self.hole[:, 0].cpu().numpy()}


def _frames(video: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(video.float().cpu().permute(0, 2, 3, 1).numpy())


def _disparity(views: Views) -> Values:
    return {f"disparity_sgbm_{name}": x for name, x in binocular.disparity_errors(*views.binocular).items()}


def _color(views: Views) -> Values:
    prediction, truth, left = views.binocular
    return {
        "color_difference": binocular.color_difference(prediction, left),
        "color_difference_truth": binocular.color_difference(truth, left),
    }


def _warping_error(views: Views) -> Values:
    flows = temporal.flows(views.temporal["_truth"])
    return _beside_truth(
        "warping_error", views, lambda video, mask: temporal.warping_error(video, flows, mask)
    )


def _flicker(views: Views) -> Values:
    return _beside_truth("flicker", views, temporal.flicker)


def _beside_truth(name: str, views: Views, measure: Callable[..., float | None]) -> Values:
    """Values of the prediction, of the truth, and their ratio; over all pixels, and inside the holes."""
    values: Values = {}
    for region, mask in views.regions.items():
        ours, true = (measure(video, mask) for video in views.temporal.values())
        values |= {f"{name}{region}": ours, f"{name}_truth{region}": true}
        values[f"{name}_ratio{region}"] = ours / true if ours is not None and true else None
    return values


def _seam(views: Views) -> Values:
    ours, true = (
        temporal.border_ratio(temporal.changes(video), views.borders, views.cuts)
        for video in views.temporal.values()
    )
    return {"seam": ours / true if ours is not None and true else None}


MEASURES: dict[str, Callable[[Views], Values]] = {
    "siou": lambda views: {"siou": binocular.siou(*views.binocular)},
    "siou_wrapped": lambda views: {"siou_wrapped": binocular.siou(*views.binocular, wrapped=True)},
    "ematch_sift": lambda views: {"ematch_sift": binocular.ematch_sift(*views.binocular)},
    "disparity_sgbm": _disparity,
    "color_difference": _color,
    "warping_error": _warping_error,
    "flicker": _flicker,
    "seam": _seam,
}


class Pretrained(nn.Module):
    """fvd and clip_consistency: the chosen ones, with their weights.

    Args:
        names: which.
        weights: file or folder by name.

    Raises:
        UserError: weights are missing or of something else.
    """

    def __init__(self, names: Sequence[str], weights: Mapping[str, str | Path]) -> None:
        super().__init__()
        self.networks = nn.ModuleDict()
        for name in names:
            if name not in weights:
                raise UserError(
                    f"metrics: {name} needs its network: give the file in metric_weights, as {name}"
                )
            self.networks[name] = _NETWORKS[name](Path(weights[name]))
        self.checksums: dict[str, str] = {name: net.checksum for name, net in self.networks.items()}

    def forward(self, views: Views) -> Values:
        values: Values = {}
        for name, network in self.networks.items():
            ours, true = network(views.prediction), network(views.truth)
            if name == "fvd":
                values["fvd"] = {"prediction": ours, "truth": true}
            else:
                values |= {name: ours, f"{name}_truth": true}
        return values


_NETWORKS: dict[str, Callable[[Path], nn.Module]] = {
    "fvd": VideoFeatures,
    "clip_consistency": ClipConsistency,
}
PRETRAINED = tuple(_NETWORKS)


def check_weight_names(names: Iterable[str]) -> None:
    """Raise a UserError where weights are given for a metric that takes none."""
    taking = (*PRETRAINED, "lpips_alex")
    for name in names:
        if name not in taking:
            raise UserError(
                f"metric_weights: {name!r} is no metric that takes weights; those are {', '.join(taking)}"
            )


def evaluate(views: Views, measures: Sequence[Callable[[Views], Values]]) -> Values:
    """All values of one video; NaN in the prediction is NaN in each."""
    broken = not views.prediction.isfinite().all()
    if broken:
        views = replace(views, prediction=views.prediction.nan_to_num(0.0, 0.0, 0.0))
    values: Values = {}
    for measure in measures:
        values |= measure(views)
    if not broken:
        return values
    return {name: _nan(name, value) for name, value in values.items()}


def _nan(name: str, value: Value) -> Value:
    if isinstance(value, dict):
        return {**value, "prediction": [float("nan")] * len(value["prediction"])}
    return value if "_truth" in name else float("nan")
