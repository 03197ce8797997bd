"""Facts about a video, known before its frames are read.

Shapes: H W pixels as the viewer sees them (a phone's rotation is applied).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import ColorRange, Colorspace

from m2svid.video.bars import Box
from m2svid.video.hdr import HDR, Mastering
from m2svid.video.planes import PixelFormat
from m2svid.video.side_data import side_data

# Numbers of the matrix in the stream (ITU-T H.273) that swscale names; others follow the size.
_MATRICES = {1: Colorspace.ITU709, 4: Colorspace.FCC, 5: Colorspace.ITU601, 6: Colorspace.ITU601}
_MATRICES |= {7: Colorspace.SMPTE240M, 9: Colorspace.BT2020}
_UNKNOWN = 2
_IDENTITY = 0  # matrix of RGB


@dataclass(frozen=True)
class Color:
    """Meaning of a stream's samples, as ITU-T H.273 numbers; 2 (range: 0) = unknown."""

    range: int
    primaries: int
    transfer: int
    matrix: int

    @classmethod
    def of(cls, raw: av.VideoFrame) -> Color:
        """The colours of a decoded frame once it is YUV, whose tags an RGB frame can't have."""
        full = raw.color_range == ColorRange.JPEG or raw.format.name.startswith("yuvj")
        chosen, matrix = ColorRange.JPEG if full else raw.color_range, int(raw.colorspace)
        if is_rgb(raw.format) or matrix == _IDENTITY:
            chosen, matrix = ColorRange.MPEG, _UNKNOWN
        return cls(int(chosen), int(raw.color_primaries), int(raw.color_trc), matrix)


UNTAGGED = Color(
    int(ColorRange.JPEG), _UNKNOWN, _UNKNOWN, _UNKNOWN
)  # samples that are no colours: full range

SDR = Color(int(ColorRange.MPEG), 1, 1, 1)  # BT.709


def is_rgb(pixel_format: av.VideoFormat) -> bool:
    """Samples, or the palette's entries, are red, green and blue."""
    return pixel_format.is_rgb or pixel_format.has_palette


@dataclass(frozen=True)
class Orientation:
    """How a decoded frame is to be seen: turned left by so many quarters first, then maybe mirrored."""

    quarter_turns: int = 0
    mirrored: bool = False

    @classmethod
    def of(cls, raw: av.VideoFrame) -> Orientation:
        """The orientation that a frame's display matrix asks for (ISO/IEC 14496-12, `matrix` of tkhd)."""
        found = side_data(raw)
        if found is None:
            return cls(round(raw.rotation / 90) % 4)  # of a mirrored one, only the turn is known
        if Type.DISPLAYMATRIX not in found:
            return cls()
        a, b, _, c, d, *_ = struct.unpack("<9i", found[Type.DISPLAYMATRIX])
        mirrored = a * d - b * c < 0
        clockwise = math.atan2(b, -a if mirrored else a)  # where the frame's columns go, y downwards
        return cls(round(-clockwise / (math.pi / 2)) % 4, mirrored)

    def apply(self, array: np.ndarray) -> np.ndarray:
        """(..., h, w) as decoded -> (..., H, W)."""
        turned = np.rot90(array, self.quarter_turns, (-2, -1))
        return np.ascontiguousarray(turned[..., ::-1] if self.mirrored else turned)


@dataclass(frozen=True)
class VideoInfo:
    """Facts about a video.

    Attributes:
        width: of a frame as it is to be seen, px.
        height: of a frame as it is to be seen, px.
        rate: frames per second on average; exact.
        time_base: unit of the frames' `pts`, s.
        pixel_format: planar YUV that holds the decoded samples.
        color: meaning of the samples as they are given.
        orientation: of the decoded frames.
        aspect: width of a pixel over its height.
        frames: how many the container announces; 0 = it doesn't say.
        start: when the file's clock begins, s: above 0 only for broadcasts, whose clock runs on.
        stored: meaning of the samples in the file, where they are converted to `color`.
        mastering: what an HDR stream says of the screen that it was graded on.
        dynamic: what it says of every picture by itself, which can't be written.
        picture: inside of black bars; None = the whole frame.
    """

    width: int
    height: int
    rate: Fraction
    time_base: Fraction
    pixel_format: PixelFormat
    color: Color
    orientation: Orientation = Orientation()
    aspect: Fraction = Fraction(1)
    frames: int = 0
    start: Fraction = Fraction(0)

    stored: Color | None = None
    mastering: Mastering | None = None
    dynamic: tuple[str, ...] = ()
    picture: Box | None = None

    @property
    def matrix(self) -> Colorspace:
        """YUV matrix: the tagged one, else BT.709 from 720 rows on and BT.601 below, as players assume."""
        return self._matrix(self.color)

    @property
    def stored_matrix(self) -> Colorspace:
        """YUV matrix of the decoded samples."""
        return self._matrix(self.stored or self.color)

    @property
    def full_range(self) -> bool:
        return self.color.range == ColorRange.JPEG

    @property
    def hdr(self) -> str | None:
        """PQ or HLG; None = SDR, maybe because it is converted."""
        return HDR.get(self.color.transfer)

    def _matrix(self, color: Color) -> Colorspace:
        guess = Colorspace.ITU709 if self.height >= 720 else Colorspace.ITU601
        return _MATRICES.get(color.matrix, guess)
