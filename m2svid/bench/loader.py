"""Speed of the training loader, against decord alone on the same frames."""

from __future__ import annotations

import ctypes
import io
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from importlib import import_module
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch

from m2svid.batch import StereoBatch
from m2svid.data import samples as making
from m2svid.data.buckets import PAPER_BUCKETS, Bucket, BucketSchedule
from m2svid.data.clips import ClipReader, RawClip
from m2svid.data.randomness import Purpose, generator
from m2svid.data.shards import Clip, ClipInfo, ShardWriter
from m2svid.data.sources import read_shard
from m2svid.data.stream import DatasetSpec, TrainingStream
from m2svid.data.transforms import Augmentation
from m2svid.errors import UserError
from m2svid.synthetic.world import ProceduralWorld
from m2svid.training.datamodule import TrainingLoader
from m2svid.warping import view as warping

# One process of the published loader, mixed buckets, four videos a sample through ffmpeg, 2 CPU cores.
PUBLISHED_SECONDS = 0.96
_SEED = 0
_STAGES = {
    "read_shard": [(tarfile.TarFile, "next"), (tarfile.ExFileObject, "read")],
    "decode_disparity": [(ClipReader, "disparity")],
    "warp": [(warping, "warp")],
    "close_and_blacken": [(warping, "close_hole"), (warping, "blacken")],
    "resize": [(making, "_resize"), (making, "resize_hole")],
    "collate": [(making.Samples, "collate")],
}


def run(
    clips: int = 4, samples: int = 60, workers: int = 2, size: int = 512, folder: str | None = None
) -> dict[str, float | int | str]:
    """Load samples of the paper's three buckets in turn from shards of procedural clips of 150 frames.

    Args:
        clips: how many are written.
        samples: timed in every measurement.
        workers: loader processes of the second measurement.
        size: height and width of the clips, pixels.
        folder: where the shards are written and kept; a temporary one otherwise.

    Returns:
        Seconds a sample of one process, of decord alone for the same frames of both views (the reference;
        decord with its default settings), their ratio and the ratio to the published loader; samples a second
        of one process, of one worker and of several, also where they leave the warp to the training device;
        and what share of one process's CPU time each stage takes.

    Raises:
        UserError: decord is missing.
    """
    if folder is not None:
        return _measure(write_shards(Path(folder), clips, size), samples, workers)
    with tempfile.TemporaryDirectory() as temporary:
        return _measure(write_shards(Path(temporary), clips, size), samples, workers)


def _measure(urls: list[str], samples: int, workers: int) -> dict[str, float | int | str]:
    loader, reference = _single_process(urls, samples)
    result: dict[str, float | int | str] = {
        "samples": samples,
        "torch_threads": torch.get_num_threads(),
        "loader_s_per_sample": sum(loader) / samples,
        "decord_alone_s_per_sample": sum(reference) / samples,
        "ratio_to_decord_alone": sum(loader) / sum(reference),
        "published_s_per_sample": PUBLISHED_SECONDS,
        "times_faster_than_published": PUBLISHED_SECONDS * samples / sum(loader),
        "samples_per_s": samples / sum(loader),
    }
    for number in sorted({1, workers}):
        name = f"samples_per_s_with_{number}_workers"
        result[name] = speed_in_parallel(urls, samples, number)
        result[f"{name}_unwarped"] = speed_in_parallel(urls, samples, number, warp=False)
    for number, bucket in enumerate(PAPER_BUCKETS):
        times = loader[number :: len(PAPER_BUCKETS)]
        result[f"s_{bucket.frames}x{bucket.height}x{bucket.width}"] = sum(times) / len(times)
    return result | _shares(urls, samples)


def write_shards(folder: Path, clips: int, size: int) -> list[str]:
    with ShardWriter(folder, "bench", max_clips=1) as writer:
        for seed in range(clips):
            world = ProceduralWorld(seed=seed, height=size, width=size, num_frames=15).render()
            frames = torch.tensor([*range(15), *reversed(range(15))] * 5)  # there and back
            views = (view[frames] for view in (world.left, world.right))
            writer.write(Clip(f"{seed:03d}", *views, Fraction(30), world.disparity[frames]))
    return [str(path) for path in writer.paths]


class _InTurn(BucketSchedule):
    """The paper's buckets one after the other, so that every measurement has equally many of each."""

    def __getitem__(self, batch: int) -> Bucket:
        return self.buckets[batch % len(self.buckets)]


def _loader(urls: list[str], workers: int = 0, warp: bool = True) -> TrainingLoader:
    datasets, schedule = [DatasetSpec("bench", urls)], _InTurn(PAPER_BUCKETS, _SEED)
    endless = TrainingStream(datasets, schedule, Augmentation(), _SEED, shuffle_buffer=2, warp=warp)
    return TrainingLoader(endless, batches_trained=lambda: 0, num_workers=workers)


def _single_process(urls: list[str], samples: int) -> tuple[list[float], list[float]]:
    """Seconds of every sample, of the loader and of decord alone, in turns: a slow spell hits both alike."""
    decord = _decord()
    clips = {f"bench/{clip.key}": clip for url in urls for clip in read_shard(url)}
    batches = iter(_loader(urls))
    _warm_up(_loader(urls))
    loader, reference = [], []
    for _ in range(samples):
        start = time.perf_counter()
        batch = next(batches)
        loader.append(time.perf_counter() - start)
        reference.append(_decord_seconds(decord, clips[batch.keys[0]], batch))
    return loader, reference


def _decord() -> ModuleType:
    try:
        # Its symbols would spoil OpenCV's PNG decoding (see `m2svid.data.codec`); it keeps them to itself.
        with mock.patch.object(ctypes, "RTLD_GLOBAL", ctypes.RTLD_LOCAL):
            return import_module("decord")
    except ModuleNotFoundError as error:
        raise UserError("the reference is another package: pip install 'm2svid[bench]'") from error


def _decord_seconds(decord: ModuleType, clip: RawClip, batch: StereoBatch) -> float:
    random = generator(Purpose.SAMPLE, _SEED, 0, 0, batch.index)
    random.choice(1, p=[1.0])  # the dataset
    info = ClipInfo.from_json(clip.members["json"])
    indices, fps = Augmentation().draw_frames(info, batch.num_frames, random)
    assert batch.fps[0] == torch.tensor(float(fps))  # these are the frames of the batch
    start = time.perf_counter()
    for name in ("left.mp4", "right.mp4"):
        decord.VideoReader(io.BytesIO(clip.members[name])).get_batch(indices)
    return time.perf_counter() - start


def speed_in_parallel(urls: list[str], samples: int, workers: int, warp: bool = True) -> float:
    """Samples a second, once all workers are at work."""
    batches = iter(_loader(urls, workers, warp))
    _take(batches, 2 * workers)
    start = time.perf_counter()
    _take(batches, samples)
    return samples / (time.perf_counter() - start)


def _warm_up(loader: TrainingLoader) -> None:
    _take(iter(loader), len(PAPER_BUCKETS))


def _take(batches: Iterator[StereoBatch], number: int) -> None:
    for _ in islice(batches, number):
        pass


def _shares(urls: list[str], samples: int) -> dict[str, float]:
    """Which share of one process's CPU time the stages take; decoding of views is in what is left."""
    batches = iter(_loader(urls))
    next(batches)
    seconds = dict.fromkeys(_STAGES, 0.0)

    def timed(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            start = time.thread_time()
            try:
                return function(*args, **options)
            finally:
                seconds[stage] += time.thread_time() - start

        return call

    with ExitStack() as patches:
        for stage, places in _STAGES.items():
            for owner, name in places:
                patches.enter_context(mock.patch.object(owner, name, timed(stage, getattr(owner, name))))
        start = time.process_time()
        _take(batches, samples)
        total = time.process_time() - start
    shares = {stage: spent / total for stage, spent in seconds.items()}
    shares["decode_views_and_other"] = 1 - sum(shares.values())
    return {f"share_{stage}": round(share, 3) for stage, share in shares.items()}
