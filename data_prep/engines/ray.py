"""Ray Data: the work spread over a cluster. Ray moves tasks and reports, never frames."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from data_prep.engines.child import Child, Work
from m2svid.errors import UserError


@dataclass(frozen=True)
class Stage:
    """One pool of actors.

    Attributes:
        work: what they do with an item.
        actors: how many; None for as many as the cluster has room for.
        num_cpus: of each.
        num_gpus: of each.
    """

    work: Work
    actors: int | None = None
    num_cpus: float = 1
    num_gpus: float = 0


class _Actor:
    """Run its work in a child process, so that what kills it is noticed here, as by the other engines."""

    def __init__(self, work: Work, tries: int, last: bool) -> None:
        self._child, self._last = Child(work, tries), last

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        report = self._child.run(pickle.loads(row["item"]))
        return {"report": json.dumps(report)} if self._last else row


@contextmanager
def ray_cluster(address: str | None) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine for the time of the block.

    Raises:
        UserError: Ray is not installed, or the cluster not reachable.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise UserError("--engine ray needs another package: pip install 'm2svid[ray]'") from error
    try:
        ray.init(address=address or "local", include_dashboard=False if address is None else None)
    except (ConnectionError, ValueError) as error:
        raise UserError(f"--ray_address {address}: no Ray cluster answers there ({error})") from error
    try:
        yield
    finally:
        ray.shutdown()


def run_ray(stages: Sequence[Stage], items: Sequence[Any], tries: int) -> Iterator[Any]:
    """Do all items, stage after stage, and yield the last stage's reports as they come.

    Args:
        stages: pools of actors; an item goes through all of them.
        items: pickled on their way; they must be small.
        tries: finite retries of actors and tasks, besides those of `Child`.

    Raises:
        UserError: the work was refused, as on a full disk.
    """
    import ray

    if not items:
        return
    context = ray.data.DataContext.get_current()
    context.execution_no_progress_timeout_s = -1  # one long video is no standstill
    context.enable_progress_bars = False
    pickled = [{"item": pickle.dumps(item)} for item in items]
    dataset = ray.data.from_items(pickled, override_num_blocks=len(pickled))
    room = int(ray.cluster_resources().get("CPU", 1))
    for stage in stages:
        dataset = dataset.map(
            _Actor,
            fn_constructor_args=(stage.work, tries, stage is stages[-1]),
            compute=ray.data.ActorPoolStrategy(
                min_size=1, max_size=stage.actors or room, max_tasks_in_flight_per_actor=1
            ),
            num_cpus=stage.num_cpus,
            num_gpus=stage.num_gpus,
            max_restarts=tries,  # Ray's default is to try for ever
            max_task_retries=tries,
        )
    try:
        for row in dataset.iter_rows():
            yield json.loads(row["report"])
    except ray.exceptions.RayError as error:
        refused = _cause(error, UserError)
        if refused is None:
            raise
        raise UserError(str(refused)) from error


def _cause(error: BaseException | None, kind: type[BaseException]) -> BaseException | None:
    while error is not None and not isinstance(error, kind):
        error = getattr(error, "cause", None) or error.__cause__
    return error
