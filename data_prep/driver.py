"""The driver that all datasets share; `data_prep.dataset` has the contract.

A run plans the same shards every time. A shard is done when its tar and its report are there and the report
has the hash of its settings and inputs: a killed run is continued by giving the same command again, on any
engine.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import docstring_parser

from data_prep.command import run_command
from data_prep.dataset import Dataset, Facts, Rejected, Source, fingerprint
from data_prep.engines.local import LocalEngine
from data_prep.engines.ray import Stage, ray_cluster, run_ray
from data_prep.engines.slurm import array_share, share_of
from data_prep.plan import belongs, estimate, held_out, known_surveys, selected, shard_tasks
from data_prep.report import rejections, totals
from data_prep.shard_task import NO_TAR, ShardTask, Worker, rejection, shard_report
from data_prep.store import Store
from m2svid.errors import UserError
from m2svid.parser import Parser

log = logging.getLogger(__name__)

Engine = Callable[[Sequence[Any]], Iterator[Facts]]
"""Does items of work anywhere, in any order, and yields the report of each."""


@dataclass(frozen=True)
class Options:
    """Options of all preparations: output, engine and selection.

    Attributes:
        output: folder of the shards: a path, or s3:// or gs://.
        engine: processes of this machine, a Ray cluster, or the jobs of a Slurm array.
        workers: processes of this machine (of each job for slurm), or actors of ray; one per core if not
            given. 0 works in this process, for debugging.
        ray_address: of a running cluster; none starts Ray on this machine.
        gpu_workers: actors of ray that match, each on a GPU, while others rectify on CPUs; they hand over
            views through files in `scratch`. 0 does both in one worker.
        scratch: folder for these files, seen by all machines; needed with gpu_workers.
        tries: so many workers may die of a clip before it is rejected.
        limit: take the first so many videos only; their shards are those of the whole run.
        overwrite: make shards again that were made with other settings, which are refused otherwise.
        dry_run: print the plan (shards, clips, hours, bytes) and stop.
    """

    output: str
    engine: Literal["local", "ray", "slurm"] = "local"
    workers: int | None = None
    ray_address: str | None = None
    gpu_workers: int = 0
    scratch: Path | None = None
    tries: int = 3
    limit: int | None = None
    overwrite: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        for name, least in (("workers", 0), ("gpu_workers", 0), ("tries", 1), ("limit", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"--{name} must be at least {least}, got {value}")
        if self.gpu_workers and (self.engine != "ray" or self.scratch is None):
            raise UserError("--gpu_workers needs --engine ray and a --scratch folder that all machines see")
        if self.engine == "ray" and self.workers == 0:
            raise UserError(
                "--workers 0 works in this process, which --engine ray can't; leave one of them out"
            )


def prepare(dataset: Dataset, options: Options) -> Facts:
    """Make all shards that are not there yet.

    Args:
        dataset: what to make.
        options: where and how.

    Returns:
        Totals: videos, shards, clips, hours, bytes, rejected clips by step, videos without a clip; for a dry
        run those of the plan.

    Raises:
        UserError: a wrong call, another run in the folder, other settings than before, or a full disk.
    """
    sources, part = selected(dataset)[: options.limit], ""
    if options.engine == "slurm":
        index, count = array_share()
        sources, part = share_of(sources, index, count), f"{index}of{count}"
    store = Store(options.output)
    if options.dry_run:
        return estimate(dataset, sources, store)
    with store.locked(part), _engine(dataset, options) as engine:
        known = store.read_json(store.names(".json"))
        sizes = store.sizes()
        _check_settings(dataset, known, options)
        tasks, reports = _tasks(dataset, sources, store, engine)
        plan = {"shards": len(tasks) + len(reports), "videos": len(sources)}
        store.write_json(f"plans/{dataset.split}{part and '-'}{part}.json", plan)
        done = {task.name for task in tasks if _is_done(task, known, sizes, options)}
        _drop_outdated(tasks, reports, known, store)
        waiting = [task for task in tasks if task.name not in done]
        reports += [known[f"{name}.json"] for name in done]
        log.info("%d of %d shards are there, %d will be made", len(done), len(tasks), len(waiting))
        for report in engine(waiting):
            reports.append(report)
            log.info("%s: %s", report["shard"], _counts(report))
    return totals(reports)


def _check_settings(dataset: Dataset, known: Mapping[str, Facts], options: Options) -> None:
    """Refuse to mix shards of two kinds of settings, or with videos of the other splits, in one folder."""
    held = held_out(dataset) if dataset.hold_out is not None else None
    for name, report in known.items():
        if report["split"] != dataset.split:
            continue
        if held is not None and not belongs(dataset, report["video"], held):
            raise UserError(
                f"{name} is of the video {report['video']}, which --hold_out {dataset.hold_out} keeps out of "
                f"{dataset.split}; delete it and its tar, or write to another folder"
            )
        old, new = report["settings"], dataset.settings()
        changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        if changed and not options.overwrite:
            changes = "; ".join(f"{key} was {old.get(key)!r}, is {new.get(key)!r}" for key in changed)
            raise UserError(
                f"{options.output}/{name} was made with other settings ({changes}): repeat those to "
                "continue, write to another folder, or give --overwrite to make it again"
            )


def _tasks(
    dataset: Dataset, sources: Sequence[Source], store: Store, engine: Engine
) -> tuple[list[ShardTask], list[Facts]]:
    """The shards to be made, and the reports of videos that give none."""
    surveys = _surveys(dataset, sources, store, engine)
    tasks, reports = [], []
    for source in sources:
        found = surveys[source.name]
        planned = [] if "rejected" in found else shard_tasks(dataset, source, found["survey"])
        tasks += planned
        if not planned:
            nothing = Rejected("plan", "no clips: nothing of this video can be cut")
            line = found.get("rejected") or rejection(source.name, nothing, source.seconds)
            task = ShardTask(source, {}, 0, dataset.split, fingerprint(dataset.settings(), source.name, line))
            reports.append(shard_report(dataset, task, [], [line]) | {"tar": NO_TAR})
            store.write_json(f"{task.name}.json", reports[-1])
            store.remove(f"{task.name}.tar")
    return tasks, reports


def _surveys(dataset: Dataset, sources: Sequence[Source], store: Store, engine: Engine) -> dict[str, Facts]:
    if not dataset.surveyed:
        return {source.name: {"survey": {}} for source in sources}
    known = known_surveys(dataset, sources, store)
    waiting = [source for source in sources if source.name not in known]
    if waiting:
        log.info("%d of %d videos will be surveyed", len(waiting), len(sources))
    for found in engine(waiting):
        known[found["source"]] = found
        if "rejected" in found:
            log.warning("%s is rejected: %s", found["source"], found["rejected"]["reason"])
        else:
            log.info("%s: %s", found["source"], found["survey"])
    return known


def _drop_outdated(
    tasks: Sequence[ShardTask], reports: Sequence[Facts], known: Mapping[str, Facts], store: Store
) -> None:
    """Remove shards of these videos that earlier settings had and these have not."""
    planned = {task.name for task in tasks} | {report["shard"] for report in reports}
    sources = {(task.split, task.source.name) for task in tasks}
    for name, report in known.items():
        if (report["split"], report["source"]) in sources and report["shard"] not in planned:
            store.remove(name)
            store.remove(f"{report['shard']}.tar")


def _is_done(task: ShardTask, known: Mapping[str, Facts], sizes: Mapping[str, int], options: Options) -> bool:
    report = known.get(f"{task.name}.json")
    if report is None:
        return False
    if report["hash"] == task.hash:
        return not report["clips"] or sizes.get(f"{task.name}.tar") == report["tar"]["bytes"]
    if options.overwrite:
        return False
    raise UserError(
        f"{options.output}/{task.name}.json was made from other inputs (annotations, or another survey of "
        f"{task.source.path}); give --overwrite to make it again, or write to another folder"
    )


@contextmanager
def _engine(dataset: Dataset, options: Options) -> Iterator[Engine]:
    worker = Worker(dataset, options.output)
    if options.engine != "ray":
        with LocalEngine(worker, options.workers, options.tries) as engine:
            yield engine.run
        return
    first = Stage(worker, options.workers)
    stages = [first]
    if options.gpu_workers:
        halves = (replace(worker, scratch=options.scratch, half=half) for half in ("views", "match"))
        stages = [Stage(next(halves), options.workers), Stage(next(halves), options.gpu_workers, num_gpus=1)]
    with ray_cluster(options.ray_address):

        def run(items: Sequence[Source] | Sequence[ShardTask]) -> Iterator[Facts]:
            surveys = bool(items) and isinstance(items[0], Source)
            return run_ray([first] if surveys else stages, items, options.tries)

        yield run


def _counts(report: Facts) -> str:
    steps = ", ".join(f"{times} × {name}" for name, times in rejections([report]).most_common())
    return f"{len(report['clips'])} clips" + (
        f", {len(report['rejected'])} rejected ({steps})" if steps else ""
    )


def main(kind: type[Dataset], args: Sequence[str] | None = None) -> int:
    """The command line of a dataset: 0 if every video gave clips, 1 if some gave none, 2 for a wrong call."""
    if kind.__module__ == "__main__":  # workers must be able to import it
        kind = getattr(importlib.import_module(sys.modules["__main__"].__spec__.name), kind.__name__)

    def command() -> int:
        values = _parse(kind, sys.argv[1:] if args is None else args)
        options = Options(**{item.name: values.pop(item.name) for item in fields(Options)})
        result = prepare(kind(**values), options)
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
        return 1 if result.get("videos_without_clips") else 0

    return run_command(kind.__module__.rpartition(".")[2], command)


def _parse(kind: type[Dataset], words: Sequence[str]) -> dict[str, Any]:
    description = sys.modules[kind.__module__].__doc__
    parser = Parser(prog=f"python -m {kind.__module__}", description=description)
    described = {item.arg_name: item.description for item in docstring_parser.parse(kind.__doc__).params}
    name = kind.positional
    (item,) = get_args(get_type_hints(kind)[name])  # list[Path] or list[str]
    parser.add_argument(name, nargs="+", type=item, help=described[name])
    parser.add_class_arguments(kind, skip={name})
    parser.add_class_arguments(Options)
    return vars(parser.parse_args(words))
