"""Stereo films of any origin: where their views are, and the parallax between them.

Shapes: H W pixels of a view.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Container, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

import av
import cv2
import numpy as np
from av.sidedata.sidedata import Type
from numpy.typing import NDArray

from m2svid.errors import UserError
from m2svid.video.decode import has_layers
from m2svid.video.pictures import Pixels
from m2svid.video.read import Video
from m2svid.video.shots import Survey
from m2svid.warping.matching import DisparityRange, match

PairLayout = Literal["sbs", "sbs-half", "tb", "tb-half", "layers"]

_WIDTH = 512  # px, to which views are made smaller before they are matched
_LARGEST = 0.1  # of the width: parallax that is looked for, in front of the screen and behind it
_NEARBY = 9  # px, in which there must be texture
_TEXTURE = 8  # mean Sobel gradient: one gray level from a pixel to the next
_FLAT, _MODES = 0, {1: "sbs", 2: "tb"}  # FFmpeg's AVStereo3DType
_INVERTED = 1  # its flag: the right eye comes first
_RECTILINEAR = 4  # its AVSphericalProjection of ordinary pictures
_NAMES = {"sbs": "sbs", "lr": "sbs", "rl": "sbs", "cross": "sbs", "ou": "tb", "tab": "tb", "tb": "tb"}
_SQUEEZED = ("lr", "rl", "tb")  # without "full" before it, as `convert` names its files
_CROSSED = ("rl", "cross")  # the right eye comes first
_NAME = re.compile(rf"(?:^|[ ._()\[\]-])(half|h|full|f)?[ ._-]?({'|'.join(_NAMES)})(?=$|[ ._()\[\]-])", re.I)


@dataclass(frozen=True)
class Views:
    """The places of the two views in a film.

    Attributes:
        layout: of both views in a picture; or "layers" of the stream, of which the left eye's comes first.
        swapped: the right eye's comes first.
        reason: what tells so.
    """

    layout: PairLayout
    swapped: bool
    reason: str


def find_views(video: Video) -> Views | None:
    """Find the views of a film by its container, else by its name; None = it has one view.

    Raises:
        UserError: they are spherical, and their parallax depends on the direction; or they are mixed.
    """
    if video.is_container and has_layers(video.path):
        return Views("layers", False, "MV-HEVC")
    told = _told(video) if video.is_container else None
    named = _NAME.findall(video.path.stem)
    prefix, kind = (part.lower() for part in named[-1]) if named else ("", "")
    if told is None and not kind:
        return None
    axis, swapped = told or (_NAMES[kind], kind in _CROSSED)
    view = video.info.width / video.info.height * (0.5 if axis == "sbs" else 2.0)
    squeezed = view < 1 if axis == "sbs" else view > 2.8  # as squeezed views seem to be
    if kind and (prefix or kind in _SQUEEZED):
        squeezed = not prefix.startswith("f")
    return Views(f"{axis}{'-half' * squeezed}", swapped, "container" if told else "name of the file")


def _told(video: Video) -> tuple[str, bool] | None:
    with av.open(str(video.path)) as container:
        frame = next(container.decode(video=0))
        try:
            data = {item.type: bytes(item) for item in frame.side_data}
        except ValueError:  # of a type that PyAV doesn't know
            return None
    if Type.SPHERICAL in data and struct.unpack_from("<i", data[Type.SPHERICAL])[0] != _RECTILINEAR:
        raise UserError(
            f"{video.path} is spherical: its parallax depends on the direction and isn't measured"
        )
    if Type.STEREO3D not in data:
        return None
    mode, flags = struct.unpack_from("<2i", data[Type.STEREO3D])
    if mode not in (_FLAT, *_MODES):
        raise UserError(f"{video.path} mixes its views: give them side by side, or above each other")
    return None if mode == _FLAT else (_MODES[mode], bool(flags & _INVERTED))


@dataclass(frozen=True)
class StereoFilm:
    """Both views of a film.

    Attributes:
        video: its pictures, or its left view.
        views: where both are in its pictures; None, or in layers = `right` has the other one.
        right: the right view, where that is a film of its own; or the second layer.

    Raises:
        UserError: the two films have different sizes.
    """

    video: Video
    views: Views | None
    right: Video | None = None

    def __post_init__(self) -> None:
        sizes = [(each.info.width, each.info.height) for each in (self.video, self.right) if each is not None]
        if len(set(sizes)) > 1:
            raise UserError(f"--right {self.right.path} has another size than {self.video.path}")

    def pairs(self, film: Survey, wanted: Container[int]) -> Iterator[tuple[int, Pixels, Pixels]]:
        """Number, left and right view (H, W, 3) of the wanted frames; squeezed views stay so.

        Args:
            film: survey of `video`.
            wanted: numbers of frames.

        Raises:
            UserError: one view ends before the other.
        """
        if self.right is None:
            for frame in film.frames(self.video, 0):
                if frame.index in wanted:
                    yield frame.index, *self._split(frame.rgb())
            return
        for index, (left, right) in enumerate(zip_longest(film.frames(self.video, 0), self.right.frames())):
            if left is None or right is None:
                shorter = self.video if left is None else self.right
                raise UserError(f"{shorter.path} ends after {index} frames, the other view is longer")
            if index in wanted:
                yield index, *self._ordered(left.rgb(), right.rgb())

    def _split(self, picture: Pixels) -> tuple[Pixels, Pixels]:
        assert self.views is not None  # or there is a right view
        axis = 1 if self.views.layout.startswith("sbs") else 0
        half = picture.shape[axis] // 2
        first, second = np.split(picture, [half], axis)
        second = np.take(second, range(half), axis)  # an odd last row or column belongs to neither
        return self._ordered(first, second)

    def _ordered(self, first: Pixels, second: Pixels) -> tuple[Pixels, Pixels]:
        return (second, first) if self.views is not None and self.views.swapped else (first, second)


def matched_parallax(left: Pixels, right: Pixels) -> NDArray[np.float32]:
    """Parallax (h, w) of the left view's pixels in % of its width, NaN where nothing matches.

    Semi-global matching of views of at most 512 px, good to about 0.1 % where it matches the right thing; of
    regular patterns it may take the neighbour. Skies and bars, which match anywhere, count as not known.

    Args:
        left: (H, W, 3) RGB.
        right: the same.
    """
    small = min(1.0, _WIDTH / left.shape[1])
    size = (round(left.shape[1] * small), max(1, round(left.shape[0] * small)))
    gray = [
        cv2.resize(cv2.cvtColor(view, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
        for view in (left, right)
    ]
    largest = round(size[0] * _LARGEST)
    disparity, consistent = match(*gray, DisparityRange(-largest, largest))
    edges = cv2.boxFilter(np.abs(cv2.Sobel(gray[0], cv2.CV_32F, 1, 0)), -1, (_NEARBY, _NEARBY))
    return np.where(consistent & (edges > _TEXTURE), -100 * disparity / size[0], np.nan).astype(np.float32)
