"""The endless, shuffled stream of one dataset's clips for one worker of one rank."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np

from m2svid.data.clips import BrokenClipError, RawClip
from m2svid.data.randomness import Purpose, generator
from m2svid.data.sources import Consumer, count_clips, partition, read_shard
from m2svid.errors import UserError

log = logging.getLogger(__name__)


@dataclass
class _Entry:
    """A place in a shard, and the clip there once it is read."""

    url: str
    position: int
    clip: RawClip | None = None


class ShuffledClips:
    """Epoch after epoch of a dataset's shards in a new order, and a buffer to draw clips from at random.

    Args:
        urls: the dataset's shards.
        key: what the order depends on: the run's seed and the dataset's number.
        consumer: whose share is read.
        buffer_size: clips in the buffer, undecoded.
        skip_broken: leave out what is unreadable of a shard, and count it, instead of raising.

    Attributes:
        skipped: shards that were not readable to their end.
    """

    def __init__(
        self,
        urls: tuple[str, ...],
        key: tuple[int, int],
        consumer: Consumer,
        buffer_size: int,
        skip_broken: bool = False,
    ) -> None:
        self.skipped = 0
        self._urls, self._key, self._consumer = urls, key, consumer
        self._buffer_size, self._skip_broken = buffer_size, skip_broken
        self._replaying = False
        self._counts: dict[str, int] = {}
        self._random = generator(Purpose.SHUFFLE, *key, consumer.rank, consumer.worker)
        self._entries = self._walk()
        self._buffer: list[_Entry] = []

    def draw(self) -> RawClip:
        """The next clip.

        Raises:
            BrokenClipError: a shard cannot be read.
        """
        self._fill()
        drawn = self._random.integers(self._buffer_size)
        clip = self._clip(self._buffer[drawn])
        self._buffer[drawn] = next(self._entries)
        return clip

    def spare(self, random: np.random.Generator) -> RawClip:
        """A clip in place of a broken one; it stays in the buffer, so the rest of the stream is unchanged."""
        return self._clip(self._buffer[random.integers(len(self._buffer))])

    def skip(self) -> None:
        """Goes on as `draw` does, but reads no clip."""
        self._replaying = True
        self._fill()
        self._buffer[self._random.integers(self._buffer_size)] = next(self._entries)
        self._replaying = False
        self.skipped = 0

    def _fill(self) -> None:
        while len(self._buffer) < self._buffer_size:
            self._buffer.append(next(self._entries))

    def _walk(self) -> Iterator[_Entry]:
        barren = 0
        for epoch in count():
            order = generator(Purpose.SHARDS, *self._key, epoch).permutation(len(self._urls))
            # Whose turn it is in a shared shard changes, so that everybody comes to all clips.
            share = partition([self._urls[i] for i in order], self._consumer.turned(epoch))
            barren += 1
            for url, offset, stride in share:
                for entry in self._walk_shard(url, offset, stride):
                    barren = 0
                    yield entry
            if barren > 2 * self._consumer.consumers:
                raise UserError(f"no clips for training in {', '.join(self._urls)}")

    def _walk_shard(self, url: str, offset: int, stride: int) -> Iterator[_Entry]:
        position = offset
        while self._replaying:
            if position >= self._count(url):
                return
            yield _Entry(url, position)
            position += stride
        for found, clip in enumerate(self._read(url)):
            if found >= position and (found - offset) % stride == 0:
                yield _Entry(url, found, clip)

    def _read(self, url: str) -> Iterator[RawClip]:
        try:
            yield from read_shard(url)
        except BrokenClipError as error:
            if not self._skip_broken:
                raise
            log.warning("skipped the rest: %s", error)
            self.skipped += 1

    def _count(self, url: str) -> int:
        if url not in self._counts:
            try:
                self._counts[url] = count_clips(url)
            except BrokenClipError:
                self._counts[url] = sum(1 for _ in self._read(url))
        return self._counts[url]

    def _clip(self, entry: _Entry) -> RawClip:
        if entry.clip is None:
            self._read_missing(entry.url)
        if entry.clip is None:
            raise BrokenClipError(f"shard {entry.url} has no clip number {entry.position} any more")
        return entry.clip

    def _read_missing(self, url: str) -> None:
        """Read the clips of a shard that a replay passed over and left in the buffer."""
        missing = [entry for entry in self._buffer if entry.url == url and entry.clip is None]
        last = max(entry.position for entry in missing)
        for position, clip in zip(range(last + 1), self._read(url), strict=False):
            for entry in missing:
                if entry.position == position:
                    entry.clip = clip
