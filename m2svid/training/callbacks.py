"""What a run shows: speed and memory, pictures, and predictions written to files."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.loggers import TensorBoardLogger

from m2svid.batch import StereoBatch
from m2svid.data.codec import encode_video
from m2svid.files import whole
from m2svid.sheets.draw import error_map, strip
from m2svid.training.module import M2SVidModule
from m2svid.video.anaglyph import anaglyph


class Throughput(Callback):
    """Logs samples/s of this process, the share of time spent waiting for data, and peak memory in GB.

    Memory is the device's on CUDA and the process's resident set on a CPU.

    Args:
        every_n_steps: batches between two log lines; each covers the batches since the last.
    """

    def __init__(self, every_n_steps: int = 10) -> None:
        self.every_n_steps = every_n_steps
        self._clear(time.perf_counter())

    def _clear(self, now: float) -> None:
        self._begin = self._batch_end = now
        self._wait = 0.0
        self._samples = self._batches = self._skipped = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._clear(time.perf_counter())

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: StereoBatch, batch_idx: int
    ) -> None:
        self._wait += time.perf_counter() - self._batch_end

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: StereoBatch, batch_idx: int
    ) -> None:
        self._samples += len(batch.keys)
        self._skipped += batch.skipped
        self._batches += 1
        self._batch_end = now = time.perf_counter()
        if self._batches < self.every_n_steps:
            return
        elapsed = now - self._begin
        values = {
            "speed/samples_per_s": self._samples / elapsed,
            "speed/data_wait_share": self._wait / elapsed,
            "speed/peak_memory_gb": peak_memory_gb(pl_module.device),
            "data/skipped_clips": float(self._skipped),
        }
        pl_module.log_dict(values, batch_size=1)
        self._clear(now)


def peak_memory_gb(device: torch.device) -> float:
    """Peak memory so far in GB: allocated on a CUDA device, resident in this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


class Pictures(Callback):
    """Logs what the model sees and makes of the first clip of a batch.

    A strip left | warped | mask | generated | truth over time, an error map and an anaglyph.

    Args:
        every_n_steps: training steps between two pictures; validation shows its first batch each time.
        frames: rows of the strip, spread evenly over the clip.
    """

    def __init__(self, every_n_steps: int = 500, frames: int = 4) -> None:
        self.every_n_steps = every_n_steps
        self.frames = frames

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: M2SVidModule, outputs: Any, batch: StereoBatch, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every_n_steps == 0:
            self._show(trainer, pl_module, batch, "train")

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: M2SVidModule,
        outputs: Any,
        batch: StereoBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if batch_idx == 0 and not trainer.sanity_checking:
            self._show(trainer, pl_module, batch, f"val/{batch.keys[0].split('/')[0]}")

    def _show(self, trainer: Trainer, pl_module: M2SVidModule, batch: StereoBatch, tag: str) -> None:
        logger = trainer.logger
        if not trainer.is_global_zero or not isinstance(logger, TensorBoardLogger):
            return
        clip = first_clip(batch)
        with trainer.precision_plugin.forward_context():
            generated = pl_module.predict(clip)[0].float().cpu()
        left, warped, hole = clip.left[0].cpu(), clip.warped[0].cpu(), clip.hole[0].cpu()
        truth = None if clip.right is None else clip.right[0].cpu()
        pictures = {
            "strip": strip(left, warped, hole, generated, truth, rows=self.frames),
            "anaglyph": anaglyph(left[0], generated[0]),
        }
        if truth is not None:
            pictures["error"] = error_map(generated[0], truth[0])
        for name, picture in pictures.items():
            logger.experiment.add_image(f"{tag}/{name}", picture, trainer.global_step)


def first_clip(batch: StereoBatch) -> StereoBatch:
    """The batch's first clip as a batch of one."""
    one = slice(0, 1)
    return replace(
        batch,
        left=batch.left[one],
        warped=batch.warped[one],
        hole=batch.hole[one],
        fps=batch.fps[one],
        right=None if batch.right is None else batch.right[one],
        replaced=None if batch.replaced is None else batch.replaced[one],
        keys=batch.keys[one],
    )


class PredictionWriter(BasePredictionWriter):
    """Writes each predicted right view as `{folder}/{dataset}/{key}.right.mp4`.

    Args:
        folder: where the videos go.
        crf: H.264 quality, 0 (lossless) to 51.
    """

    def __init__(self, folder: str, crf: int = 12) -> None:
        super().__init__("batch")
        self.folder = Path(folder)
        self.crf = crf

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: torch.Tensor,
        batch_indices: Any,
        batch: StereoBatch,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        frames = prediction.float().clamp(0, 1).mul(255).round().byte().cpu()
        for video, key, fps in zip(frames, batch.keys, batch.fps.tolist(), strict=True):
            film = encode_video(video, Fraction(fps).limit_denominator(1001), self.crf)
            with whole(self.folder / f"{key}.right.mp4") as temporary:
                temporary.write_bytes(film)
