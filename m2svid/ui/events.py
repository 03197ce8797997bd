"""TensorBoard's event files, read as they grow: scalars are kept, pictures are found again by their place.

A file is a chain of records: length (8 bytes), checksum of the length, an `Event` message, its checksum
(https://www.tensorflow.org/tutorials/load_data/tfrecord). TensorBoard's own reader computes the checksum of
every byte in Python, which takes 25 times as long where there are pictures.
"""

from __future__ import annotations

import math
import struct
import threading
import time
from array import array
from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from scipy.signal import lfilter
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from m2svid.errors import UserError

PREFIX = "events.out.tfevents."
_HEADER = struct.Struct("<QI")
_CHECKSUM = 4  # bytes after a message
_checksum = lru_cache(1024)(masked_crc32c)  # of lengths, most of which are alike


class Place(NamedTuple):
    """Where an event stands: its file, and offset and length of the message in bytes."""

    path: Path
    offset: int
    length: int


@dataclass
class Points:
    """Values of one tag in the order in which they were read."""

    steps: array[int] = field(default_factory=lambda: array("q"))
    times: array[float] = field(default_factory=lambda: array("d"))
    values: array[float] = field(default_factory=lambda: array("d"))


class Curve(NamedTuple):
    """Steps (n), seconds since 1970 (n) and values (n); the steps increase strictly."""

    steps: np.ndarray
    times: np.ndarray
    values: np.ndarray

    def at(self, indices: np.ndarray) -> Curve:
        return Curve(*(column[indices] for column in self))


class RunEvents:
    """What the event files of a run's folder hold.

    Args:
        folder: of the run.

    Attributes:
        share: how much of the files has been read, 0 to 1.
        step: the largest of a scalar so far, -1 without one.
        start: time of the first event in seconds since 1970.
        damaged: a sentence on each file with a damaged record, behind which nothing is read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._read: dict[Path, tuple[int, int]] = {}  # inode and bytes that have been read
        self._points: dict[str, Points] = defaultdict(Points)
        self._places: dict[str, dict[int, Place]] = defaultdict(dict)
        self.share = 0.0
        self.step = -1
        self.start = math.inf
        self.damaged: dict[Path, str] = {}

    def tags(self) -> list[str]:
        """Names of the scalars, sorted."""
        with self._lock:
            return sorted(self._points)

    def pictures(self) -> dict[str, list[int]]:
        """The steps of which there are pictures, by tag; all sorted."""
        with self._lock:
            return {tag: sorted(places) for tag, places in sorted(self._places.items())}

    def read(self, seconds: float = 1.0) -> None:
        """Read what the files have got since the last call.

        Args:
            seconds: how long at most; `share` then says how far it has come.
        """
        until = time.monotonic() + seconds
        with self._lock:
            found = {path: path.stat() for path in sorted(self.folder.glob(f"{PREFIX}*"))}
            for path, (inode, position) in self._read.items():
                if path not in found or found[path].st_ino != inode or found[path].st_size < position:
                    self._forget()  # the run was made anew under this name
                    break
            for path, status in found.items():
                begin = self._read.get(path, (0, 0))[1]
                if status.st_size > begin:
                    with path.open("rb", buffering=1 << 20) as file:
                        self._read[path] = (status.st_ino, self._read_file(file, path, begin, until))
            size = sum(status.st_size for status in found.values())
            read = sum(position for _, position in self._read.values())
            # A writer at work leaves a part of a record at the end, which isn't waited for.
            self.share = read / size if time.monotonic() > until else 1.0

    def _read_file(self, file: BinaryIO, path: Path, position: int, until: float) -> int:
        """Read from a position to the last whole record; give the position behind it."""
        file.seek(position)
        self.damaged.pop(path, None)
        while time.monotonic() < until and len(header := file.read(_HEADER.size)) == _HEADER.size:
            length, checksum = _HEADER.unpack(header)
            if _checksum(header[:8]) != checksum:
                self._stop(path, position)
                break
            message = file.read(length + _CHECKSUM)
            if len(message) < length + _CHECKSUM:
                break  # it is being written
            try:
                event = Event.FromString(message[:-_CHECKSUM])
            except DecodeError:
                self._stop(path, position)
                break
            if position == 0:
                self.start = min(self.start, event.wall_time)
            self._add(event, path, position + _HEADER.size, length)
            position += _HEADER.size + length + _CHECKSUM
        return position

    def _stop(self, path: Path, position: int) -> None:
        self.damaged[path] = f"{path} is damaged: what stands behind byte {position} isn't shown"

    def _add(self, event: Event, path: Path, offset: int, length: int) -> None:
        for value in event.summary.value:
            if value.HasField("simple_value"):
                points = self._points[value.tag]
                points.steps.append(event.step)
                points.times.append(event.wall_time)
                points.values.append(value.simple_value)
                if event.step > self.step:  # max() would be slower, and there may be millions
                    self.step = event.step
            elif value.HasField("image"):
                self._places[value.tag][event.step] = Place(path, offset, length)

    def curve(self, tag: str) -> Curve:
        """A scalar's values, one a step: the newest, as a continued run repeats steps. Empty without any."""
        with self._lock:
            points = self._points[tag] if tag in self._points else Points()
            curve = Curve(np.array(points.steps), np.array(points.times), np.array(points.values))
        ordered = curve.at(np.lexsort((curve.times, curve.steps)))
        return ordered.at(np.append(np.diff(ordered.steps) > 0, len(ordered.steps) > 0).nonzero()[0])

    def picture(self, tag: str, step: int) -> bytes:
        """A picture as it was logged, an encoded PNG or GIF.

        Raises:
            UserError: there is none.
        """
        with self._lock:
            place = self._places.get(tag, {}).get(step)
        if place is None:
            raise UserError(f"{self.folder} has no picture {tag!r} of step {step}")
        with place.path.open("rb") as file:
            file.seek(place.offset)
            event = Event.FromString(file.read(place.length))
        return next(value.image.encoded_image_string for value in event.summary.value if value.tag == tag)


def smoothed(values: np.ndarray, weight: float) -> np.ndarray:
    """Exponential moving average (n) as TensorBoard's slider has it, free of the start's bias.

    Args:
        values: (n); those that aren't finite stay as they are and count for nothing.
        weight: of the average before, 0 to below 1.
    """
    finite = np.isfinite(values)
    average = lfilter([1 - weight], [1, -weight], values[finite])
    result = values.copy()
    result[finite] = average / (1 - weight ** np.arange(1, len(average) + 1))
    return result


def thinned(values: np.ndarray, count: int) -> np.ndarray:
    """Indices of points that look like all of them when drawn: extremes, ends, and what isn't finite.

    Args:
        values: (n).
        count: how many finite points at most, beside the two ends.

    Returns:
        Increasing indices: all if there are no more than `count`, else of each of count / 2 pieces the
        smallest and the largest value and the first that isn't finite; and those of both ends.
    """
    if len(values) <= count:
        return np.arange(len(values))
    size = -(-len(values) // (count // 2))
    pieces = -(-len(values) // size)
    padded = np.append(values, np.full(pieces * size - len(values), np.nan)).reshape(pieces, size)
    finite = np.isfinite(padded)
    lowest = np.where(finite, padded, np.inf).argmin(1)
    highest = np.where(finite, padded, -np.inf).argmax(1)
    broken = np.where(finite.all(1), lowest, finite.argmin(1))
    kept = np.stack([lowest, highest, broken]) + np.arange(pieces) * size
    kept = np.unique(np.append(kept, [0, len(values) - 1]))
    return kept[kept < len(values)]
