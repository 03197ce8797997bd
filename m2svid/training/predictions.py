"""Predicted right views, written as videos."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor

from m2svid.batch import StereoBatch
from m2svid.data.codec import encode_video
from m2svid.files import whole


class PredictionWriter(BasePredictionWriter):
    """Write each clip as `{folder}/{dataset}/{key}.right.mp4`, and beside the left view as `.sbs.mp4`.

    Args:
        folder: where the videos go; None = `predictions` in the run's folder.
        crf: H.264 quality, 0 (lossless) to 51.
    """

    def __init__(self, folder: str | None = None, crf: int = 12) -> None:
        super().__init__("batch")
        self.folder = folder
        self.crf = crf

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Tensor,
        batch_indices: Any,
        batch: StereoBatch,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write a batch: `prediction` and the batch's left view (B, T, 3, H, W) in [0, 1]."""
        both = torch.cat([batch.left.float(), prediction.float()], dim=-1)
        pictures = both.clamp(0, 1).mul(255).round().byte().cpu()
        width = pictures.shape[-1] // 2
        for video, key, fps in zip(pictures, batch.keys, batch.fps.tolist(), strict=True):
            rate = Fraction(fps).limit_denominator(1001)
            for name, frames in (("right", video[..., width:]), ("sbs", video)):
                with whole(Path(self.folder) / f"{key}.{name}.mp4") as temporary:
                    temporary.write_bytes(encode_video(frames, rate, self.crf))
