"""Evaluation of the trained model and of other methods on several datasets."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from torch import Tensor

from m2svid.batch import StereoBatch
from m2svid.data.randomness import seeded
from m2svid.errors import UserError
from m2svid.evaluation.films import ViewFilm, save_lossless
from m2svid.evaluation.methods import Method, Trained
from m2svid.evaluation.methods.warps import ClosedNearest, warped_by
from m2svid.evaluation.protocol import Protocol
from m2svid.evaluation.results import MODEL, Results, VideoResult
from m2svid.metrics.measures import PRETRAINED, Pretrained, check_weight_names
from m2svid.metrics.perceptual import Perceptual
from m2svid.metrics.stereo import MetricName, Row, StereoMetrics

log = logging.getLogger(__name__)

_NAME = re.compile(r"[\w.+-]+")


class Evaluation:
    """Metrics by dataset and method, from the first batch to the files.

    All methods share the clips that are read, the warps that several of them use, and the metrics' networks.

    Args:
        metrics: what is measured.
        methods: measured beside the trained model.
        protocol: how they are compared.
        vgg_weights: VGG16 file for LPIPS.
        metric_weights: file of fvd and of lpips_alex, folder of clip_consistency, by metric.

    Raises:
        UserError: for unknown or repeated names, or if LPIPS is wanted and there are no VGG weights.
    """

    def __init__(
        self,
        metrics: Sequence[MetricName],
        methods: Sequence[Method] = (),
        protocol: Protocol = Protocol(),  # noqa: B008 (frozen)
        vgg_weights: str | None = None,
        metric_weights: Mapping[str, str] | None = None,
    ) -> None:
        names = [MODEL, *(method.name for method in methods)]
        for name in names:
            if names.count(name) > 1 or not _NAME.fullmatch(name):
                raise UserError(
                    f"model.methods: {name!r} must be a name of its own of letters, digits and .+-_ "
                    f"({MODEL!r} is the trained model): give the method another one in init_args.name"
                )
        self.metric_names = tuple(metrics)
        self.methods, self.protocol = tuple(methods), protocol
        if protocol.warp == "m2svid":
            for method in methods:
                method.warp = ClosedNearest()
        if "lpips" in metrics:
            self._perceptual: Perceptual | None = self._load_perceptual(vgg_weights)
        else:
            self._perceptual = None
            log.info("LPIPS is left out: model.metrics is %s", list(metrics))
        weights = dict(metric_weights or {})
        check_weight_names(weights)
        self._alex = Perceptual(weights.pop("lpips_alex", None), "alex") if "lpips_alex" in metrics else None
        networks = [name for name in metrics if name in PRETRAINED]
        self._pretrained = Pretrained(networks, weights) if networks else None
        self._metrics: dict[tuple[str, str], StereoMetrics] = {}
        self._datasets: list[str] = []
        self._described: dict[str, dict[str, Any]] = {}
        self._seed = 0
        self._films: Path | None = None

    @staticmethod
    def _load_perceptual(vgg_weights: str | None) -> Perceptual:
        try:
            return Perceptual(vgg_weights)
        except UserError as error:
            raise UserError(f"{error}: --model.metrics '[psnr, ms_ssim]'") from error

    def check(self, frames: int, size: int) -> None:
        """See whether an evaluation would fail, before hours of training.

        Args:
            frames: of the clips.
            size: height and width, px.

        Raises:
            UserError: a method's weights are missing or don't fit, or clips are too long for it, or too short
                or small for a metric.
        """
        self._make_metrics().check_size(frames, size, size)
        for method in self.methods:
            method.check(frames)

    def _make_metrics(self) -> StereoMetrics:
        return StereoMetrics(self.metric_names, self._perceptual, self._pretrained, alex=self._alex)

    def start(
        self,
        datasets: Sequence[str],
        device: torch.device,
        trained: Trained,
        seed: int = 0,
        films: Path | None = None,
    ) -> None:
        """Begin anew; every process names the same datasets, also those it gets no clip of.

        Args:
            datasets: names, in the order of their numbers in `update`.
            device: of the clips.
            trained: the model whose predictions `update` gets.
            seed: of the methods' noise, together with the clip's key.
            films: folder for the clips as lossless films, `DATASET/METHOD/KEY.mkv`, also those of the left
                and true views (`_left`, `_truth`); None writes none.

        Raises:
            UserError: a method's weights are missing or don't fit.
        """
        self._datasets, self._seed, self._films = list(datasets), seed, films
        for method in self.methods:
            method.prepare(trained, device)
        own = {"class": "trained", "warp": ClosedNearest.name, "steps": trained.sampler.num_steps}
        self._described = {MODEL: own} | {method.name: method.describe() for method in self.methods}
        for network in (self._perceptual, self._alex):
            if network is not None:
                network.to(device)
        self._metrics = {
            (dataset, method): self._make_metrics().to(device)
            for dataset in datasets
            for method in self._described
        }

    def update(self, dataset_index: int, prediction: Tensor, batch: StereoBatch) -> None:
        """Add a batch.

        Args:
            dataset_index: number of its dataset.
            prediction: (B, T, 3, H, W) in [0, 1], the trained model's.
            batch: float in [0, 1], as the protocol has it.
        """
        self._add(dataset_index, MODEL, prediction, batch)
        for index in range(len(batch.keys)):
            clip = batch.clip(index)
            for method, seen in self._seen(clip):
                noise = seeded(clip.left.device, self._seed, *clip.keys[0].encode())
                off = torch.autocast(clip.left.device.type, enabled=False)
                with nullcontext() if method.autocast else off:
                    right = method.predict(seen, noise)
                mask = seen.hole if self.protocol.mask == "own" else clip.hole
                self._add(dataset_index, method.name, right, clip, mask)

    def _seen(self, clip: StereoBatch) -> Iterator[tuple[Method, StereoBatch]]:
        """Every method with the clip as its warp shows it; equal warps are made once."""
        made = {ClosedNearest.name: clip}
        for method in self.methods:
            if method.warp.name not in made:
                made[method.warp.name] = warped_by(method.warp, clip)
            yield method, made[method.warp.name]

    def _add(
        self, dataset_index: int, method: str, right: Tensor, batch: StereoBatch, hole: Tensor | None = None
    ) -> None:
        metrics = self._metrics[self._datasets[dataset_index], method]
        mask = batch.hole if hole is None else hole
        if self._films is not None:
            self._save_films(dataset_index, method, right, batch)
        metrics.update(right.float(), batch.right, mask, batch.keys, batch.left)

    def _save_films(self, dataset_index: int, method: str, right: Tensor, batch: StereoBatch) -> None:
        views = {method: right} | ({"_left": batch.left, "_truth": batch.right} if method == MODEL else {})
        for name, videos in views.items():
            for key, video, fps in zip(batch.keys, videos, batch.fps.tolist(), strict=True):
                path = self._film(self._datasets[dataset_index], name, key)
                save_lossless(video, Fraction(fps).limit_denominator(1001), path)

    def _film(self, dataset: str, name: str, key: str) -> Path:
        return self._films / dataset / name / f"{key}.mkv"

    def _facts(self, dataset: str, method: str, key: str) -> dict[str, dict[str, Any]]:
        """The entry for a clip's films in the results."""
        if self._films is None:
            return {}
        names = {"prediction": (method, "right"), "truth": ("_truth", "right"), "left": ("_left", "left")}
        return {
            role: ViewFilm(self._film(dataset, name, key), "single", eye).facts()
            for role, (name, eye) in names.items()
        }

    def finish(self, folder: Path, name: str) -> dict[str, float]:
        """Means over videos of all processes, named dataset/metric or dataset/method/metric.

        Every process must call it. The first one writes the values of every video as
        `{name}_{dataset}[_{method}].csv`, and with protocol and method as a `.json` beside it; a protocol
        that isn't the paper's is a part of the names.

        Args:
            folder: where they go.
            name: stage and step.
        """
        if self.protocol.name != "paper":
            name = f"{name}_{self.protocol.name}"
        values: dict[str, float] = {}
        for (dataset, method), metrics in self._metrics.items():
            path = (dataset,) if method == MODEL else (dataset, method)
            file = folder / "_".join((name, *path))
            metrics.write_csv(file.with_name(f"{file.name}.csv"))
            means, rows = metrics.compute(), metrics.per_video()
            self._write(file.with_name(f"{file.name}.json"), dataset, method, means, rows, metrics.checksums)
            listed = ", ".join(f"{key} {value:.4g}" for key, value in means.items())
            rank_zero_info(f"{name} {'/'.join((dataset, method))}: {listed}")
            values |= {"/".join((*path, key)): value for key, value in means.items()}
        self._metrics = {}
        return values

    @rank_zero_only
    def _write(
        self,
        path: Path,
        dataset: str,
        method: str,
        means: dict[str, float],
        rows: list[Row],
        checksums: dict[str, str],
    ) -> None:
        described = dict(self._described[method])
        weights = {**checksums, **described.pop("checksums", {})}
        videos = [
            VideoResult(
                row["key"],
                {name: value for name, value in row.items() if name != "key"},
                self._facts(dataset, method, row["key"]),
            )
            for row in rows
        ]
        protocol = {**self.protocol.describe(), "method": described}
        Results(method, dataset, videos, means, protocol, weights).write(path)
