"""Encoding: the pictures of one window become a piece, a file of finished packets.

A piece can be decoded on its own, so pieces made at different times join into one film without being
encoded again: a film that is continued after an interruption equals one that never was.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec.context import Flags

from m2svid.errors import UserError
from m2svid.files import load_arrays, save_arrays
from m2svid.video import mv_hevc, x264
from m2svid.video.codecs import ENCODERS, SPEED_NAMES, CodecName, containers, is_playable
from m2svid.video.hdr import Mastering
from m2svid.video.info import UNTAGGED, Color
from m2svid.video.planes import PixelFormat, Plane, from_planes

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
        speed: the encoder's preset; None where the encoder has none.
        packing: H.264 frame packing arrangement to announce.
        layers: both views are layers of an H.265 stream; the pictures hold one above the other, the stream's
            pictures one.
        fov: horizontal angle of the film's camera, degrees, to be told of layers; None = not known.
        mastering: what HDR says of the screen that it was graded on.
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
    speed: str | None
    packing: int | None = None
    layers: bool = False
    fov: float | None = None
    depth: str | None = None
    mastering: Mastering | None = None

    def options(self) -> dict[str, str]:
        """Options of the encoder, as FFmpeg names them."""
        options = {}
        if self.crf is not None:
            options["crf"] = str(self.crf)
        if self.speed is not None:
            options["preset"] = self.speed
        if self.codec == "h264":
            options["x264-params"] = ":".join(self._x264_params())
        if self.codec == "h265":
            structure = mv_hevc.STRUCTURE if self.layers else {}
            params = [f"{name}={value}" for name, value in structure.items()]
            options["x265-params"] = ":".join(["log-level=error", *params, *self._mastering()])
        if self.codec == "av1" and self._mastering():
            options["svtav1-params"] = ":".join(self._mastering())
        if self.codec == "prores":
            options["profile"] = "hq" if self.pixel_format.chroma == "422" else "4444"
        return options

    def _x264_params(self) -> list[str]:
        # An interrupted film must equal a whole one.
        packing = [] if self.packing is None else [f"frame-packing={self.packing}"]
        return [*packing, *x264.repeatable(), *self._mastering()]

    def _mastering(self) -> list[str]:
        return [] if self.mastering is None else self.mastering.parameters(self.codec)

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
        if self.codec == "av1":
            os.environ.setdefault("SVT_LOG", "1")  # errors only; SVT-AV1 looks when it is first used

    @property
    def containers(self) -> tuple[str, ...]:
        """Suffixes of the containers that take it."""
        return containers(self.codec, self.layers)

    def warning(self) -> str | None:
        """What players may not like about it."""
        size = f"{self.width}×{self.height}"
        if not is_playable(self.codec, self.width, self.height):
            other = "; --codec h265 goes further" if self.codec == "h264" else ""
            return f"{size} is more than any level of {self.codec} that players have: few will show it{other}"
        if self.codec == "h264" and self.pixel_format.bits > 8:
            return "few players have H.264 of 10 bits: --codec h265 or --bits 8 plays on more"
        return None


def lossless(
    pixel_format: PixelFormat,
    width: int,
    height: int,
    rate: Fraction,
    aspect: Fraction = Fraction(1),
    color: Color = UNTAGGED,
) -> Encoding:
    """FFV1, for results that other programs read; arguments as of `Encoding`."""
    return Encoding("ffv1", pixel_format, width, height, rate, color, aspect, crf=None, speed=None)


def inverse_depth(width: int, height: int, rate: Fraction, aspect: Fraction = Fraction(1)) -> Encoding:
    """FFV1 of 16-bit gray that says it is inverse depth, white being nearest; arguments as of `Encoding`."""
    return replace(lossless(PixelFormat("400", 16), width, height, rate, aspect), depth="inverse")


def check_encoder(encoding: Encoding) -> None:
    """Open the encoder once, before the work begins.

    Raises:
        UserError: this PyAV has none, or it refuses the options.
    """
    name = ENCODERS[encoding.codec]
    if name not in av.codecs_available:
        raise UserError(
            f"--codec {encoding.codec} needs the encoder {name}, which this PyAV was built without"
        )
    try:
        _opened(encoding).open()
    except av.FFmpegError as error:
        given = {"--speed": encoding.speed, "--crf": encoding.crf}
        options = [f"{option} {value}" for option, value in given.items() if value is not None]
        picture = f"{encoding.width}×{encoding.height}, {encoding.pixel_format.name}"
        raise UserError(
            f"--codec {encoding.codec} can't store pictures of {', with '.join([picture, *options])}: "
            f"{SPEED_NAMES.get(encoding.codec, 'give another codec or layout')}"
        ) from error


def encode(pictures: Iterable[list[Plane]], encoding: Encoding, path: Path) -> None:
    """Encode pictures into a piece; it appears under its name only when complete.

    Args:
        pictures: Y, U and V of every picture, in order.
        encoding: of the pictures.
        path: the piece.
    """
    packets, headers = _layered(pictures, encoding) if encoding.layers else _encoded(pictures, encoding)
    save_arrays(
        path,
        order=np.array([packet.order for packet in packets], np.int64),
        key=np.array([packet.key for packet in packets]),
        size=np.array([len(packet.data) for packet in packets], np.int64),
        data=np.frombuffer(b"".join(packet.data for packet in packets), np.uint8),
        headers=np.frombuffer(headers, np.uint8),
    )


def _encoded(pictures: Iterable[list[Plane]], encoding: Encoding) -> tuple[list[Packet], bytes]:
    """Packets in decoding order, and the stream's headers."""
    encoder = _opened(encoding)
    packets = [packet for frame in _frames(pictures, encoding) for packet in encoder.encode(frame)]
    return [
        Packet(packet.pts, packet.is_keyframe, bytes(packet)) for packet in packets
    ], encoder.extradata or b""


def _layered(pictures: Iterable[list[Plane]], encoding: Encoding) -> tuple[list[Packet], bytes]:
    both = [[np.split(plane, 2) for plane in planes] for planes in pictures]
    (left, headers), (right, same) = (
        _encoded(([plane[eye] for plane in planes] for planes in both), encoding) for eye in (0, 1)
    )
    if headers != same or [(p.order, p.key) for p in left] != [(p.order, p.key) for p in right]:
        raise RuntimeError("both views were not encoded alike")
    layers = mv_hevc.Layers(headers)
    joined = [
        replace(one, data=layers.join(one.data, two.data)) for one, two in zip(left, right, strict=True)
    ]
    return joined, layers.headers


def _opened(encoding: Encoding) -> av.VideoCodecContext:
    encoder = av.CodecContext.create(ENCODERS[encoding.codec], "w")
    encoding.apply(encoder)
    encoder.flags |= Flags.global_header
    return encoder


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


def piece_headers(path: Path) -> bytes:
    """The headers of the stream of a piece."""
    with load_arrays(path) as piece:
        return piece["headers"].tobytes()
