"""Depth from files: what their values mean.

Shapes: T frames, h w of the depth maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from m2svid.depth.base import DepthEstimator, DepthRequest, Kind, Span
from m2svid.depth.readers import SUFFIXES, open_reader
from m2svid.errors import UserError
from m2svid.video.sliding import Sliding
from m2svid.weights.fetch import holds_weights, is_path

_SAMPLES = 8  # frames looked at to tell near from far
_CLEAR = 0.05  # of the range, by which the bottom of the picture must differ from its top
_MEANT = 0.5  # of what integers can hold; depth that is meant to fill it reaches further


class DepthFile(DepthEstimator):
    """Depth from an array, a video or pictures; one map is that of all frames, as of a still camera.

    Args:
        path: npz with an array `depth`, or npy, of (T, h, w) or (h, w); a video; a picture (PNG, TIFF, JPEG,
            EXR); or a folder of those.
        kind: "inverse" (near is large, as in disparity), "flipped" (1 - inverse: near is small), "metric"
            (distance; any unit), or "auto": what the file says; else by whether the bottom of the picture is
            nearer than its top. Near being small, positive floats of no fixed range, and integers of more
            than 8 bits of which less than half are used, are distances.
        span: "auto" takes integers of 8 and 16 bits, and floats that fill 0 to 1, as they are; "shot"
            normalises each shot.

    Raises:
        UserError: the file is missing or of a kind that can't be read.
    """

    looks = False

    @classmethod
    def accepts(cls, name: str) -> bool:
        path = Path(name)
        if path.exists():
            return not holds_weights(path)
        return path.suffix.lower() in SUFFIXES or is_path(name)

    @classmethod
    def open(cls, request: DepthRequest) -> DepthFile:
        return cls(Path(request.name), request.kind, request.span)

    def __init__(self, path: Path, kind: Kind = "auto", span: Span = "auto") -> None:
        if kind not in get_args(Kind):
            raise UserError(f"--depth-kind must be one of {', '.join(get_args(Kind))}, not {kind!r}")
        self._path, self.name = path, str(path)
        self._reader = reader = open_reader(path)
        self._maps: Sliding[NDArray[np.float32]] = Sliding(reader.maps)
        self.num_frames, self.size = reader.num_frames, next(reader.maps(0)).shape
        if kind != "auto":
            self._kind, reason = kind, "as declared"
        elif reader.kind in get_args(Kind)[1:]:
            self._kind, reason = reader.kind, "as the file says"
        else:
            self._kind, reason = self._detect()
        self.relative = span == "shot" or self._kind == "metric" or reader.scale is None
        near = {"inverse": "near is large", "flipped": "near is small", "metric": "distances"}[self._kind]
        values = "normalised per shot" if self.relative else f"0 to {reader.scale:g} taken as 0 to 1"
        still = ", one map for all frames" if self.num_frames == 1 else ""
        self.description = f"{path}: {reader.name}, {near} ({reason}), {values}{still}"

    def excerpt(self, first: int, count: int) -> None:
        if first + count > self.num_frames:
            raise UserError(
                f"the depth of {self.name} has {self.num_frames} frames, but the part of the film has those "
                f"from {first} to {first + count - 1}"
            )
        self._maps = Sliding(lambda start: self._reader.maps(first + start))
        self.num_frames = count

    def __call__(self, frames: Sequence[NDArray[Any]], first: int) -> NDArray[np.float32]:
        if self.num_frames == 1:
            return self._cropped(self._inverse(np.stack(self._maps.get(0, 1) * len(frames)), first))
        found = self._maps.get(first, first + len(frames))
        if len(found) < len(frames):
            raise UserError(f"{self._path} ends after {first + len(found)} frames, the film is longer")
        odd = [place for place, depth in enumerate(found) if depth.shape != self.size]
        if odd:
            raise UserError(f"{self._path} changes its size in frame {first + odd[0]}")
        maps = np.stack(found) if len(found) > 1 else found[0][None]
        return self._cropped(self._inverse(maps, first))

    def _cropped(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        return maps if self.crop is None else self.crop(maps)

    def _inverse(self, maps: NDArray[np.float32], first: int) -> NDArray[np.float32]:
        scaled = maps if self.relative or self._reader.scale == 1 else maps / self._reader.scale
        if self._kind == "metric":
            if maps.min() <= 0:
                raise UserError(
                    f"{self._path} has distances that are not above 0 between frames {first} and "
                    f"{first + len(maps)}: fill what was not measured, or give another --depth-kind"
                )
            scaled = 1 / maps  # infinitely far is 0
        elif self._kind == "flipped":
            scaled = -scaled if self.relative else 1 - scaled
        if not np.isfinite([scaled.min(), scaled.max()]).all():  # NaN is the smallest and the largest value
            raise UserError(
                f"{self._path} has values that are no numbers between frames {first} and {first + len(maps)}"
            )
        return scaled

    def _detect(self) -> tuple[Literal["inverse", "flipped", "metric"], str]:
        count = min(self.num_frames, _SAMPLES)
        wanted = set(np.linspace(0, min(self.num_frames, 250) - 1, count).round().astype(int).tolist())
        rise, span, lows, highs = [], [], [], []
        for depth in self._reader.some(wanted):
            if (finite := depth[np.isfinite(depth)]).size:
                lows.append(float(finite.min()))
                highs.append(float(finite.max()))
                seen = np.where(np.isfinite(depth), depth, highs[-1])
                third = max(1, depth.shape[0] // 3)
                rise.append(float(np.median(seen[-third:]) - np.median(seen[:third])))
                span.append(highs[-1] - lows[-1])
        slope = sum(rise) / max(sum(span), 1e-12)
        low, high = min(lows, default=0.0), max(highs, default=0.0)
        scale, bits = self._reader.scale, self._reader.bits or 0
        unused = scale is not None and bits > 8 and high < _MEANT * scale
        some = f"; the values end at {high / scale:.1%} of what {bits} bits hold" if scale and unused else ""
        if abs(slope) < _CLEAR:
            return "inverse", f"assumed: the picture doesn't tell; --depth-kind says otherwise{some}"
        reason = f"detected: the bottom of the picture is {slope:+.2f} of the range above its top{some}"
        if slope > 0:
            return "inverse", reason
        distances = low > 0 if scale is None else unused
        return ("metric" if distances else "flipped"), reason
