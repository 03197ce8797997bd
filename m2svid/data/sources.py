"""Sources of clips: patterns to URLs, URLs to clips, and clips shared out among readers."""

from __future__ import annotations

import glob
import os
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

import braceexpand
import fsspec
from webdataset.gopen import gopen, set_options
from webdataset.tariterators import base_plus_ext, group_by_keys, tar_file_expander

from m2svid.data.clips import BrokenClipError, RawClip
from m2svid.errors import UserError

_CLOUD = ("s3://", "gs://")
_COMMANDS = ("pipe:", "http://", "https://")
_BROKEN_PIPE = [0, 141, -13]  # how a command ends that is not read to its end


def expand_shards(patterns: str | Sequence[str]) -> list[str]:
    """The URLs that patterns stand for.

    Args:
        patterns: one or several of: a path, a glob (`train/*.tar`), braces (`clips-{000000..000009}.tar`), an
            `s3://` or `gs://` URL or glob, an `http(s)://` URL, `pipe:` and a command that writes a tar.

    Raises:
        UserError: a pattern that is unreadable or matches nothing, or a shard that is named twice.
    """
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    if not patterns:
        raise UserError("option shards is empty; name at least one shard")
    urls = [url for pattern in patterns for url in _expand_pattern(pattern)]
    url, times = Counter(urls).most_common(1)[0]
    if times > 1:
        raise UserError(f"shard {url} is named {times} times in {', '.join(patterns)}; name it once")
    return urls


def _expand_pattern(pattern: str) -> list[str]:
    try:
        expanded = list(braceexpand.braceexpand(pattern))
    except braceexpand.UnbalancedBracesError as error:
        raise UserError(f"shard pattern {pattern!r} has unbalanced braces") from error
    urls = [url for part in expanded for url in _expand_glob(part)]
    if not urls:
        raise UserError(f"no shard matches {pattern!r}")
    return urls


def _expand_glob(url: str) -> list[str]:
    if url.startswith(_COMMANDS):
        return [url]
    if url.startswith(_CLOUD):
        return _expand_cloud(url)
    if "://" in url and not url.startswith("file://"):
        raise UserError(f"shard {url!r}: use a path or a URL with {', '.join((*_CLOUD, *_COMMANDS))}")
    path = url.removeprefix("file://")
    if Path(path).is_dir():
        raise UserError(f"shard {path!r} is a folder; write {path.rstrip('/')}/*.tar")
    if Path(path).exists():  # also where the name itself holds a bracket
        return [path]
    if not glob.has_magic(path):
        raise UserError(f"shard {path!r} does not exist")
    return sorted(glob.glob(path, recursive=True))  # noqa: PTH207, pathlib takes no absolute pattern


def _expand_cloud(url: str) -> list[str]:
    if not glob.has_magic(url):
        return [url]
    filesystem, path = _filesystem(url)
    return sorted(filesystem.unstrip_protocol(name) for name in filesystem.glob(path))


def _filesystem(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise UserError(f"shard {url!r} needs another package: pip install 'm2svid[cloud]'") from error


def read_shard(url: str) -> Iterator[RawClip]:
    """The clips of a shard in their order.

    Raises:
        BrokenClipError: the shard cannot be read to its end; names it and the cause.
    """
    try:
        with _open(url) as opened:
            stream = _WithTail(opened)
            for sample in group_by_keys(tar_file_expander([{"url": url, "stream": stream}])):
                members = {name: data for name, data in sample.items() if not name.startswith("__")}
                yield RawClip(url, sample["__key__"], members)
            _check_end(stream.tail)
    except UserError:
        raise
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        # webdataset adds objects to the arguments, and the repr of its stream to the first, the message.
        message = error if isinstance(error, OSError) or not error.args else error.args[0]
        cause = str(message).partition(" @ <")[0] or type(error).__name__
        raise BrokenClipError(f"shard {url} cannot be read: {cause}") from error


class _WithTail:
    """A stream that remembers the last block it has read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.tail = b""

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        before = self.tail if len(data) < tarfile.BLOCKSIZE else b""  # joined only where it matters
        self.tail = (before + data)[-tarfile.BLOCKSIZE :]
        return data


def _check_end(tail: bytes) -> None:
    """A tar ends with blocks of zeros; tarfile takes one that was cut between two members for complete."""
    if tail != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it has no end mark; a shard must be a whole, uncompressed tar")


def _open(url: str) -> BinaryIO:
    if url.startswith(_CLOUD):
        filesystem, path = _filesystem(url)
        return filesystem.open(path, "rb")
    if not url.startswith(_COMMANDS):
        return Path(url).open("rb")
    stream = gopen(url)
    set_options(stream, ignore_status=_BROKEN_PIPE)
    return stream


def count_clips(url: str) -> int:
    """The number of clips that `read_shard` yields; a local shard is only skimmed."""
    if url.startswith((*_CLOUD, *_COMMANDS)):
        return sum(1 for _ in read_shard(url))
    try:
        with tarfile.open(url) as tar:
            keys = (base_plus_ext(member.name)[0] for member in tar if member.isreg())
            clips = sum(1 for key, _ in groupby(key for key in keys if key is not None))
        with Path(url).open("rb") as file:
            file.seek(-tarfile.BLOCKSIZE, os.SEEK_END)
            _check_end(file.read())
        return clips
    except (tarfile.TarError, EOFError, OSError) as error:
        raise BrokenClipError(f"shard {url} cannot be read: {error}") from error


@dataclass(frozen=True)
class Consumer:
    """Who reads a share of the clips: a worker of a rank.

    Attributes:
        rank: of the process.
        ranks: how many there are.
        worker: of the rank's loader.
        workers: how many it has.
    """

    rank: int = 0
    ranks: int = 1
    worker: int = 0
    workers: int = 1

    @property
    def index(self) -> int:
        return self.rank * self.workers + self.worker

    @property
    def consumers(self) -> int:
        return self.ranks * self.workers

    def turned(self, turns: int) -> Consumer:
        """The consumer that is `turns` further on; a whole round leads back."""
        rank, worker = divmod((self.index + turns) % self.consumers, self.workers)
        return replace(self, rank=rank, worker=worker)


def partition(urls: Sequence[str], consumer: Consumer) -> list[tuple[str, int, int]]:
    """The share of one consumer, so that the shares of all are every clip exactly once.

    With as many shards as consumers or more, a shard goes to one consumer. With fewer, the consumers of a
    shard take turns at its clips.

    Args:
        urls: the same list for all consumers.
        consumer: whose share.

    Returns:
        (url, offset, stride): clips offset, offset + stride, offset + 2·stride... of that shard.
    """
    index, consumers = consumer.index, consumer.consumers
    if len(urls) >= consumers:
        return [(url, 0, 1) for url in urls[index::consumers]]
    sharing = range(index % len(urls), consumers, len(urls))
    return [(urls[sharing.start], sharing.index(index), len(sharing))]
