"""Planning: which videos a split has, and how much work they are."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from typing import Any

from data_prep.dataset import Dataset, Facts, Source, fingerprint
from data_prep.shard_task import ShardTask, survey_hash
from data_prep.store import Store
from m2svid.errors import UserError

log = logging.getLogger(__name__)

_BYTES_PER_PIXEL = 0.8  # of a shard: both views and the disparity of a pixel


def selected(dataset: Dataset) -> list[Source]:
    """The videos of the dataset's split.

    Raises:
        UserError: two have one name, the list of those held out is unreadable, or nothing is left.
    """
    sources = dataset.sources()
    twice = [name for name, times in Counter(source.name for source in sources).items() if times > 1]
    if twice:
        paths = " and ".join(str(source.path) for source in sources if source.name == twice[0])
        raise UserError(f"{paths} would both be named {twice[0]}; rename one, or prepare them in two folders")
    if dataset.hold_out is None:
        return sources
    held = held_out(dataset)
    taken = [source for source in sources if belongs(dataset, source.video or source.name, held)]
    log.info("%s: %d of %d videos are for %s", dataset.hold_out, len(taken), len(sources), dataset.split)
    if not taken:
        raise UserError(f"--hold_out {dataset.hold_out} leaves no video for the split {dataset.split}")
    return taken


def held_out(dataset: Dataset) -> frozenset[str]:
    """The videos named in the list of `--hold_out`.

    Raises:
        UserError: it can't be read, or names nothing.
    """
    try:
        text = dataset.hold_out.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--hold_out {dataset.hold_out} can't be read: {error}") from error
    try:
        entries = list(_strings(json.loads(text)))
    except ValueError:
        entries = text.split()
    if not entries:
        raise UserError(f"--hold_out {dataset.hold_out} names no video")
    return frozenset(dataset.video_of(entry) for entry in entries)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def belongs(dataset: Dataset, video: str, held: frozenset[str]) -> bool:
    return (video in held) != (dataset.split == "train")


def shard_tasks(dataset: Dataset, source: Source, survey: Facts) -> list[ShardTask]:
    """The shards of a surveyed video; none if nothing of it can be cut."""
    specs = dataset.plan(source, survey)
    settings = dataset.settings()
    tasks = []
    for part, first in enumerate(range(0, len(specs), dataset.clips_per_shard)):
        chosen = [astuple(spec) for spec in specs[first : first + dataset.clips_per_shard]]
        digest = fingerprint(settings, source.name, survey, part, chosen)
        tasks.append(ShardTask(source, survey, part, dataset.split, digest))
    return tasks


def known_surveys(dataset: Dataset, sources: Sequence[Source], store: Store) -> dict[str, Facts]:
    names = set(store.names(".json", "surveys"))
    read = store.read_json(name for source in sources if (name := f"surveys/{source.name}.json") in names)
    hashes = {source.name: survey_hash(dataset, source) for source in sources}
    return {found["source"]: found for found in read.values() if found["hash"] == hashes[found["source"]]}


def estimate(dataset: Dataset, sources: Sequence[Source], store: Store) -> Facts:
    """Totals of the plan; videos that are not surveyed yet count by their announced length."""
    known = known_surveys(dataset, sources, store)
    shards = clips = 0
    seconds = size = 0.0
    for source in sources:
        found = known.get(source.name, {"survey": {}})
        specs = [] if "rejected" in found else dataset.plan(source, found["survey"])
        length = float(sum(spec.end - spec.begin for spec in specs))
        shards += -(-len(specs) // dataset.clips_per_shard)
        clips += len(specs)
        seconds += length
        size += length * source.fps * math.prod(dataset.size or source.view) * _BYTES_PER_PIXEL
    totals = {"videos": len(sources), "shards": shards, "clips": clips, "hours": round(seconds / 3600, 3)}
    return totals | {"gigabytes_about": round(size / 1e9, 3)}
