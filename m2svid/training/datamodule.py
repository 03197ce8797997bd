"""Training, validation, test and prediction data for the trainer."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple
from typing import Any, Literal

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from m2svid.batch import StereoBatch
from m2svid.data.buckets import PAPER_BUCKETS, Bucket, BucketSchedule
from m2svid.data.samples import Samples
from m2svid.data.stream import DatasetSpec, EvalStream, TrainingStream
from m2svid.data.transforms import Augmentation, EvalClip
from m2svid.errors import UserError
from m2svid.synthetic.shards import ProceduralShards

log = logging.getLogger(__name__)


class TrainingLoader(DataLoader[StereoBatch]):
    """Begins every pass after the last batch that was trained on, and so resumes where training stopped.

    Args:
        stream: the batches.
        batches_trained: tells how many batches training has used, in this run and those that it continues.
        options: of `torch.utils.data.DataLoader`.
    """

    dataset: TrainingStream

    def __init__(self, stream: TrainingStream, batches_trained: Callable[[], int], **options: Any) -> None:
        super().__init__(stream, batch_size=None, **options)
        self._batches_trained = batches_trained

    def __iter__(self) -> Iterator[StereoBatch]:
        self.dataset.start = self._batches_trained()
        return super().__iter__()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the order of the data depends on; kept in checkpoints."""
        stream = self.dataset
        return {
            "batches": self._batches_trained(),
            "seed": stream.seed,
            "ranks": stream.ranks,
            "num_workers": max(self.num_workers, 1),
            "shuffle_buffer": stream.shuffle_buffer,
            "buckets": [list(astuple(bucket)) for bucket in stream.schedule.buckets],
            "train": [[spec.name, list(spec.shards), spec.weight] for spec in stream.datasets],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Warns where the data cannot continue in the order of the run that wrote the checkpoint."""
        now = self.state_dict()
        changed = [name for name in now if name != "batches" and state.get(name) != now[name]]
        if changed:
            log.warning(
                "the data continues after batch %d, but not in the order of the run that wrote the "
                "checkpoint, since these have changed: %s",
                state["batches"],
                ", ".join(changed),
            )


class StereoDataModule(LightningDataModule):
    """Stereo clips from WebDataset shards.

    Args:
        train: datasets that training samples are drawn from, by weight.
        val: datasets to validate on, each with its own metrics.
        test: datasets to test on.
        predict: datasets to predict; their clips need no right view.
        buckets: sizes of training batches; the paper's are 4×512×512, 16×256×256 and 25×192×192.
        augmentation: what is random about a training sample.
        eval_clip: what is taken of a clip in validation, test and prediction.
        num_workers: loader processes on every rank; 0 loads in the training process.
        prefetch: batches that every worker makes ahead.
        seed: of everything random in the data.
        shuffle_buffer: clips that every worker holds of every training dataset to draw from; a clip of 5 s in
            512×512 takes about 30 MB.
        procedural: shards of the procedural world to make before the run, where they are not there yet.
        warp: where training clips are warped: by the "loader", or on the training "device", which takes work
            off the processor; on a GPU colors may then differ by 1/255.
        on_error: what a broken training clip does: "raise" stops, "skip" takes another clip and counts. In
            validation, test and prediction it always stops.

    Raises:
        UserError: an option that makes no sense, a shard that is not there.
    """

    def __init__(
        self,
        train: list[DatasetSpec] | None = None,
        val: list[DatasetSpec] | None = None,
        test: list[DatasetSpec] | None = None,
        predict: list[DatasetSpec] | None = None,
        buckets: list[Bucket] | None = None,
        augmentation: Augmentation | None = None,
        eval_clip: EvalClip | None = None,
        num_workers: int = 4,
        prefetch: int = 2,
        seed: int = 0,
        shuffle_buffer: int = 16,
        procedural: ProceduralShards | None = None,
        warp: Literal["loader", "device"] = "loader",
        on_error: Literal["raise", "skip"] = "raise",
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("num_workers", num_workers, 0),
            ("prefetch", prefetch, 1),
            ("seed", seed, 0),
            ("shuffle_buffer", shuffle_buffer, 1),
        ):
            if value < least:
                raise UserError(f"data option {name} must be at least {least}, got {value}")
        for name, value, choices in (
            ("warp", warp, ("loader", "device")),
            ("on_error", on_error, ("raise", "skip")),
        ):
            if value not in choices:
                raise UserError(f'data option {name} must be "{choices[0]}" or "{choices[1]}", got {value!r}')
        self.procedural = procedural
        self.datasets = {"train": train, "val": val, "test": test, "predict": predict}
        for name, specs in self.datasets.items():
            _check_names(name, specs or ())
        self.schedule = BucketSchedule(PAPER_BUCKETS if buckets is None else buckets, seed)
        self.augmentation, self.eval_clip = augmentation or Augmentation(), eval_clip or EvalClip()
        self.seed, self.shuffle_buffer, self.on_error = seed, shuffle_buffer, on_error
        self.warp = warp
        self._loading = {
            "num_workers": num_workers,
            "prefetch_factor": prefetch if num_workers else None,
            "worker_init_fn": _heed_the_trainer_only,
        }

    def prepare_data(self) -> None:
        if self.procedural is not None:
            self.procedural.make()

    def train_dataloader(self) -> TrainingLoader:
        rank, ranks = self._place()
        stream = TrainingStream(
            self._expanded("train"),
            self.schedule,
            self.augmentation,
            self.seed,
            rank,
            ranks,
            self.shuffle_buffer,
            self.on_error == "skip",
            self.warp == "loader",
        )
        return TrainingLoader(stream, self._batches_trained, **self._options())

    def val_dataloader(self) -> list[DataLoader[StereoBatch]]:
        return self._eval_loaders("val")

    def test_dataloader(self) -> list[DataLoader[StereoBatch]]:
        return self._eval_loaders("test")

    def predict_dataloader(self) -> list[DataLoader[StereoBatch]]:
        return self._eval_loaders("predict")

    def transfer_batch_to_device(
        self, batch: StereoBatch | Samples, device: torch.device, dataloader_idx: int
    ) -> StereoBatch | Samples:
        """Copy while a GPU still works on the batch before; only CUDA's do this safely."""
        return batch.to(device, non_blocking=device.type == "cuda")

    def on_after_batch_transfer(self, batch: StereoBatch | Samples, dataloader_idx: int) -> StereoBatch:
        """Pixels travel to the device as bytes and become [0, 1] there, warped there with `warp: device`."""
        return (batch.collate() if isinstance(batch, Samples) else batch).as_float()

    def _eval_loaders(self, stage: str) -> list[DataLoader[StereoBatch]]:
        """One loader a dataset, in the order of the option."""
        truth = stage != "predict"
        streams = [EvalStream(spec, self.eval_clip, *self._place(), truth) for spec in self._expanded(stage)]
        return [DataLoader(stream, batch_size=None, **self._options()) for stream in streams]

    def _expanded(self, stage: str) -> list[DatasetSpec]:
        specs = self.datasets[stage]
        if not specs:
            raise UserError(f"data option {stage} names no dataset; give it a list of name and shards")
        return [spec.expanded() for spec in specs]

    def _options(self) -> dict[str, Any]:
        """Of a loader; memory is pinned for a GPU alone."""
        pinned = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return {**self._loading, "pin_memory": pinned}

    def _place(self) -> tuple[int, int]:
        """(rank, ranks) of this process."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _batches_trained(self) -> int:
        # Counted when a training step is done: neither prefetched batches nor one that failed are in it.
        return 0 if self.trainer is None else self.trainer.fit_loop.epoch_loop.batch_progress.total.processed


def _heed_the_trainer_only(worker: int) -> None:
    """Keep a loader process at work while its trainer, which gets the same signal, ends the step and saves.

    Ctrl-C and Slurm send signals to every process of a run. The trainer itself ends its loaders by SIGTERM.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2})

    def wait() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
            pass
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def _check_names(option: str, specs: Sequence[DatasetSpec]) -> None:
    names = [spec.name for spec in specs]
    if len(set(names)) < len(names):
        raise UserError(f"data option {option} names a dataset twice: {', '.join(names)}")
