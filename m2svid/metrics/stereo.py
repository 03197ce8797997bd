"""Quality of generated right views: one value a video, then the mean over videos (paper §5, Appendix).

Shapes: B videos, T frames, H W pixels.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import torch
from torch import Tensor, distributed
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat
from torchmetrics.utilities.distributed import gather_all_tensors

from m2svid.errors import UserError
from m2svid.files import whole
from m2svid.metrics.functional import lpips, ms_ssim, psnr
from m2svid.metrics.perceptual import Perceptual
from m2svid.metrics.regions import paint_white, regions

MetricName = Literal["psnr", "ms_ssim", "lpips"]
Row = dict[str, Any]


class StereoMetrics(Metric):
    """PSNR, MS-SSIM and LPIPS of every video: over the full view, inside and outside the holes.

    For each metric, say `psnr`:
        psnr: the full view.
        psnr_inside, psnr_outside: the paper's protocol, the rest painted white in both videos; the painted
            pixels count as perfect.
        psnr_masked_inside, psnr_masked_outside: only the region's pixels count.

    A region without a pixel in a video has no value there: NaN in the video's row, and the video is left out
    of that region's means; `num_videos_inside` and `num_videos_outside` count the videos that are in.
    Nothing else is left out: a NaN in a prediction is a NaN in the mean, and a video that equals the truth
    (PSNR inf) makes the mean inf.

    Every process may see any number of videos, also none; each video must be seen once in all.

    Args:
        metrics: Which of psnr, ms_ssim (frames of at least 161×161) and lpips (needs VGG16's weights).
        perceptual: The network behind lpips, where several metrics share one; None makes one from torch's hub
            cache.

    Raises:
        UserError: An unknown metric, or lpips without VGG16's weights.
    """

    full_state_update = False
    records: list[Tensor] | Tensor

    def __init__(
        self,
        metrics: Sequence[MetricName] = ("psnr", "ms_ssim", "lpips"),
        perceptual: Perceptual | None = None,
    ) -> None:
        super().__init__(dist_sync_fn=_gather_bytes)
        self.measures: dict[str, Callable[..., Tensor]] = {}
        for name in metrics:
            if name == "lpips":
                self.perceptual = perceptual or Perceptual()
                self.measures[name] = partial(lpips, self.perceptual)
            elif name in ("psnr", "ms_ssim"):
                self.measures[name] = {"psnr": psnr, "ms_ssim": ms_ssim}[name]
            else:
                raise UserError(f"metrics: {name!r} is unknown; choose from psnr, ms_ssim, lpips")
        # One JSON line a video, as bytes: what processes can exchange however many videos each of them saw.
        self.add_state("records", [], dist_reduce_fx="cat")

    def update(self, prediction: Tensor, truth: Tensor, hole: Tensor, keys: Sequence[str]) -> None:
        """Evaluates a batch.

        Args:
            prediction, truth: (B, T, 3, H, W) right views in [0, 1].
            hole: (B, T, 1, H, W) bool, True = disoccluded, closed mask.
            keys: one unique name a video.

        Raises:
            UserError: The frames are too small for MS-SSIM.
            ValueError: Shapes, ranges or the number of keys don't fit.
        """
        _check(prediction, truth, hole, keys)
        with torch.autocast(prediction.device.type, enabled=False):
            for index, key in enumerate(keys):
                video = slice(index, index + 1)
                values = self._evaluate(prediction[video].float(), truth[video].float(), hole[video])
                row = {"key": key, **values}
                self.records.append(_encode(row).to(self.device))

    def compute(self) -> dict[str, float]:
        """Mean of every metric over the videos of all processes, and how many videos are behind it."""
        rows = self._rows()
        counted = {
            "inside": [row for row in rows if row["hole_share"] > 0],
            "outside": [row for row in rows if row["hole_share"] < 1],
        }
        means = {}
        for name in list(rows[0])[2:]:  # after key and hole_share
            values = [row[name] for row in counted.get(name.rsplit("_", 1)[-1], rows)]
            means[name] = fmean(values) if values else math.nan
        numbers = {f"num_videos_{region}": float(len(videos)) for region, videos in counted.items()}
        return {**means, "num_videos": float(len(rows)), **numbers}

    def per_video(self) -> list[Row]:
        """A row a video, of all processes, sorted by key: key, hole_share in [0, 1], and every metric.

        Every process must call it.
        """
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            return self._rows()

    def write_csv(self, path: Path) -> None:
        """Writes `per_video` to a CSV file, whole or not at all.

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
        """All values of one video (B = 1)."""
        values = {"hole_share": hole.double().mean()}
        for name, measure in self.measures.items():
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


def _encode(row: Row) -> Tensor:
    """(bytes,) uint8; JSON keeps every digit of a double, NaN and inf included."""
    return torch.tensor(list(f"{json.dumps(row)}\n".encode()), dtype=torch.uint8)


def _gather_bytes(records: Tensor, group: Any = None) -> list[Tensor]:
    """torchmetrics' gather, for which a process without a video holds an empty *float* tensor."""
    return gather_all_tensors(records.to(torch.uint8), group)


def _check(prediction: Tensor, truth: Tensor, hole: Tensor, keys: Sequence[str]) -> None:
    B, T, _, H, W = prediction.shape
    if truth.shape != prediction.shape or hole.shape != (B, T, 1, H, W) or hole.dtype != torch.bool:
        raise ValueError(
            f"prediction {tuple(prediction.shape)}, truth {tuple(truth.shape)} and hole {tuple(hole.shape)} "
            f"{hole.dtype} don't fit: want equal videos and a bool (B, T, 1, H, W)"
        )
    if len(keys) != B:
        raise ValueError(f"{len(keys)} keys for {B} videos")
    for name, video in (("prediction", prediction), ("truth", truth)):
        if not video.is_floating_point() or ((video < 0) | (video > 1)).any():
            raise ValueError(f"{name} must be float in [0, 1]")
