"""Work that overlaps: what comes next is made in threads while what is there is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self, TypeVar

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


class Worker:
    """A thread that makes calls in the order in which they come; used as a context, which waits for them.

    Where one fails, those after it are not made: they fail with the same error.

    Args:
        behind: calls that may wait; giving it more takes until there is room.
    """

    def __init__(self, behind: int) -> None:
        self._behind, self._pool = behind, ThreadPoolExecutor(1)
        self._waiting: deque[Future[Any]] = deque()
        self._last: Future[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def do(self, work: Callable[..., T], *args: Any) -> Future[T]:
        """Let the thread call `work` when it has done what is waiting. Raises what an earlier call raised."""
        while len(self._waiting) > self._behind:
            self._waiting.popleft().result()
        before = self._last

        def call() -> T:
            if before is not None:
                before.result()
            return work(*args)

        self._last = self._pool.submit(call)
        self._waiting.append(self._last)
        return self._last

    def wait(self) -> None:
        """Wait for all calls. Raises what one has raised."""
        while self._waiting:
            self._waiting.popleft().result()
