"""Reading videos, image sequences and single pictures, one frame at a time.

Shapes: H W pixels as the viewer sees them (a phone's rotation is applied).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange

from m2svid.errors import UserError
from m2svid.files import natural, url
from m2svid.video import hdr
from m2svid.video.bars import Box
from m2svid.video.decode import DeviceError, KeyFrame, Notes, decoded, deinterlaced, opened
from m2svid.video.hdr import Pixels
from m2svid.video.hwaccel import Hwaccel, find_device
from m2svid.video.info import SDR, Color, Orientation, VideoInfo, is_rgb
from m2svid.video.planes import (
    QUALITY,
    PixelFormat,
    Plane,
    from_planes,
    rgb_to_planes,
    to_planes,
    to_rgb,
)

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"}
VIDEO_SUFFIXES = {
    ".mp4",
    ".m4v",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".mpg",
    ".mpeg",
    ".ts",
    ".m2ts",
    ".wmv",
    ".flv",
}
_BROADCAST = {"mpegts", "mpeg"}  # containers whose clock need not begin at 0


@dataclass(frozen=True)
class Frame:
    """A decoded frame.

    Attributes:
        index: number of the frame, from 0.
        pts: presentation time in units of `info.time_base`; None where the file has none.
        raw: as the decoder gave it.
        info: of its video.
    """

    index: int
    pts: int | None
    raw: av.VideoFrame
    info: VideoInfo

    def rgb(self, bits: int = 8, whole: bool = False) -> Pixels:
        """(H, W, 3): uint8, or uint16 of full scale for more than 8 bits; of HDR, what networks are shown.

        In memory, it is three planes, one after the other.

        Args:
            bits: of a sample.
            whole: with black bars, which `info.picture` leaves out.
        """
        info = self.info
        wide = bits > 8 or info.hdr is not None or info.stored is not None
        if is_rgb(self.raw.format):
            packed = self._reformat("rgb48le" if wide else "rgb24", True).to_ndarray()
            decoded = packed.transpose(2, 0, 1)
        else:  # equal to the bit, in a quarter of the time: swscale has quick loops for planes alone
            decoded = to_rgb(self._reformat("gbrp16le" if wide else "gbrp", True))
        rgb = info.orientation.apply(decoded).transpose(1, 2, 0)
        if info.stored is not None:
            rgb = hdr.to_sdr(rgb, info.stored.transfer)
        elif info.hdr is not None:
            rgb = hdr.to_view(rgb, info.color.transfer)
        if wide and bits == 8:
            rgb = (rgb / 256).round().clip(0, 255).astype(np.uint8)
        return rgb if whole or info.picture is None else rgb[info.picture.inside]

    def with_bars(self, view: Pixels) -> Pixels:
        """The frame (H, W, 3) with another view of the picture, which its bars surround."""
        if self.info.picture is None:
            return view
        whole = self.rgb(8 if view.dtype == np.uint8 else 16, whole=True)
        whole[self.info.picture.inside] = view
        return whole

    def small_bgr(self, width: int) -> Pixels:
        """(h, w, 3) uint8, the frame at about this width, not turned: for finding cuts."""
        height = max(1, round(self.raw.height * width / self.raw.width))
        return self.raw.reformat(width, height, "bgr24", threads=1).to_ndarray()

    def planes(self, pixel_format: PixelFormat, full_range: bool | None = None) -> list[Plane]:
        """Y, U and V of the whole frame; the decoded samples where format and range are the decoded ones.

        Args:
            pixel_format: of the planes.
            full_range: of the planes; None = as decoded.
        """
        wanted = self.info.full_range if full_range is None else full_range
        if self.info.stored is not None:
            color_range = ColorRange.JPEG if wanted else ColorRange.MPEG
            return rgb_to_planes(self.rgb(16, whole=True), pixel_format, self.info.matrix, color_range)
        turns = self.info.orientation.quarter_turns
        if pixel_format.chroma == "422" and turns % 2:  # turned, it would be 4:4:0
            whole = PixelFormat("444", pixel_format.bits)
            turned = from_planes(self.planes(whole, full_range), whole.name)
            return to_planes(turned.reformat(format=pixel_format.name, interpolation=QUALITY))
        own = self.raw.format.name.replace("yuvj", "yuv") == pixel_format.name
        same = own and wanted == self.info.full_range
        decoded = self.raw if same else self._reformat(pixel_format.name, wanted)
        return [self.info.orientation.apply(plane) for plane in to_planes(decoded)]

    def _reformat(self, pix_fmt: str, full_range: bool) -> av.VideoFrame:
        full = (self.info.stored or self.info.color).range == ColorRange.JPEG
        return self.raw.reformat(
            format=pix_fmt,
            src_colorspace=self.info.stored_matrix,
            dst_colorspace=self.info.stored_matrix,
            src_color_range=ColorRange.JPEG if full or is_rgb(self.raw.format) else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG if full_range else ColorRange.MPEG,
            interpolation=QUALITY,
            threads=1,
        )


class Video:
    """A video file, a folder of pictures, or one picture.

    Args:
        path: of the file or folder.
        rate: frames per second of a folder of pictures.
        autocrop: whether the survey looks for black bars.
        deinterlace: make whole pictures of the two fields of each frame (FFmpeg's bwdif).
        to_sdr: convert HDR to BT.709.
        hwaccel: what may decode it for `frames` with `on_device`.
        second_layer: read the view in the second layer of the stream, which `has_layers` has found.

    Raises:
        UserError: the file is missing or holds no video, or no such device can decode it.
    """

    def __init__(
        self,
        path: Path,
        rate: Fraction | None = None,
        autocrop: bool = False,
        deinterlace: bool = False,
        to_sdr: bool = False,
        hwaccel: Hwaccel = "off",
        second_layer: bool = False,
    ) -> None:
        self.path = path
        self._pictures = _pictures(path)
        if self._pictures and rate is None:
            if len(self._pictures) > 1:
                raise UserError(
                    f"{path} is a folder of pictures: say how fast they follow each other with --fps"
                )
            rate = Fraction(1)
        if not self._pictures and rate is not None:
            raise UserError(f"--fps is for folders of pictures; {path} has its own frame times")
        self._rate = rate
        self._deinterlace = deinterlace
        self._second_layer = second_layer
        self.autocrop = autocrop and not self.is_picture
        self.info = self._probe(to_sdr)
        if self._pictures and hwaccel not in ("off", "auto"):
            raise UserError(f"--hwaccel {hwaccel} is for video files; {path} holds pictures: leave it out")
        self._device = None if self._pictures else find_device(path, hwaccel)

    @property
    def is_picture(self) -> bool:
        """One picture, not a film."""
        return len(self._pictures) == 1

    @property
    def is_container(self) -> bool:
        """A file that may hold sound, subtitles and chapters too."""
        return not self._pictures

    def frames(
        self,
        start: int = 0,
        keys: Sequence[KeyFrame] = (),
        notes: Notes | None = None,
        on_device: bool = False,
    ) -> Iterator[Frame]:
        """The frames from number `start` on, in the order in which they are shown.

        Args:
            start: number of the first frame.
            keys: the key frames, known from an earlier reading, in order; with them the file is read from the
                last one before `start` and not from its beginning.
            notes: filled while the file is read.
            on_device: use what `hwaccel` has found. It is for films without damage, which devices don't
                notice inside of pictures and patch up in their own way. Where one fails, the CPU takes over.

        Raises:
            UserError: the file can't be read, or the pictures change their size.
        """
        if on_device and self._device is not None:
            try:
                for frame in self._frames(start, keys, notes, self._device):
                    yield frame
                    start = frame.index + 1
                return
            except DeviceError as error:
                log.warning("%s: %s can't decode it: %s; the CPU takes over", self.path, self._device, error)
                self._device = None
        yield from self._frames(start, keys, notes, None)

    def _frames(
        self, start: int, keys: Sequence[KeyFrame], notes: Notes | None, device: str | None
    ) -> Iterator[Frame]:
        begin = start - 2 if self._deinterlace else start  # it looks at the frames on both sides
        key = next((key for key in reversed(keys) if key.index <= begin), None)
        first = start if self._pictures else key.index if key else 0
        raws = self._raw(first, key, notes, device)
        for index, raw in enumerate(deinterlaced(raws) if self._deinterlace else raws, first):
            if index >= start:
                yield Frame(index, raw.pts, raw, self.info)

    def crop(self, picture: Box | None) -> None:
        """Leave black bars out of the frames read from now on."""
        self.info = replace(self.info, picture=picture)

    def _raw(
        self, start: int, key: KeyFrame | None, notes: Notes | None = None, device: str | None = None
    ) -> Iterator[av.VideoFrame]:
        pictures = map(_decode_picture, self._pictures[start:])
        layer = self._second_layer
        found = pictures if self._pictures else decoded(self.path, key, notes, device, layer)
        for index, raw in enumerate(found, start):
            if (raw.width, raw.height) != self._stored:
                width, height = self._stored
                raise UserError(
                    f"{self.path} is {width}×{height}, but from frame {index} on {raw.width}×{raw.height}: "
                    "convert its parts as films of their own"
                )
            if self._pictures:
                raw.pts = index
            yield raw

    def _probe(self, to_sdr: bool) -> VideoInfo:
        if self._pictures:
            raw, frames = _decode_picture(self._pictures[0]), len(self._pictures)
            rate, time_base, aspect, start = self._rate, 1 / self._rate, None, Fraction(0)
        else:
            with opened(self.path) as (container, stream):
                rate = stream.average_rate or stream.guessed_rate or Fraction(25)
                time_base, aspect = stream.time_base, stream.sample_aspect_ratio
                shown = (stream.duration or 0) * time_base * rate  # an edit list may leave some out
                frames = 0 if 0 < shown < stream.frames - 1 else stream.frames
                begin = container.start_time if container.format.name in _BROADCAST else None
                start = Fraction(max(0, begin or 0), av.time_base)
            raw = next(decoded(self.path), None)
            if raw is None:
                raise UserError(f"{self.path} has a video stream without a frame")
        color, orientation = Color.of(raw), Orientation.of(raw)
        pixel_format, stored = PixelFormat.nearest(raw.format.name), None
        if to_sdr and color.transfer in hdr.HDR:
            color, stored, pixel_format = SDR, color, PixelFormat(pixel_format.chroma, 8)
        elif to_sdr:
            log.warning("%s is no HDR: --to-sdr changes nothing", self.path)
        if self.is_picture and color.transfer in hdr.HDR:
            raise UserError(f"{self.path} is an HDR picture, which can't be written as one: give --to-sdr")
        self._stored = raw.width, raw.height
        sideways = orientation.quarter_turns % 2 == 1
        width, height = (raw.height, raw.width) if sideways else (raw.width, raw.height)
        aspect = aspect or Fraction(1)
        if sideways:
            aspect = 1 / aspect
            if pixel_format.chroma == "422":
                pixel_format = PixelFormat("444", pixel_format.bits)
        return VideoInfo(
            *(width, height, rate, time_base, pixel_format, color, orientation, aspect, frames, start),
            stored=stored,
            mastering=None if stored else hdr.Mastering.of(raw),
            dynamic=() if stored else hdr.dynamic(raw),
        )


def parse_rate(fps: str) -> Fraction:
    """Frames per second of a number or a fraction such as 24000/1001. Raises a UserError for others."""
    try:
        rate = Fraction(fps)
    except (ValueError, ZeroDivisionError) as error:
        raise UserError(f"--fps must be a number or a fraction such as 24000/1001, not {fps!r}") from error
    if rate <= 0:
        raise UserError(f"--fps must be above 0, not {fps}")
    return rate


def list_pictures(folder: Path) -> list[Path]:
    """The pictures of a folder in the order of their names, f2 before f10."""
    return sorted((file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES), key=natural)


def _pictures(path: Path) -> list[Path]:
    if path.is_dir():
        found = list_pictures(path)
        if not found:
            raise UserError(f"the folder {path} holds no picture ({', '.join(sorted(IMAGE_SUFFIXES))})")
        return found
    return [path] if path.suffix.lower() in IMAGE_SUFFIXES else []


def _decode_picture(path: Path) -> av.VideoFrame:
    try:
        with av.open(url(path)) as container:
            return next(container.decode(video=0))
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except (av.FFmpegError, StopIteration, IndexError) as error:
        raise UserError(f"{path} is not a picture that can be read") from error
