"""Evaluation of the model, and of baselines that need no model, on several datasets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from m2svid.batch import StereoBatch
from m2svid.errors import UserError
from m2svid.metrics.measures import PRETRAINED, Pretrained
from m2svid.metrics.perceptual import Perceptual
from m2svid.metrics.stereo import MetricName, StereoMetrics
from m2svid.warping.fill import fill_from_background

log = logging.getLogger(__name__)

BaselineName = Literal["warped", "filled"]

BASELINES: dict[str, Callable[[StereoBatch], Tensor]] = {
    "warped": lambda batch: batch.warped,
    "filled": lambda batch: fill_from_background(batch.warped, batch.hole),
}


class Evaluation:
    """Metrics by dataset and method, from the first batch to the table and the CSV files.

    Args:
        metrics: what is measured.
        baselines: methods measured beside the model.
        vgg_weights: VGG16 file for LPIPS.
        metric_weights: file of fvd, folder of clip_consistency, by metric.

    Raises:
        UserError: for unknown names, or if LPIPS is wanted and there are no VGG weights.
    """

    def __init__(
        self,
        metrics: Sequence[MetricName],
        baselines: Sequence[BaselineName] = (),
        vgg_weights: str | None = None,
        metric_weights: Mapping[str, str] | None = None,
    ) -> None:
        for name in baselines:
            if name not in BASELINES:
                raise UserError(f"model.baselines knows {', '.join(BASELINES)}, not {name!r}")
        self.metric_names = tuple(metrics)
        self.baselines = tuple(baselines)
        if "lpips" in metrics:
            self._perceptual: Perceptual | None = self._load_perceptual(vgg_weights)
        else:
            self._perceptual = None
            log.info("LPIPS is left out: model.metrics is %s", list(metrics))
        networks = [name for name in metrics if name in PRETRAINED]
        self._pretrained = Pretrained(networks, metric_weights or {}) if networks else None
        self._metrics: dict[tuple[str, str], StereoMetrics] = {}
        self._datasets: list[str] = []

    @staticmethod
    def _load_perceptual(vgg_weights: str | None) -> Perceptual:
        try:
            return Perceptual(vgg_weights)
        except UserError as error:
            raise UserError(f"{error}: --model.metrics '[psnr, ms_ssim]'") from error

    def start(self, datasets: Sequence[str], device: torch.device) -> None:
        """Begin anew; every process names the same datasets, also those it gets no clip of."""
        self._datasets = list(datasets)
        if self._perceptual is not None:
            self._perceptual.to(device)
        shared = {"perceptual": self._perceptual, "pretrained": self._pretrained}
        self._metrics = {
            (dataset, method): StereoMetrics(self.metric_names, **shared).to(device)
            for dataset in datasets
            for method in ("model", *self.baselines)
        }

    def update(self, dataset_index: int, prediction: Tensor, batch: StereoBatch) -> None:
        """Add a batch: `prediction` and the batch's videos (B, T, 3, H, W) in [0, 1]."""
        dataset = self._datasets[dataset_index]
        views = {"model": prediction} | {name: BASELINES[name](batch) for name in self.baselines}
        for method, view in views.items():
            self._metrics[dataset, method].update(
                view.float(), batch.right, batch.hole, batch.keys, batch.left
            )

    def finish(self, folder: Path, name: str) -> dict[str, float]:
        """Means over videos of all processes, named dataset/metric or dataset/baseline/metric.

        Every process must call it; the first one writes the per-video values.

        Args:
            folder: where they go, as `{name}_{dataset}[_{baseline}].csv`.
            name: stage and step.
        """
        values = {}
        for (dataset, method), metrics in self._metrics.items():
            path = (dataset,) if method == "model" else (dataset, method)
            metrics.write_csv(folder / f"{'_'.join((name, *path))}.csv")
            means = metrics.compute()
            listed = ", ".join(f"{key} {value:.4g}" for key, value in means.items())
            rank_zero_info(f"{name} {'/'.join((dataset, method))}: {listed}")
            values |= {"/".join((*path, key)): value for key, value in means.items()}
        self._metrics = {}
        return values
