"""Encoding: the pictures of one window become a piece, a file of finished packets.

A piece can be decoded on its own, so pieces made at different times join into one film without being
encoded again: a film that is continued after an interruption equals one that never was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.codec.context import Flags
from av.video.reformatter import ColorRange

from m2svid.errors import UserError
from m2svid.files import load_arrays, save_arrays
from m2svid.video import x264
from m2svid.video.info import UNTAGGED, Color
from m2svid.video.planes import PixelFormat, Plane, from_planes

CodecName = Literal["h264", "h265", "av1", "prores", "ffv1"]
ENCODERS = {"h264": "libx264", "h265": "libx265", "av1": "libsvtav1", "prores": "prores_ks", "ffv1": "ffv1"}
CRF = {"h264": 18, "h265": 20, "av1": 25}
PRESETS = {"h264": "medium", "h265": "medium", "av1": "8"}
CONTAINERS = {  # the first one is the best known
    "h264": (".mp4", ".m4v", ".mov", ".mkv"),
    "h265": (".mp4", ".m4v", ".mov", ".mkv"),
    "av1": (".mp4", ".mkv"),
    "prores": (".mov", ".mkv"),
    "ffv1": (".mkv",),
}

DEPTH_TAG = "DEPTH"
"""Of a stream of depth: what its values mean, such as inverse."""


@dataclass(frozen=True)
class Encoding:
    """Codec, size, colours and quality of encoded pictures.

    Attributes:
        codec: h264, h265, av1, prores or ffv1.
        pixel_format: of the encoded pictures.
        width: of a picture, px.
        height: of a picture, px.
        rate: frames per second on average.
        color: tags to write.
        aspect: width of a pixel over its height.
        crf: constant quality, smaller = better; None for prores and ffv1, which have none.
        preset: the encoder's speed; None where the encoder has none.
        packing: H.264 frame packing arrangement to announce.
        depth: what gray values mean as depth, to be told in `DEPTH_TAG`; None = they are none.
    """

    codec: CodecName
    pixel_format: PixelFormat
    width: int
    height: int
    rate: Fraction
    color: Color
    aspect: Fraction
    crf: int | None
    preset: str | None
    packing: int | None = None
    depth: str | None = None

    def options(self) -> dict[str, str]:
        """Options of the encoder, as FFmpeg names them."""
        options = {}
        if self.crf is not None:
            options["crf"] = str(self.crf)
        if self.preset is not None:
            options["preset"] = self.preset
        if self.codec == "h264":
            options["x264-params"] = ":".join(self._x264_params())
        if self.codec == "h265":
            options["x265-params"] = "log-level=error"
        if self.codec == "prores":
            options["profile"] = "hq" if self.pixel_format.chroma == "422" else "4444"
        return options

    def _x264_params(self) -> list[str]:
        # An interrupted film must equal a whole one.
        return [*([] if self.packing is None else [f"frame-packing={self.packing}"]), *x264.repeatable()]

    def apply(self, target: av.VideoStream | av.VideoCodecContext) -> None:
        """Set up an encoder or an output stream."""
        target.width, target.height = self.width, self.height
        target.pix_fmt = self.pixel_format.name
        target.time_base = 1 / self.rate
        target.framerate = self.rate
        target.sample_aspect_ratio = self.aspect
        target.color_range = self.color.range
        target.color_primaries = self.color.primaries
        target.color_trc = self.color.transfer
        target.colorspace = self.color.matrix
        target.options = self.options()
        target.thread_type = (
            "AUTO"  # PyAV's default, "SLICE", makes x264 cut pictures into slices: larger files
        )
        if self.codec == "h265":
            target.codec_tag = "hvc1"


def lossless(
    pixel_format: PixelFormat,
    width: int,
    height: int,
    rate: Fraction,
    aspect: Fraction = Fraction(1),
    color: Color = UNTAGGED,
) -> Encoding:
    """FFV1, for results that other programs read; arguments as of `Encoding`."""
    return Encoding("ffv1", pixel_format, width, height, rate, color, aspect, crf=None, preset=None)


def inverse_depth(width: int, height: int, rate: Fraction, aspect: Fraction = Fraction(1)) -> Encoding:
    """FFV1 of 16-bit gray that says it is inverse depth, white being nearest; arguments as of `Encoding`."""
    return replace(lossless(PixelFormat("400", 16), width, height, rate, aspect), depth="inverse")


def encoder_format(codec: CodecName, source: PixelFormat, bits: int | None) -> PixelFormat:
    """Format of the stored pictures: 4:2:0 for players, 4:2:2 for ProRes, the source's for FFV1."""
    depth = bits or source.bits
    if codec == "prores":
        return PixelFormat("444" if source.chroma == "444" else "422", 10)
    return PixelFormat(source.chroma if codec == "ffv1" else "420", depth)


def stored_color(source: Color, codec: CodecName) -> Color:
    """Colours of the stored pictures: the source's, but ProRes has no full range."""
    return replace(source, range=int(ColorRange.MPEG)) if codec == "prores" else source


def check_codec(codec: CodecName) -> None:
    """Raise a UserError where this PyAV has no encoder for the codec."""
    if ENCODERS[codec] not in av.codecs_available:
        raise UserError(
            f"--codec {codec} needs the encoder {ENCODERS[codec]}, which this PyAV was built without"
        )


def encode(pictures: Iterable[list[Plane]], encoding: Encoding, path: Path) -> None:
    """Encode pictures into a piece; it appears under its name only when complete.

    Args:
        pictures: Y, U and V of every picture, in order.
        encoding: of the pictures.
        path: the piece.
    """
    encoder = av.CodecContext.create(ENCODERS[encoding.codec], "w")
    encoding.apply(encoder)
    encoder.flags |= Flags.global_header
    try:
        encoder.open()
    except av.FFmpegError as error:
        picture = f"{encoding.width}×{encoding.height}, {encoding.pixel_format.name}"
        raise UserError(
            f"--codec {encoding.codec} can't store pictures of {picture}: give another codec or layout"
        ) from error
    packets = [packet for frame in _frames(pictures, encoding) for packet in encoder.encode(frame)]
    blobs = [bytes(packet) for packet in packets]
    save_arrays(
        path,
        order=np.array([packet.pts for packet in packets], np.int64),
        key=np.array([packet.is_keyframe for packet in packets]),
        size=np.array([len(blob) for blob in blobs], np.int64),
        data=np.frombuffer(b"".join(blobs), np.uint8),
    )


def _frames(pictures: Iterable[list[Plane]], encoding: Encoding) -> Iterator[av.VideoFrame | None]:
    for index, planes in enumerate(pictures):
        frame = from_planes(planes, encoding.pixel_format)
        frame.pts, frame.time_base = index, 1 / encoding.rate
        frame.color_range, frame.colorspace = encoding.color.range, encoding.color.matrix
        frame.color_primaries, frame.color_trc = encoding.color.primaries, encoding.color.transfer
        yield frame
    yield None  # flushes the encoder


@dataclass(frozen=True)
class Packet:
    """One encoded picture; `order` is its place in the piece as shown."""

    order: int
    key: bool
    data: bytes


def read_piece(path: Path) -> Iterator[Packet]:
    """The packets of a piece in decoding order."""
    with load_arrays(path) as piece:
        order, key, size, data = (piece[name] for name in ("order", "key", "size", "data"))
    start = 0
    for place, length in enumerate(size.tolist()):
        yield Packet(int(order[place]), bool(key[place]), data[start : start + length].tobytes())
        start += length
