"""Training steps of the paper's recipe, and whether the loader keeps up with them."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import torch
from lightning import Callback, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader
from torchvision.models import vgg16

from m2svid.attention import AttentionStrategy
from m2svid.batch import StereoBatch
from m2svid.bench.clock import Moment
from m2svid.bench.gpu.counting import Counter
from m2svid.bench.gpu.setting import GB, Setting
from m2svid.bench.loader import speed_in_parallel, write_shards
from m2svid.bench.networks import fill, make_clip
from m2svid.data.buckets import Bucket
from m2svid.metrics import perceptual
from m2svid.model.conditioning import Conditioning
from m2svid.model.m2svid import M2SVid
from m2svid.recipes import EndToEnd
from m2svid.training.backbone import Backbone
from m2svid.training.module import M2SVidModule


def train(setting: Setting, bucket: Bucket) -> dict[str, Any]:
    """Measure steps of `fit` with batches of a bucket: Eq. 5, AdamW, gradient checkpointing.

    A GPU calculates in bf16-mixed, a CPU in float32.

    Returns:
        Seconds of a step (median, least, most), frames a second, peak memory, operations of forward and
        backward pass together, and the shares of the card's limits.
    """
    gpu, steps = setting.device.type == "cuda", _Steps(setting)
    number = 2 * setting.repeats
    with _quietly():
        with mock.patch.object(perceptual, "load_features", lambda *_: _random_vgg16(setting)):
            module = M2SVidModule(_Made(setting), EndToEnd(), metrics=["psnr"])
        trainer = Trainer(
            accelerator="gpu" if gpu else "cpu",
            devices=[setting.device.index or 0] if gpu else 1,
            precision="bf16-mixed" if gpu else "32-true",
            gradient_clip_val=1.0,
            max_steps=number,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[steps],
        )
        trainer.fit(module, DataLoader([_batch(bucket)] * number, batch_size=None))
    seconds, numbers = median(steps.seconds), "bfloat16" if gpu else "float32"
    return {
        "seconds": seconds,
        "least": min(steps.seconds),
        "most": max(steps.seconds),
        "frames_per_s": bucket.frames * bucket.batch_size / seconds,
        "peak_gb": steps.peak / GB,
        "reserved_gb": setting.clock.reserved() / GB,
        "tflop": steps.counter.tflop,
        **setting.shares(seconds, steps.counter.tflop, steps.counter.gb, numbers),
    }


def _random_vgg16(setting: Setting) -> nn.Module:
    with torch.device("meta"):
        features = vgg16(weights=None).features[:30]
    fill(features, str(setting.device), torch.float32)
    return features


@contextmanager
def _quietly() -> Iterator[None]:
    """Leave out what Lightning says of every run."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


class _Made(Backbone):
    """The random model of a setting."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting

    def build(
        self, conditioning: Conditioning | None = None, attention: AttentionStrategy | None = None
    ) -> M2SVid:
        return self._setting.model("float32", training=True)


class _Steps(Callback):
    """Count the first step, and time the second half of them."""

    def __init__(self, setting: Setting) -> None:
        self.counter = Counter()
        self.peak = 0
        self._clock = setting.clock
        self._first = setting.repeats
        self._spans: list[tuple[Moment, Moment]] = []

    @property
    def seconds(self) -> list[float]:
        return [self._clock.seconds(*span) for span in self._spans[self._first :]]

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: StereoBatch, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            self.counter.__enter__()
        if batch_idx == self._first:
            self._clock.restart_peak()
        self._begin = self._clock.now()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: StereoBatch, batch_idx: int
    ) -> None:
        self._spans.append((self._begin, self._clock.now()))
        self.peak = self._clock.peak()
        if batch_idx == 0:
            self.counter.__exit__(None, None, None)


def _batch(bucket: Bucket) -> StereoBatch:
    clip = make_clip(bucket.frames, bucket.height, bucket.width)
    parts = (
        part.repeat_interleave(bucket.batch_size, 0) for part in (clip.left, clip.warped, clip.hole, clip.fps)
    )
    left, warped, hole, fps = parts
    return StereoBatch(left, warped, hole, fps, right=left.roll(4, -1), keys=("made",) * bucket.batch_size)


def load(setting: Setting) -> dict[str, Any]:
    """Samples a second of the training loader with a worker for each core, 16 at most."""
    workers = min(16, os.cpu_count() or 1)
    samples = 6 if setting.small else 12 * workers
    with tempfile.TemporaryDirectory() as folder:
        urls = write_shards(Path(folder), clips=2, size=128 if setting.small else 512)
        speed = speed_in_parallel(urls, samples, workers)
    return {"seconds": 1 / speed, "samples_per_s": speed, "workers": workers}
