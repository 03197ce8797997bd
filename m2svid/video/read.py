"""Reading videos, image sequences and single pictures, one frame at a time.

Shapes: H W pixels as the viewer sees them (a phone's rotation is applied).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, ColorTrc
from numpy.typing import NDArray

from m2svid.errors import UserError
from m2svid.files import natural, url
from m2svid.video.decode import KeyFrame, Notes, decoded, opened
from m2svid.video.info import Color, Orientation, VideoInfo, is_rgb
from m2svid.video.planes import QUALITY, PixelFormat, Plane, from_planes, to_planes

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
_HDR = {ColorTrc.SMPTE2084: "PQ (HDR10, Dolby Vision)", ColorTrc.ARIB_STD_B67: "HLG"}
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

    def rgb(self, bits: int = 8) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """(H, W, 3): uint8, or uint16 of full scale for more than 8 bits."""
        return self.info.orientation.apply(
            self._reformat("rgb24" if bits == 8 else "rgb48le", True).to_ndarray()
        )

    def small_bgr(self, width: int) -> NDArray[np.uint8]:
        """(h, w, 3) uint8, the frame at about this width, not turned: for finding cuts."""
        height = max(1, round(self.raw.height * width / self.raw.width))
        return self.raw.reformat(width, height, "bgr24").to_ndarray()

    def planes(self, pixel_format: PixelFormat, full_range: bool | None = None) -> list[Plane]:
        """Y, U and V; the decoded samples themselves where format and range are the decoded ones.

        Args:
            pixel_format: of the planes.
            full_range: of the planes; None = as decoded.
        """
        wanted = self.info.full_range if full_range is None else full_range
        turns = self.info.orientation.quarter_turns
        if pixel_format.chroma == "422" and turns % 2:  # turned, it would be 4:4:0
            whole = PixelFormat("444", pixel_format.bits)
            turned = from_planes(self.planes(whole, full_range), whole)
            return to_planes(turned.reformat(format=pixel_format.name, interpolation=QUALITY))
        own = self.raw.format.name.replace("yuvj", "yuv") == pixel_format.name
        same = own and wanted == self.info.full_range
        decoded = self.raw if same else self._reformat(pixel_format.name, wanted)
        return [self.info.orientation.apply(plane) for plane in to_planes(decoded)]

    def _reformat(self, pix_fmt: str, full_range: bool) -> av.VideoFrame:
        stored = is_rgb(self.raw.format) or self.info.full_range
        return self.raw.reformat(
            format=pix_fmt,
            src_colorspace=self.info.matrix,
            dst_colorspace=self.info.matrix,
            src_color_range=ColorRange.JPEG if stored else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG if full_range else ColorRange.MPEG,
            interpolation=QUALITY,
        )


class Video:
    """A video file, a folder of pictures, or one picture.

    Raises:
        UserError: the file is missing, holds no video, or is HDR.
    """

    def __init__(self, path: Path, rate: Fraction | None = None) -> None:
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
        self.info = self._probe()

    @property
    def is_picture(self) -> bool:
        """One picture, not a film."""
        return len(self._pictures) == 1

    @property
    def is_container(self) -> bool:
        """A file that may hold sound, subtitles and chapters too."""
        return not self._pictures

    def frames(
        self, start: int = 0, keys: Sequence[KeyFrame] = (), notes: Notes | None = None
    ) -> Iterator[Frame]:
        """The frames from number `start` on, in the order in which they are shown.

        Args:
            start: number of the first frame.
            keys: the key frames, known from an earlier reading, in order; with them the file is read from the
                last one before `start` and not from its beginning.
            notes: filled while the file is read.

        Raises:
            UserError: the file can't be read, or the pictures change their size.
        """
        key = next((key for key in reversed(keys) if key.index <= start), None)
        first = start if self._pictures else key.index if key else 0
        for index, raw in enumerate(self._raw(first, key, notes), first):
            if (raw.width, raw.height) != self._stored:
                width, height = self._stored
                raise UserError(
                    f"{self.path} is {width}×{height}, but from frame {index} on {raw.width}×{raw.height}: "
                    "convert its parts as films of their own"
                )
            if index >= start:
                yield Frame(index, raw.pts, raw, self.info)

    def _raw(self, start: int, key: KeyFrame | None, notes: Notes | None) -> Iterator[av.VideoFrame]:
        if not self._pictures:
            yield from decoded(self.path, key, notes)
        for index, path in enumerate(self._pictures[start:], start):
            raw = _decode_picture(path)
            raw.pts = index
            yield raw

    def _probe(self) -> VideoInfo:
        if self._pictures:
            raw, frames = _decode_picture(self._pictures[0]), len(self._pictures)
            rate, time_base, aspect, start = self._rate, 1 / self._rate, None, Fraction(0)
        else:
            with opened(self.path) as (container, stream):
                rate = stream.average_rate or stream.guessed_rate or Fraction(25)
                time_base, aspect = stream.time_base, stream.sample_aspect_ratio
                shown = (
                    (stream.duration or 0) * time_base * rate
                )  # fewer where an edit list leaves frames out
                frames = 0 if 0 < shown < stream.frames - 1 else stream.frames
                begin = container.start_time if container.format.name in _BROADCAST else None
                start = Fraction(max(0, begin or 0), av.time_base)
            raw = next(decoded(self.path), None)
            if raw is None:
                raise UserError(f"{self.path} has a video stream without a frame")
        color, orientation = Color.of(raw), Orientation.of(raw)
        if color.transfer in _HDR:
            raise UserError(
                f"{self.path} is HDR with {_HDR[ColorTrc(color.transfer)]}, which the models were not made "
                "for: convert it to SDR (BT.709) first, for instance with FFmpeg's zscale and tonemap filters"
            )
        if raw.interlaced_frame:
            log.warning("%s is interlaced: deinterlace it first, or both views will be combed", self.path)
        self._stored = raw.width, raw.height
        sideways = orientation.quarter_turns % 2 == 1
        width, height = (raw.height, raw.width) if sideways else (raw.width, raw.height)
        pixel_format = PixelFormat.nearest(raw.format.name)
        aspect = aspect or Fraction(1)
        if sideways:
            aspect = 1 / aspect
            if pixel_format.chroma == "422":
                pixel_format = PixelFormat("444", pixel_format.bits)
        return VideoInfo(
            width, height, rate, time_base, pixel_format, color, orientation, aspect, frames, start
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
