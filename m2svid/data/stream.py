"""Repeatable training batches without end, and evaluation batches that hold every clip once.

Everything random follows from (seed, rank, worker) and a running number, so training can be taken up at any
batch: what came before is replayed with numbers only, no clip is read or decoded for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, islice

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from m2svid.batch import StereoBatch
from m2svid.data.buckets import Bucket, BucketSchedule
from m2svid.data.clips import BrokenClipError, ClipReader, RawClip
from m2svid.data.randomness import Purpose, generator
from m2svid.data.samples import Sample, Samples
from m2svid.data.shuffle import ShuffledClips
from m2svid.data.sources import Consumer, expand_shards, partition, read_shard
from m2svid.data.transforms import Augmentation, EvalClip
from m2svid.errors import UserError

log = logging.getLogger(__name__)

_MOST_BROKEN = 100  # broken clips in a row after which something else is wrong


@dataclass(frozen=True)
class DatasetSpec:
    """A dataset: its name and where its shards are.

    Attributes:
        name: first part of the keys of its clips, `{name}/{key}`.
        shards: path, glob, braces, s3://, gs://, http(s):// or pipe: URL, or a list of these.
        weight: how often a training sample is drawn from this dataset, relative to the others.
    """

    name: str
    shards: str | list[str]
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.weight <= 0:
            raise UserError(f"dataset {self.name}: weight must be positive, got {self.weight}")

    def expanded(self) -> DatasetSpec:
        """The same with the list of its shards instead of patterns."""
        return replace(self, shards=expand_shards(self.shards))


def _consumer(rank: int, ranks: int, first: int = 0) -> Consumer:
    """This process's worker; worker 0 of the loader continues as the one whose turn batch `first` is."""
    info = get_worker_info()
    worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
    return Consumer(rank, ranks, (first + worker) % workers, workers)


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Keep small operations off the cores that decode: waiting for one another costs more than it saves."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class TrainingStream(IterableDataset[StereoBatch | Samples]):
    """Batches of one bucket each, without end. Worker w makes the batches w, w + workers, w + 2·workers...

    Args:
        datasets: expanded.
        schedule: the bucket of every batch.
        augmentation: what is random about a sample.
        seed: of the run.
        rank: of this process.
        ranks: how many there are.
        shuffle_buffer: clips a worker holds of every dataset to draw from.
        skip_broken: put another clip in the place of a broken one, and count it, instead of raising.
        warp: False gives `Samples` that are not yet warped, and become the same batches by `collate`.

    Attributes:
        start: number of the first batch; those before are passed over as if they had been made.
    """

    def __init__(
        self,
        datasets: Sequence[DatasetSpec],
        schedule: BucketSchedule,
        augmentation: Augmentation,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
        shuffle_buffer: int = 16,
        skip_broken: bool = False,
        warp: bool = True,
    ) -> None:
        self.start = 0
        self.datasets, self.schedule, self.seed = tuple(datasets), schedule, seed
        self.rank, self.ranks = rank, ranks
        self.shuffle_buffer, self.skip_broken = shuffle_buffer, skip_broken
        self._augmentation, self._warp = partial(augmentation, warp=warp), warp

    def __iter__(self) -> Iterator[StereoBatch | Samples]:
        consumer = _consumer(self.rank, self.ranks, self.start)
        samples = _Samples(self, self._augmentation, consumer)
        for batch in count(consumer.worker, consumer.workers):
            bucket = self.schedule[batch]
            if batch < self.start:
                samples.skip(bucket.batch_size)
            else:
                with _one_torch_thread():
                    made = [samples.make(bucket) for _ in range(bucket.batch_size)]
                    ready = Samples(made, batch, samples.take_skipped())
                    ready = ready.collate() if self._warp else ready
                yield ready


class _Samples:
    """The training samples of one worker: which clips, how augmented."""

    def __init__(
        self, stream: TrainingStream, augmentation: Callable[..., Sample], consumer: Consumer
    ) -> None:
        self._names = [dataset.name for dataset in stream.datasets]
        options = (consumer, stream.shuffle_buffer, stream.skip_broken)
        self._clips = [
            ShuffledClips(tuple(dataset.shards), (stream.seed, number), *options)
            for number, dataset in enumerate(stream.datasets)
        ]
        weights = np.array([dataset.weight for dataset in stream.datasets])
        self._shares = weights / weights.sum()
        self._key = (stream.seed, consumer.rank, consumer.worker)
        self._augmentation, self._skip_broken = augmentation, stream.skip_broken
        self._number = self._skipped = 0

    def skip(self, samples: int) -> None:
        for _ in range(samples):
            number, _ = self._choose()
            self._clips[number].skip()

    def make(self, bucket: Bucket) -> Sample:
        number, random = self._choose()
        clip = self._clips[number].draw()
        for _ in range(_MOST_BROKEN):
            try:
                return self._decode(clip, self._names[number], bucket, random)
            except BrokenClipError as error:
                if not self._skip_broken:
                    raise
                log.warning("skipped: %s", error)
                self._skipped += 1
                clip = self._clips[number].spare(random)
        raise UserError(f"dataset {self._names[number]}: {_MOST_BROKEN} broken clips in a row, see the log")

    def take_skipped(self) -> int:
        """The number of clips left out since the last call."""
        skipped = self._skipped + sum(clips.skipped for clips in self._clips)
        self._skipped = 0
        for clips in self._clips:
            clips.skipped = 0
        return skipped

    def _choose(self) -> tuple[int, np.random.Generator]:
        random = generator(Purpose.SAMPLE, *self._key, self._number)
        self._number += 1
        return int(random.choice(len(self._clips), p=self._shares)), random

    def _decode(self, clip: RawClip, name: str, bucket: Bucket, random: np.random.Generator) -> Sample:
        with clip.naming_errors():
            sample = self._augmentation(ClipReader(clip), bucket, random)
        return replace(sample, key=f"{name}/{clip.key}")


class EvalStream(IterableDataset[StereoBatch]):
    """Every clip of a dataset once over all ranks and workers, none twice, none as padding.

    Args:
        dataset: expanded.
        clip: what is taken of every clip.
        rank: of this process.
        ranks: how many there are.
        truth: read the right views; without, clips need none.
    """

    def __init__(
        self, dataset: DatasetSpec, clip: EvalClip, rank: int = 0, ranks: int = 1, truth: bool = True
    ) -> None:
        self.dataset = dataset
        self._clip, self._rank, self._ranks, self._truth = clip, rank, ranks, truth

    def __iter__(self) -> Iterator[StereoBatch]:
        samples = self._samples()
        for index in count():
            with _one_torch_thread():
                made = list(islice(samples, self._clip.batch_size))
                if not made:
                    return
                ready = Samples(made, index).collate()
            yield ready

    def _samples(self) -> Iterator[Sample]:
        for url, offset, stride in partition(self.dataset.shards, _consumer(self._rank, self._ranks)):
            for clip in islice(read_shard(url), offset, None, stride):
                with clip.naming_errors():
                    sample = self._clip(ClipReader(clip), self._truth)
                yield replace(sample, key=f"{self.dataset.name}/{clip.key}")
