"""Overlapping forward reads of a sequence."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Sliding(Generic[T]):
    """Stretches of a sequence that can only be read forwards. Only the last stretch is kept.

    Args:
        open_at: opens the sequence at an index; called again only for jumps.
    """

    def __init__(self, open_at: Callable[[int], Iterator[T]]) -> None:
        self._open_at = open_at
        self._kept: deque[T] = deque()
        self._first = 0
        self._rest: Iterator[T] | None = None

    def get(self, start: int, stop: int) -> list[T]:
        """Items `start` to `stop` (excluded); fewer where the sequence ends before."""
        end = self._first + len(self._kept)
        if self._rest is None or not self._first <= start <= end:
            self._kept.clear()
            self._rest = self._open_at(start)
            self._first = end = start
        while self._first < start:
            self._kept.popleft()
            self._first += 1
        for item in self._rest if end < stop else ():
            self._kept.append(item)
            end += 1
            if end == stop:
                break
        return list(self._kept)[: stop - start]

    def close(self) -> None:
        """Forget what is kept, and close the sequence, which the next `get` opens again."""
        self._kept.clear()
        self._rest = None
