"""Worker processes on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from queue import SimpleQueue
from types import TracebackType
from typing import Any

from data_prep.engines.child import Child, Work
from data_prep.shard_task import Watch


class LocalEngine:
    """Does items of work in processes of this machine; to be used in a `with` block, which ends them.

    Args:
        work: what to do with an item.
        workers: processes, started when they are needed; None for one per core. 0 works in this process,
            where nothing survives a crash.
        tries: see `Child`.
    """

    def __init__(self, work: Work, workers: int | None, tries: int) -> None:
        self._work = work
        count = (os.cpu_count() or 1) if workers is None else workers
        self._children = [Child(work, tries) for _ in range(count)]
        self._free: SimpleQueue[Child] = SimpleQueue()
        for child in self._children:
            self._free.put(child)

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            child.close()

    def run(self, items: Sequence[Any]) -> Iterator[Any]:
        """Do all items and yield the reports as they come; an error ends all work at once."""
        if not self._children:
            yield from (self._work(item, Watch()) for item in items)
            return
        pool = ThreadPoolExecutor(len(self._children))
        try:
            for future in as_completed([pool.submit(self._one, item) for item in items]):
                yield future.result()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _one(self, item: Any) -> Any:
        child = self._free.get()
        try:
            return child.run(item)
        finally:
            self._free.put(child)
