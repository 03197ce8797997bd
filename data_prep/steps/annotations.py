"""Stereo4D's annotations: `.npz` files, of which the 3-D tracks (most of the bytes) are never read, or a
slim manifest.

The manifest is a `.jsonl` (or `.jsonl.gz`) with a line a clip; it takes a few kB a clip where the npz take
35 MB.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
import numpy as np
from numpy.typing import NDArray

from data_prep.dataset import Facts, Rejected
from m2svid.errors import UserError
from m2svid.files import whole

_FIELDS = ("name", "video_id", "timestamps", "fov_bounds", "rectified2rig")
_SHAPES = {"timestamps": (-1,), "fov_bounds": (4,), "rectified2rig": (2, 3, 3)}
_VIDEO_ID = 11  # characters
_RATES = [
    *(Fraction(rate) for rate in (24, 25, 30, 48, 50, 60, 120)),
    *(Fraction(1000 * rate, 1001) for rate in (24, 30, 48, 60, 120)),
]
_SAME_RATE = 5e-4  # relative; 30 and 29.97 frames/s are twice as far apart
_FOREIGN_RATE = 0.02  # relative
_READERS = 16  # files at a time; remote ones wait for their answers


@dataclass(frozen=True)
class Annotation:
    """One clip.

    Attributes:
        name: `{video_id}_{first timestamp}`.
        video_id: of the online video.
        timestamps: (T,) microseconds from the video's first frame.
        fov_bounds: start yaw, end yaw, start tilt, end tilt, degrees, of one eye's picture.
        rectified2rig: (2, 3, 3) rotations from the rectified views to the pictures, left and right.
        problem: why it can't be used; empty if it can.
    """

    name: str
    video_id: str
    timestamps: NDArray[np.int64]
    fov_bounds: list[float]
    rectified2rig: list[list[list[float]]]
    problem: str = ""


def video_id_of(name: str) -> str:
    """The video of a clip's, a file's or a list's name: `<id>`, `<id>_<time>`, `<id>-clip7.mp4`."""
    return Path(name).name[:_VIDEO_ID]


def read_annotations(places: Sequence[str]) -> list[Annotation]:
    """All clips of folders of npz (with their subfolders), npz files, tars of npz, and manifests.

    They come by video, and in the order of their beginning.

    Args:
        places: paths, or URLs that fsspec knows.

    Raises:
        UserError: a place is missing or holds no annotation, or two are of one clip.
    """
    found = [annotation for place in places for annotation in _read_place(place)]
    names = Counter(clip.name for clip in found)
    for name, times in names.most_common(1):
        if times > 1:
            raise UserError(f"{', '.join(places)}: the clip {name} is annotated {times} times")
    return sorted(found, key=lambda clip: (clip.video_id, clip.timestamps[:1].tolist(), clip.name))


def write_manifest(path: Path, annotations: Iterable[Annotation]) -> None:
    """Write the slim manifest."""
    lines = (asdict(clip) | {"timestamps": clip.timestamps.tolist()} for clip in annotations)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    with whole(path) as temporary:
        data = text.encode()
        temporary.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def _read_place(place: str) -> list[Annotation]:
    try:
        files, root = fsspec.url_to_fs(place)
    except ImportError as error:
        raise UserError(f"{place} needs another package: pip install 'm2svid[cloud]'") from error
    if not files.exists(root):
        raise UserError(f"{place}: there is no such file or folder")
    if not files.isdir(root):
        if place.endswith((".jsonl", ".jsonl.gz")):
            with files.open(root, "rb", compression="infer") as stream:
                return _read_manifest(place, stream)
        if place.endswith(".tar"):
            with files.open(root, "rb") as stream:
                return list(_read_tar(place, stream))
        return [_read_file(files, root)]
    names = sorted(name for name in files.find(root) if name.endswith(".npz"))
    if not names:
        raise UserError(f"{place}: there is no .npz in this folder; name a manifest or a tar by its file")
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(lambda name: _read_file(files, name), names))


def _read_manifest(place: str, stream: BinaryIO) -> list[Annotation]:
    found = []
    for number, line in enumerate(stream, 1):
        try:
            values = json.loads(line)
            found.append(Annotation(**values | {"timestamps": np.array(values["timestamps"], np.int64)}))
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{place}: line {number} is no annotation ({error}); write the manifest anew"
            ) from error
    return found


def _read_tar(place: str, stream: BinaryIO) -> Iterator[Annotation]:
    try:
        with tarfile.open(fileobj=stream) as tar:
            for member in tar:
                if member.name.endswith(".npz"):
                    yield _read_npz(member.name, tar.extractfile(member))
    except tarfile.TarError as error:
        raise UserError(f"{place} can't be read as a tar: {error}") from error


def _read_file(files: fsspec.AbstractFileSystem, name: str) -> Annotation:
    with files.open(name, "rb") as stream:
        return _read_npz(name, stream)


def _read_npz(name: str, stream: BinaryIO) -> Annotation:
    """One annotation; one that makes no sense is kept with its problem, to be rejected by name."""
    stem = Path(name).stem
    try:
        with zipfile.ZipFile(stream) as archive:
            missing = [field for field in _FIELDS if f"{field}.npy" not in archive.namelist()]
            if missing:
                there = ", ".join(sorted(Path(member).stem for member in archive.namelist()))
                raise ValueError(f"it has no field {', '.join(missing)}, only {there}")
            values = {field: _member(archive, field) for field in _FIELDS}
        for field, shape in _SHAPES.items():
            if values[field].shape != shape and not (shape == (-1,) and values[field].ndim == 1):
                raise ValueError(f"{field} has the shape {values[field].shape}")
        return Annotation(
            str(values["name"]),
            str(values["video_id"]),
            values["timestamps"].astype(np.int64),
            values["fov_bounds"].astype(np.float64).tolist(),
            values["rectified2rig"].astype(np.float64).tolist(),
        )
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        return Annotation(
            stem, video_id_of(stem), np.zeros(0, np.int64), [], [], f"unreadable: {name}: {error}"
        )


def _member(archive: zipfile.ZipFile, field: str) -> np.ndarray[Any, Any]:
    return np.lib.format.read_array(io.BytesIO(archive.read(f"{field}.npy")), allow_pickle=False)


def seconds(microseconds: int) -> Fraction:
    """Microseconds, exactly."""
    return Fraction(int(microseconds), 1_000_000)


def checked_times(annotation: Facts) -> NDArray[np.int64]:
    """Time stamps of an annotation, microseconds.

    Raises:
        Rejected: they, or others of its fields, make no sense.
    """
    times = annotation["timestamps"]
    if annotation["problem"]:
        raise Rejected("annotation", annotation["problem"])
    if len(times) < 2:
        raise Rejected("annotation", f"too short: it has {len(times)} time stamps")
    steps = np.diff(times)
    if steps.min() <= 0 or steps.max() >= 1.5 * np.median(steps):
        raise Rejected(
            "annotation", f"uneven: its time stamps are {steps.min()} to {steps.max()} microseconds apart"
        )
    return times


def rate_of(step: Fraction, video_rate: Fraction | None = None) -> Fraction:
    """Exact rate of a clip: the one that cameras have, if one is near.

    What a file says about its rate is no help: finished pairs are always labelled 30, and a raw video's
    average counts frames that are missing.

    Args:
        step: between its frames, s, as exact as microseconds are.
        video_rate: of the raw video, of which the clip takes every n-th frame.

    Raises:
        Rejected: its frames are not those of the video.
    """
    stride = max(1, round(step * video_rate)) if video_rate is not None else 1
    if video_rate is not None and abs(step * video_rate / stride - 1) > _FOREIGN_RATE:
        own, video = float(step), float(1 / video_rate)
        raise Rejected(
            "annotation", f"another rate: its frames are {own:.5f} s apart, those of the video {video:.5f} s"
        )
    rate = min(_RATES, key=lambda rate: abs(rate * step - 1))
    return rate if abs(rate * step - 1) < _SAME_RATE else 1 / step
