"""Reading videos, image sequences and single pictures, one frame at a time.

Shapes: H W pixels as the viewer sees them (a phone's rotation is applied).
"""

from __future__ import annotations

import bisect
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray

from m2svid.errors import UserError
from m2svid.files import natural, url
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
# Numbers of the matrix in the stream (ITU-T H.273) that swscale names; others follow the size.
_MATRICES = {1: Colorspace.ITU709, 4: Colorspace.FCC, 5: Colorspace.ITU601, 6: Colorspace.ITU601}
_MATRICES |= {7: Colorspace.SMPTE240M, 9: Colorspace.BT2020}


@dataclass(frozen=True)
class Color:
    """Meaning of a stream's samples, as ITU-T H.273 numbers; 2 (range: 0) = unknown."""

    range: int
    primaries: int
    transfer: int
    matrix: int


UNTAGGED = Color(int(ColorRange.JPEG), 2, 2, 2)  # samples that are no colours: full range


@dataclass(frozen=True)
class VideoInfo:
    """Facts about a video, known before its frames are read.

    Attributes:
        width: of a frame as it is to be seen, px.
        height: of a frame as it is to be seen, px.
        rate: frames per second on average; exact.
        time_base: unit of the frames' `pts`, s.
        pixel_format: planar YUV that holds the decoded samples.
        color: tags of the stream.
        quarter_turns: how often a decoded frame is to be turned left by 90°.
        aspect: width of a pixel over its height.
        frames: how many the container announces; 0 = it doesn't say.
    """

    width: int
    height: int
    rate: Fraction
    time_base: Fraction
    pixel_format: PixelFormat
    color: Color
    quarter_turns: int
    aspect: Fraction
    frames: int

    @property
    def matrix(self) -> Colorspace:
        """YUV matrix: the tagged one, else BT.709 from 720 rows on and BT.601 below, as players assume."""
        guess = Colorspace.ITU709 if self.height >= 720 else Colorspace.ITU601
        return _MATRICES.get(self.color.matrix, guess)

    @property
    def full_range(self) -> bool:
        return self.color.range == ColorRange.JPEG


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
        return self._turned(self._reformat("rgb24" if bits == 8 else "rgb48le").to_ndarray())

    def small_bgr(self, width: int) -> NDArray[np.uint8]:
        """(h, w, 3) uint8, the frame at about this width, not turned: for finding cuts."""
        height = max(1, round(self.raw.height * width / self.raw.width))
        return self.raw.reformat(width, height, "bgr24").to_ndarray()

    def planes(self, pixel_format: PixelFormat) -> list[Plane]:
        """Y, U and V; the decoded samples themselves where the format is the decoded one."""
        if pixel_format.chroma == "422" and self.info.quarter_turns % 2:  # turned, it would be 4:4:0
            whole = PixelFormat("444", pixel_format.bits)
            turned = from_planes(self.planes(whole), whole)
            return to_planes(turned.reformat(format=pixel_format.name, interpolation=QUALITY))
        own = self.raw.format.name.replace("yuvj", "yuv") == pixel_format.name
        decoded = self.raw if own else self._reformat(pixel_format.name)
        return [self._turned(plane) for plane in to_planes(decoded)]

    def _reformat(self, pix_fmt: str) -> av.VideoFrame:
        rgb = self.raw.format.is_rgb
        stored = ColorRange.JPEG if rgb or self.info.full_range else ColorRange.MPEG
        wanted = ColorRange.JPEG if pix_fmt.startswith("rgb") or self.info.full_range else ColorRange.MPEG
        return self.raw.reformat(
            format=pix_fmt,
            src_colorspace=self.info.matrix,
            dst_colorspace=self.info.matrix,
            src_color_range=stored,
            dst_color_range=wanted,
            interpolation=QUALITY,
        )

    def _turned(self, array: np.ndarray) -> np.ndarray:
        turns = self.info.quarter_turns
        return np.ascontiguousarray(np.rot90(array, turns)) if turns else array


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

    def frames(self, start: int = 0, times: Sequence[int] | None = None) -> Iterator[Frame]:
        """The frames from number `start` on, in the order in which they are shown.

        Args:
            start: number of the first frame.
            times: `pts` of all frames, known from an earlier reading; with them the file is read from
                the last key frame before `start` and not from its beginning.

        Raises:
            UserError: the file is damaged.
        """
        if self._pictures:
            for index in range(start, len(self._pictures)):
                yield Frame(index, index, _decode_picture(self._pictures[index]), self.info)
            return
        index = 0
        for raw, index in self._decoded(start, times):
            if index >= start:
                yield Frame(index, raw.pts, raw, self.info)

    def _decoded(self, start: int, times: Sequence[int] | None) -> Iterator[tuple[av.VideoFrame, int]]:
        index = -1
        try:
            with av.open(url(self.path)) as container:
                stream = _video_stream(container, self.path)
                stream.thread_type = "AUTO"
                if start and times is not None:
                    container.seek(times[start], stream=stream)
                for raw in container.decode(stream):
                    if index < 0 and start and times is not None:
                        found = bisect.bisect_left(times, raw.pts if raw.pts is not None else times[-1] + 1)
                        if found > start or times[found] != raw.pts:
                            break  # the file can't be searched: read it from its beginning
                        index = found - 1
                    index += 1
                    yield raw, index
                else:
                    return
        except av.FFmpegError as error:
            raise UserError(f"{self.path} can't be read after frame {index}: {error.strerror}") from error
        yield from self._decoded(start, None)

    def _probe(self) -> VideoInfo:
        if self._pictures:
            raw, rate, time_base, frames = (
                _decode_picture(self._pictures[0]),
                self._rate,
                None,
                len(self._pictures),
            )
            aspect = None
        else:
            raw, rate, time_base, frames, aspect = self._open_stream()
        color = _color(raw)
        if color.transfer in _HDR:
            raise UserError(
                f"{self.path} is HDR with {_HDR[ColorTrc(color.transfer)]}, which the models were not made "
                "for: convert it to SDR (BT.709) first, for instance with FFmpeg's zscale and tonemap filters"
            )
        if raw.interlaced_frame:
            log.warning("%s is interlaced: deinterlace it first, or both views will be combed", self.path)
        turns = round(raw.rotation / 90) % 4
        width, height = (raw.height, raw.width) if turns % 2 else (raw.width, raw.height)
        pixel_format = PixelFormat.nearest(raw.format.name)
        if turns % 2:
            aspect = 1 / aspect if aspect else None
            if pixel_format.chroma == "422":
                pixel_format = PixelFormat("444", pixel_format.bits)
        return VideoInfo(
            width,
            height,
            rate,
            time_base or 1 / rate,
            pixel_format,
            color,
            turns,
            aspect or Fraction(1),
            frames,
        )

    def _open_stream(self) -> tuple[av.VideoFrame, Fraction, Fraction, int, Fraction | None]:
        try:
            with av.open(url(self.path)) as container:
                stream = _video_stream(container, self.path)
                raw = next(container.decode(stream), None)
                rate = stream.average_rate or stream.guessed_rate
                facts = (stream.time_base, stream.frames, stream.sample_aspect_ratio)
        except FileNotFoundError as error:
            raise UserError(f"{self.path} does not exist") from error
        except (av.FFmpegError, OSError) as error:
            raise UserError(f"{self.path} is not a video that can be read: {error.strerror}") from error
        if raw is None:
            raise UserError(f"{self.path} has a video stream without a frame")
        time_base, frames, aspect = facts
        return raw, rate or Fraction(25), time_base, frames, aspect


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


def _video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    for stream in container.streams.video:
        if not is_cover(stream):
            return stream
    raise UserError(f"{path} has no video stream")


def is_cover(stream: av.VideoStream) -> bool:
    """A picture that stands for the film, not the film."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _color(raw: av.VideoFrame) -> Color:
    full = raw.color_range == ColorRange.JPEG or raw.format.name.startswith("yuvj")
    if raw.format.is_rgb:  # will be written as YUV, whose tags an RGB stream can't have
        return Color(ColorRange.MPEG, int(raw.color_primaries), int(raw.color_trc), 2)
    chosen = ColorRange.JPEG if full else raw.color_range
    return Color(int(chosen), int(raw.color_primaries), int(raw.color_trc), int(raw.colorspace))
