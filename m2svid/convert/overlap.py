"""Work that overlaps: what comes next is made in threads while what is there is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
U = TypeVar("U")

_END: Any = object()


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The items; the next one is made in a thread while the one before is used.

    What making it raises is raised where the item is asked for. An iterator that is closed, or ended by an
    exception, waits for the item that is being made, and leaves no thread behind.
    """
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, _END)
        while (item := coming.result()) is not _END:
            coming = pool.submit(next, items, _END)
            yield item


def side_by_side(work: Callable[[T], U], items: Iterable[T], threads: int) -> Iterator[U]:
    """What is made of the items, in their order, by so many threads, which are at most that many ahead."""
    coming: deque[Future[U]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                coming.append(pool.submit(work, item))
                if len(coming) > threads:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for future in coming:
                future.cancel()
