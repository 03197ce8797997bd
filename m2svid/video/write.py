"""Encoding: the pictures of one window become a piece, a file of finished packets.

A piece can be decoded on its own, so pieces made at different times join into one film without being
encoded again: a film that is continued after an interruption equals one that never was.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec.context import Flags

from m2svid.errors import UserError
from m2svid.files import load_arrays, save_arrays
from m2svid.video import mv_hevc, nvenc, x264
from m2svid.video.codecs import ENCODERS, SPEED_NAMES, CodecName, EncoderName, containers, is_playable
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
        encoder: software, or nvenc on an NVIDIA card.
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
    encoder: EncoderName = "software"

    @property
    def encoder_name(self) -> str:
        """FFmpeg's name of the encoder."""
        return nvenc.NAMES[self.codec] if self.encoder == "nvenc" else ENCODERS[self.codec]

    @property
    def pix_fmt(self) -> str:
        """FFmpeg's name of the samples that the encoder takes."""
        name = self.pixel_format.name
        return nvenc.pix_fmt(name) if self.encoder == "nvenc" else name

    def options(self) -> dict[str, str]:
        """Options of the encoder, as FFmpeg names them."""
        if self.encoder == "nvenc":
            return nvenc.options(self.crf, self.speed)
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
            options["x265-params"] = ":".join(["log-level=error", *params, *self.told_mastering()])
        if self.codec == "av1" and self.told_mastering():
            options["svtav1-params"] = ":".join(self.told_mastering())
        if self.codec == "prores":
            options["profile"] = "hq" if self.pixel_format.chroma == "422" else "4444"
        return options

    def _x264_params(self) -> list[str]:
        # An interrupted film must equal a whole one.
        packing = [] if self.packing is None else [f"frame-packing={self.packing}"]
        return [*packing, *x264.repeatable(), *self.told_mastering()]

    def told_mastering(self) -> list[str]:
        """Parameters that tell the encoder about `mastering`; none for NVENC, which takes none."""
        told = self.mastering is not None and self.encoder == "software"
        return self.mastering.parameters(self.codec) if told else []

    def apply(self, target: av.VideoStream | av.VideoCodecContext) -> None:
        """Set up an encoder or an output stream."""
        target.width, target.height = self.width, self.height
        target.pix_fmt = self.pix_fmt
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
        if self.encoder == "nvenc" and self.codec == "h264" and self.packing is not None:
            return "NVENC does not announce the layout within H.264: a TV may have to be told that it is 3D"
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
    if encoding.encoder == "nvenc":
        bits, quality = encoding.pixel_format.bits, encoding.crf
        nvenc.check(encoding.codec, bits, encoding.layers, quality, encoding.speed)
    name = encoding.encoder_name
    if name not in av.codecs_available:
        raise UserError(
            f"--codec {encoding.codec} needs the encoder {name}, which this PyAV was built without"
        )
    try:
        _opened(encoding)
    except av.FFmpegError as error:
        given = {"--speed": encoding.speed, "--crf": encoding.crf}
        options = [f"{option} {value}" for option, value in given.items() if value is not None]
        picture = f"{encoding.width}×{encoding.height}, {encoding.pixel_format.name}"
        hint = SPEED_NAMES.get(encoding.codec, "give another codec or layout")
        hint = nvenc.NEEDS if encoding.encoder == "nvenc" else hint
        raise UserError(
            f"--codec {encoding.codec} can't store pictures of {', with '.join([picture, *options])}: {hint}"
        ) from error


class PieceWriter:
    """Encode pictures into a piece, which appears under its name only when complete.

    Args:
        encoding: of the pictures.
        path: the piece.
    """

    def __init__(self, encoding: Encoding, path: Path) -> None:
        self._encoding, self._path = encoding, path
        self._encoders = [_opened(encoding) for _ in range(2 if encoding.layers else 1)]
        self._packets: list[list[Packet]] = [[] for _ in self._encoders]
        self._count = 0

    def add(self, planes: list[Plane]) -> None:
        """Take the next picture: Y, U and V."""
        count = len(self._encoders)
        for place, part in enumerate(zip(*(np.split(plane, count) for plane in planes), strict=True)):
            self._encode(place, self._frame(part))
        self._count += 1

    def finish(self) -> None:
        """Encode what the encoder has kept back, and write the piece. Raises UserError where it can't be."""
        for place in range(len(self._encoders)):
            self._encode(place, None)
        packets, headers = self._layered() if self._encoding.layers else (self._packets[0], self._headers(0))
        save_arrays(
            self._path,
            order=np.array([packet.order for packet in packets], np.int64),
            key=np.array([packet.key for packet in packets]),
            size=np.array([len(packet.data) for packet in packets], np.int64),
            data=np.frombuffer(b"".join(packet.data for packet in packets), np.uint8),
            headers=np.frombuffer(headers, np.uint8),
        )

    def _encode(self, place: int, frame: av.VideoFrame | None) -> None:
        for packet in self._encoders[place].encode(frame):
            self._packets[place].append(Packet(packet.pts, packet.is_keyframe, bytes(packet)))

    def _frame(self, planes: Sequence[Plane]) -> av.VideoFrame:
        encoding = self._encoding
        frame = from_planes(planes, encoding.pixel_format.name)
        if encoding.pix_fmt != encoding.pixel_format.name:
            frame = frame.reformat(format=encoding.pix_fmt, threads=1)
        frame.pts, frame.time_base = self._count, 1 / encoding.rate
        frame.color_range, frame.colorspace = encoding.color.range, encoding.color.matrix
        frame.color_primaries, frame.color_trc = encoding.color.primaries, encoding.color.transfer
        return frame

    def _headers(self, place: int) -> bytes:
        return self._encoders[place].extradata or b""

    def _layered(self) -> tuple[list[Packet], bytes]:
        left, right = self._packets
        headers = self._headers(0)
        same = [(p.order, p.key) for p in left] == [(p.order, p.key) for p in right]
        if headers != self._headers(1) or not same:
            raise RuntimeError("both views were not encoded alike")
        layers = mv_hevc.Layers(headers)
        joined = [
            replace(one, data=layers.join(one.data, two.data)) for one, two in zip(left, right, strict=True)
        ]
        return joined, layers.headers


class PicturePiece:
    """Keep one picture as a piece.

    Args:
        path: the piece.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, planes: list[Plane]) -> None:
        """Take the picture: red, green and blue."""
        self._rgb = np.stack(planes, axis=-1)

    def finish(self) -> None:
        """Write it. Raises UserError where it can't be."""
        save_arrays(self._path, rgb=self._rgb)


def encode(pictures: Iterable[list[Plane]], encoding: Encoding, path: Path) -> None:
    """Encode pictures, Y, U and V of each, into a piece; other arguments as of `PieceWriter`."""
    piece = PieceWriter(encoding, path)
    for planes in pictures:
        piece.add(planes)
    piece.finish()


def _opened(encoding: Encoding) -> av.VideoCodecContext:
    encoder = av.CodecContext.create(encoding.encoder_name, "w")
    encoding.apply(encoder)
    encoder.flags |= Flags.global_header
    with same_priority():
        encoder.open()
    return encoder


@contextmanager
def same_priority() -> Iterator[None]:
    """Give this thread its priority back after an encoder is opened in the context.

    Where it may, as root, SVT-AV1 makes the thread real-time. All threads and programs that are started later
    inherit that, and it keeps all others from running.
    """
    if not hasattr(os, "sched_setscheduler"):  # not on Linux
        yield
        return
    scheduling = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != scheduling[0]:
            os.sched_setscheduler(0, *scheduling)


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
