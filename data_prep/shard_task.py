"""The work that is done in workers: surveying one video, and making one shard of it.

Nothing here knows where it runs. Both functions are deterministic and write whole files, so a worker may die
at any moment and another one may do the same again.
"""

from __future__ import annotations

import hashlib
import pickle
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Literal

import av
import cv2
import numpy as np
import torch
from torch import Tensor

from data_prep.dataset import ClipSpec, Dataset, Facts, Rejected, Source, Views, fingerprint
from data_prep.steps.matchers import open_matcher
from data_prep.steps.stereo_matcher import StereoMatcher
from data_prep.steps.views import match_views
from data_prep.store import Store
from m2svid.data.shards import Clip, encode_clip, open_tar
from m2svid.errors import UserError
from m2svid.files import whole

EDGES = (0, 1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 65536)
"""Borders of the disparity histogram's bins, px."""
NO_TAR: Facts = {"bytes": 0, "sha256": None}
# What libraries raise for data that they can't digest; anything else is a fault of ours and stops the run.
_DATA_ERRORS = (UserError, cv2.error, av.FFmpegError, MemoryError, torch.OutOfMemoryError)


Made = tuple[ClipSpec, Views | Clip | Rejected]


@dataclass
class Watch:
    """Tell the engine what is being worked on, so that it can name what has killed a worker.

    Attributes:
        avoid: names of clips or videos that have killed workers, and the reason to reject them for.
        report: gets each name before the work on it begins.
    """

    avoid: Mapping[str, str] = field(default_factory=dict)
    report: Callable[[str], None] = lambda name: None

    def begin(self, name: str) -> None:
        """Call before the work on a clip or a video. Raises Rejected if it has killed workers before."""
        self.report(name)
        if name in self.avoid:
            raise Rejected("worker", self.avoid[name])


@dataclass(frozen=True)
class ShardTask:
    """One shard to be made.

    Attributes:
        source: the video.
        survey: what the survey of it has found.
        part: which of its shards, from 0.
        split: start of its name.
        hash: of everything that decides about its bytes.
    """

    source: Source
    survey: Facts
    part: int
    split: str
    hash: str

    @property
    def name(self) -> str:
        """Of the files, without suffix."""
        return f"{self.split}-{self.source.name}-{self.part:03d}"


@dataclass(frozen=True)
class Worker:
    """Does the work of one dataset; can be pickled.

    Attributes:
        dataset: it.
        output: path or URL of the folder of the shards.
        half: "views" stops before matching and leaves the views in `scratch`, "match" takes them from there.
        scratch: folder for that.
    """

    dataset: Dataset
    output: str
    half: Literal["views", "match"] | None = None
    scratch: Path | None = None

    @cached_property
    def _store(self) -> Store:
        return Store(self.output)

    @cached_property
    def _matcher(self) -> StereoMatcher:
        return open_matcher(self.dataset.matcher, self.dataset.matcher_weights, self.dataset.device)

    def __call__(self, item: Source | ShardTask, watch: Watch) -> Facts:
        """Survey a video or make a shard; returns what was written as JSON."""
        if isinstance(item, Source):
            return self._survey(item, watch)
        folder = self.scratch / item.name if self.scratch is not None else None
        if self.half == "views":
            return save_views(folder, self._views(item, watch))
        if folder is None:
            return self._shard(item, watch, self._views(item, watch))
        report = self._shard(item, watch, load_views(folder, shard_specs(self.dataset, item)))
        shutil.rmtree(folder)
        return report

    def _survey(self, source: Source, watch: Watch) -> Facts:
        found: Facts = {"source": source.name, "hash": survey_hash(self.dataset, source)}
        try:
            watch.begin(source.name)
            found["survey"] = self.dataset.survey(source)
        except (Rejected, *_DATA_ERRORS) as error:
            found["rejected"] = rejection(source.name, error, source.seconds)
        self._store.write_json(f"surveys/{source.name}.json", found)
        return found

    def _shard(self, task: ShardTask, watch: Watch, views: Iterable[Made]) -> Facts:
        store, tar_name = self._store, f"{task.name}.tar"
        rejected: list[Facts] = []
        clips: list[Facts] = []
        encoded = self._encoded(task, watch, views, rejected)
        first = next(encoded, None)
        store.remove(f"{task.name}.json")  # never beside a tar that it doesn't describe
        contents = NO_TAR
        if first is None:
            store.remove(tar_name)
        else:
            with store.writing(tar_name) as path:
                with path.open("wb") as stream, open_tar(stream) as tar:
                    for record, members in chain([first], encoded):
                        tar.write({"__key__": record["key"], **members})
                        clips.append(record)
                contents = {"bytes": path.stat().st_size, "sha256": checksum(path)}
        report = shard_report(self.dataset, task, clips, rejected) | {"tar": contents}
        store.write_json(f"{task.name}.json", report)
        return report

    def _views(self, task: ShardTask, watch: Watch) -> Iterator[Made]:
        """The first half: what the dataset makes of every clip."""
        specs = shard_specs(self.dataset, task)
        with ExitStack() as stack:
            try:
                watch.begin(task.name)
                reader = stack.enter_context(self.dataset.opened(task.source, task.survey, specs))
            except (Rejected, *_DATA_ERRORS) as error:
                yield from ((spec, as_rejected(error)) for spec in specs)
                return
            for spec in specs:
                try:
                    watch.begin(spec.key)
                    yield spec, self.dataset.clip(reader, spec, task.source, task.survey)
                except (Rejected, *_DATA_ERRORS) as error:
                    yield spec, as_rejected(error)

    def _encoded(
        self, task: ShardTask, watch: Watch, views: Iterable[Made], rejected: list[Facts]
    ) -> Iterator[tuple[Facts, dict[str, bytes]]]:
        """The second half: matched, checked and encoded clips."""
        for spec, made in views:
            try:
                if isinstance(made, Rejected):
                    raise made
                watch.begin(spec.key)
                clip = match_views(made, self._matcher) if isinstance(made, Views) else made
                name = self.dataset.dataset or self.dataset.name
                clip = replace(clip, dataset=name, source=task.source.path.name, split=task.split)
                clip.check()
                members = encode_clip(clip, self.dataset.crf)
            except (Rejected, *_DATA_ERRORS) as error:
                rejected.append(rejection(spec.key, error, float(spec.end - spec.begin)))
            else:
                yield _record(clip, sum(map(len, members.values()))), members


def save_views(folder: Path, views: Iterable[Made]) -> Facts:
    """Keep what the first half has made, a file a clip."""
    for index, (_, made) in enumerate(views):
        with whole(folder / f"{index:05d}.pickle") as path, path.open("wb") as stream:
            pickle.dump(made, stream, pickle.HIGHEST_PROTOCOL)
    return {}


def load_views(folder: Path, specs: Sequence[ClipSpec]) -> Iterator[Made]:
    """The views that `save_views` has kept, one at a time."""
    for index, spec in enumerate(specs):
        with (folder / f"{index:05d}.pickle").open("rb") as stream:
            yield spec, pickle.load(stream)


def shard_specs(dataset: Dataset, task: ShardTask) -> list[ClipSpec]:
    """The clips that a shard is made from."""
    first = task.part * dataset.clips_per_shard
    return dataset.plan(task.source, task.survey)[first : first + dataset.clips_per_shard]


def survey_hash(dataset: Dataset, source: Source) -> str:
    """Hash of what a survey depends on."""
    later = {"split", "dataset", "matcher", "matcher_weights", "clips_per_shard", "crf"}
    settings = {name: value for name, value in dataset.settings().items() if name not in later}
    return fingerprint(settings, source.name, source.facts)


def shard_report(
    dataset: Dataset, task: ShardTask, clips: Sequence[Facts], rejected: Sequence[Facts]
) -> Facts:
    """The JSON beside a shard, but for what is known of its file."""
    counts = (
        np.sum([clip.pop("pixels") for clip in clips], axis=0) if clips else np.zeros(len(EDGES) - 1, int)
    )
    return {
        "shard": task.name,
        "source": task.source.name,
        "video": task.source.video or task.source.name,
        "path": str(task.source.path),
        "hash": task.hash,
        "settings": dataset.settings(),
        "split": dataset.split,
        "clips": list(clips),
        "rejected": list(rejected),
        "disparity_edges": list(EDGES),
        "disparity_pixels": [int(count) for count in counts],
    }


def rejection(key: str, error: Exception, seconds: float) -> Facts:
    """A report's line about a clip, or a video, that gives no training data."""
    found = as_rejected(error)
    return {"key": key, "step": found.step, "reason": found.reason, "seconds": round(seconds, 3)}


def as_rejected(error: Exception) -> Rejected:
    """Any of the errors that data can cause, as a rejection."""
    if isinstance(error, Rejected):
        return error
    if isinstance(error, UserError):
        return Rejected("error", f"unusable: {error}")
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return Rejected("error", f"out of memory: {error}".strip(": "))
    return Rejected("error", f"{type(error).__name__}: {' '.join(str(error).split())}")


def _record(clip: Clip, size: int) -> Facts:
    frames, _, height, width = clip.left.shape
    seconds = round(float(frames / clip.fps), 3)
    shape = {"frames": frames, "width": width, "height": height}
    pixels = np.zeros(len(EDGES) - 1, int) if clip.disparity is None else _histogram(clip.disparity)
    return {"key": clip.key, "seconds": seconds, "bytes": size, **shape, "pixels": pixels}


def _histogram(disparity: Tensor) -> np.ndarray:
    return np.histogram(disparity.numpy(), EDGES)[0]


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
