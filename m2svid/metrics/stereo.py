"""Quality of generated right views: one value a video, then the mean over videos (paper §5, Appendix).

Shapes: B videos, T frames, H W pixels.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, get_args

import torch
from torch import Tensor, distributed
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat
from torchmetrics.utilities.distributed import gather_all_tensors

from m2svid.errors import UserError
from m2svid.files import whole
from m2svid.metrics import temporal
from m2svid.metrics.functional import SMALLEST_SIDE, WINDOW, lpips, ms_ssim, psnr, ssim
from m2svid.metrics.measures import MEASURES, PRETRAINED, Pretrained, Views, evaluate
from m2svid.metrics.perceptual import Perceptual
from m2svid.metrics.pretrained import frechet_distance, require_frames
from m2svid.metrics.regions import paint_white, regions, require_side

MetricName = Literal[
    "psnr",
    "ssim",
    "ms_ssim",
    "lpips",
    "siou",
    "siou_wrapped",
    "ematch_sift",
    "disparity_sgbm",
    "color_difference",
    "warping_error",
    "flicker",
    "seam",
    "fvd",
    "clip_consistency",
    "psnr_pairs",
    "lpips_alex",
]
SMALLEST_SIDES = {"ssim": WINDOW, "ms_ssim": SMALLEST_SIDE, "warping_error": temporal.SMALLEST_SIDE}
BY_REGION = {"psnr": psnr, "ssim": ssim, "ms_ssim": ms_ssim}
Row = dict[str, Any]


class StereoMetrics(Metric):
    """Metrics of every video, and their means over videos.

    psnr, ssim, ms_ssim and lpips are measured over the full view, inside and outside the holes. Say `psnr`:
        psnr: the full view.
        psnr_inside, psnr_outside: the paper's protocol, the rest painted white in both videos; the painted
            pixels count as perfect.
        psnr_masked_inside, psnr_masked_outside: only the region's pixels count.
    psnr_pairs is the published evaluation's: the error of two videos together, in the order of their keys, of
    the full view and of the painted regions; it has no value a video, and stands beside psnr. lpips_alex is
    lpips in the features of AlexNet.
    The others are explained where they are defined; `_truth` is the true view's own value, `_ratio` the
    prediction's over it:
        siou, siou_wrapped, ematch_sift, color_difference: `metrics.binocular`; against the left view.
        disparity_sgbm: `_epe` (px), `_d1`, `_matched`; `metrics.binocular.disparity_errors`.
        warping_error, flicker: `metrics.temporal`; also `_inside` the holes.
        seam: `metrics.temporal.border_ratio` over the truth's, at the borders of windows.
        fvd: Frechet distance of all videos' features together, so it has no value a video.
        clip_consistency: `metrics.pretrained`.

    A region without a pixel in a video has no value there: NaN in the video's row, and the video is left out
    of that region's means; `num_videos_inside` and `num_videos_outside` count the videos that are in. Where
    another metric has no value for a video (a seam without a border), its row holds None, and
    `num_videos_{metric}` counts the others. Nothing else is left out: a NaN in a prediction is a NaN in the
    mean, and a video that equals the truth (PSNR inf) makes the mean inf.

    Every process may see any number of videos, also none; each video must be seen once in all.

    Args:
        metrics: Which. ms_ssim takes frames of at least 161×161, lpips needs VGG16's weights, fvd and
            clip_consistency need theirs.
        perceptual: The network behind lpips, where several metrics share one; None makes one from torch's hub
            cache.
        pretrained: The networks behind fvd and clip_consistency, where several metrics share them; None
            makes them from `weights`.
        weights: By metric: file of fvd and of lpips_alex, folder of clip_consistency.
        alex: The network behind lpips_alex, as `perceptual`; None makes one from `weights`.

    Raises:
        UserError: An unknown metric, or one without its weights.
    """

    full_state_update = False
    records: list[Tensor] | Tensor

    def __init__(
        self,
        metrics: Sequence[MetricName] = ("psnr", "ms_ssim", "lpips"),
        perceptual: Perceptual | None = None,
        pretrained: Pretrained | None = None,
        weights: Mapping[str, str | Path] | None = None,
        alex: Perceptual | None = None,
    ) -> None:
        super().__init__(dist_sync_fn=_gather_bytes)
        self.names = tuple(metrics)
        for name in metrics:
            if name not in get_args(MetricName):
                raise UserError(
                    f"metrics: {name!r} is unknown; choose from {', '.join(get_args(MetricName))}"
                )
        self.by_region: dict[str, Callable[..., Tensor]] = {
            n: BY_REGION[n] for n in metrics if n in BY_REGION
        }
        if "lpips" in metrics:
            self.perceptual = perceptual or Perceptual()
            self.by_region["lpips"] = partial(lpips, self.perceptual)
        self.measures: list[Callable[[Views], dict[str, Any]]] = [
            MEASURES[n] for n in metrics if n in MEASURES
        ]
        self.in_pairs = "psnr_pairs" in metrics
        if self.in_pairs:
            self.by_region["psnr"] = psnr
        if "lpips_alex" in metrics:
            weights = dict(weights or {})
            given = weights.pop("lpips_alex", None)
            self.alex = alex or Perceptual(given, "alex")
            self.by_region["lpips_alex"] = partial(lpips, self.alex)
        chosen = [name for name in metrics if name in PRETRAINED]
        self.checksums: dict[str, str] = {}  # SHA-256 of weights, by metric
        if chosen:
            self.pretrained = pretrained or Pretrained(chosen, weights or {})
            self.measures.append(self.pretrained)
            self.checksums = self.pretrained.checksums
        # One JSON line a video, as bytes: what processes can exchange however many videos each of them saw.
        self.add_state("records", [], dist_reduce_fx="cat")

    def update(
        self,
        prediction: Tensor,
        truth: Tensor,
        hole: Tensor,
        keys: Sequence[str],
        left: Tensor | None = None,
        borders: Sequence[int] = (),
        cuts: Sequence[int] = (),
    ) -> None:
        """Evaluates a batch.

        Args:
            prediction, truth: (B, T, 3, H, W) right views in [0, 1].
            hole: (B, T, 1, H, W) bool, True = disoccluded, closed mask.
            keys: one unique name a video.
            left: like `truth`, the left views; only the metrics of both eyes need them.
            borders: numbers of the frames that a new window brings in, for `seam`.
            cuts: numbers of the frames that begin a shot; `seam` leaves them out.

        Raises:
            UserError: The frames are too small for a metric.
            ValueError: Shapes, ranges or the number of keys don't fit.
        """
        _check(prediction, truth, hole, keys, left)
        with torch.autocast(prediction.device.type, enabled=False):
            for index, key in enumerate(keys):
                video = slice(index, index + 1)
                ours, true = prediction[video].float(), truth[video].float()
                other = None if left is None else left[index].float()
                views = Views(ours[0], true[0], hole[index], other, borders, cuts)
                row = {
                    "key": key,
                    **self._evaluate(ours, true, hole[video]),
                    **evaluate(views, self.measures),
                }
                self.records.append(_encode(row).to(self.device))

    def check_size(self, frames: int, height: int, width: int) -> None:
        """Raise the UserError that `update` would for videos of this size."""
        for name in self.names:
            if name in SMALLEST_SIDES:
                require_side(name, SMALLEST_SIDES[name], height, width)
            if name == "fvd":
                require_frames(frames)

    def snapshot(self, first: int = 0) -> list[str]:
        """The records of this process's videos from number `first` on, for `restore`."""
        records = self.records if isinstance(self.records, list) else [self.records]
        return [bytes(record.tolist()).decode() for record in records[first:]]

    def restore(self, records: Sequence[str]) -> None:
        """Take over videos that a metric with the same options has evaluated before."""
        self.records += [torch.tensor(list(record.encode()), dtype=torch.uint8) for record in records]
        self._update_count += len(records)

    def compute(self) -> dict[str, float]:
        """Mean of every metric over the videos of all processes, and how many videos are behind it."""
        rows = self._rows()
        counted = {
            "inside": [row for row in rows if row["hole_share"] > 0],
            "outside": [row for row in rows if row["hole_share"] < 1],
        }
        means, missing = {}, {}
        for name in list(rows[0])[2:]:  # after key and hole_share
            values = [row[name] for row in counted.get(name.rsplit("_", 1)[-1], rows)]
            if name == "fvd":
                features = [
                    torch.tensor([value[view] for value in values]) for view in ("prediction", "truth")
                ]
                means[name] = frechet_distance(*features) if len(values) > 1 else math.nan
                continue
            present = [value for value in values if value is not None]
            means[name] = fmean(present) if present else math.nan
            if len(present) < len(values):
                missing[f"num_videos_{name}"] = float(len(present))
        if self.in_pairs:
            for region in ("", "_inside", "_outside"):
                values = [row[f"psnr{region}"] for row in counted.get(region[1:], rows)]
                means[f"psnr_pairs{region}"] = _in_pairs(values)
        numbers = {f"num_videos_{region}": float(len(videos)) for region, videos in counted.items()}
        return {**means, "num_videos": float(len(rows)), **numbers, **missing}

    def per_video(self) -> list[Row]:
        """A row a video, of all processes, by key: key, hole_share in [0, 1], and every metric but fvd.

        Every process must call it.
        """
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            return [{name: value for name, value in row.items() if name != "fvd"} for row in self._rows()]

    def write_csv(self, path: Path) -> None:
        """Write `per_video` to a CSV file, whole or not at all.

        Every process must call it; the first one writes.
        """
        rows = self.per_video()
        if distributed.is_available() and distributed.is_initialized() and distributed.get_rank() != 0:
            return
        with whole(Path(path)) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def _evaluate(self, prediction: Tensor, truth: Tensor, hole: Tensor) -> dict[str, float]:
        """Hole share and the metrics by region of one video (B = 1)."""
        values = {"hole_share": hole.double().mean()}
        for name, measure in self.by_region.items():
            values[name] = measure(prediction, truth)
            for region, mask in regions(hole).items():
                painted = measure(paint_white(prediction, mask), paint_white(truth, mask))
                values[f"{name}_{region}"] = torch.where(mask.any(), painted, math.nan)
            masked = measure(prediction, truth, torch.stack(list(regions(hole).values())))
            values |= {f"{name}_masked_{region}": masked[i] for i, region in enumerate(regions(hole))}
        numbers = torch.stack([value.double().squeeze() for value in values.values()]).tolist()
        return dict(zip(values, numbers, strict=True))

    def _rows(self) -> list[Row]:
        data = bytes(dim_zero_cat(self.records).tolist()) if len(self.records) else b""
        rows = sorted((json.loads(line) for line in data.splitlines()), key=lambda row: row["key"])
        if not rows:
            raise UserError("No video was evaluated: the data set has no clip for this split")
        for row, following in pairwise(rows):
            if row["key"] == following["key"]:
                raise UserError(f"Clip {row['key']!r} was evaluated twice: list its shard only once")
        return rows


def _in_pairs(values: Sequence[float]) -> float:
    """Mean over pairs of videos of the PSNR of both together; the last of an odd number stands alone."""
    errors = [10 ** (-value / 10) for value in values]
    means = [fmean(errors[at : at + 2]) for at in range(0, len(errors), 2)]
    return fmean(-10 * math.log10(mean) if mean else math.inf for mean in means) if means else math.nan


def _encode(row: Row) -> Tensor:
    """(bytes,) uint8; JSON keeps every digit of a double, NaN and inf included."""
    return torch.tensor(list(f"{json.dumps(row)}\n".encode()), dtype=torch.uint8)


def _gather_bytes(records: Tensor, group: Any = None) -> list[Tensor]:
    """torchmetrics' gather, for which a process without a video holds an empty *float* tensor."""
    return gather_all_tensors(records.to(torch.uint8), group)


def _check(prediction: Tensor, truth: Tensor, hole: Tensor, keys: Sequence[str], left: Tensor | None) -> None:
    B, T, _, H, W = prediction.shape
    if truth.shape != prediction.shape or hole.shape != (B, T, 1, H, W) or hole.dtype != torch.bool:
        raise ValueError(
            f"prediction {tuple(prediction.shape)}, truth {tuple(truth.shape)} and hole {tuple(hole.shape)} "
            f"{hole.dtype} don't fit: want equal videos and a bool (B, T, 1, H, W)"
        )
    if left is not None and left.shape != prediction.shape:
        raise ValueError(
            f"left {tuple(left.shape)} must have the prediction's shape {tuple(prediction.shape)}"
        )
    if len(keys) != B:
        raise ValueError(f"{len(keys)} keys for {B} videos")
    for name, video in (("prediction", prediction), ("truth", truth), ("left", left)):
        if video is None:
            continue
        if not video.is_floating_point() or ((video < 0) | (video > 1)).any():
            raise ValueError(f"{name} must be float in [0, 1]")
