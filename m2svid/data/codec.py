"""Frames to bytes and back: H.264 for the views, archives of PNGs for disparity and holes.

Shapes: T frames, H W pixels.

What was measured at 512×512 on one core (PyAV 18.1, OpenCV 5.0):
- H.264 tuned for fast decoding (no CABAC, no deblocking) takes half the time to decode and 8 % more space. A
  group of 8 pictures costs little space and bounds what must be decoded before a frame. The preset "veryfast"
  is encoded three times as fast as "medium"; at one size it is 1 dB behind.
- BT.709 in the full range, converted here and not by FFmpeg's scaler, comes back within 0.9 of 255 (root
  mean square, before compression), in the limited range within 1.4.
- 16-bit disparity: PNG with the "up" filter is decoded in 1.2 to 3.8 ms a frame, FFV1 in 4.2 to 14 ms at 0.65
  of the size, zlib over differences in 2.5 to 4.1 ms at 0.85 to 1 of the size. A ZIP archive that stores the
  PNGs gives random access and opens everywhere.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import chain

import av
import cv2
import numpy as np
import torch
import torch.nn.functional as F
from av.video.reformatter import VideoReformatter
from torch import Tensor

from m2svid.video import x264

# BT.709: shares of red and blue in luma; the matrix gives Y, Cb, Cr.
_KR, _KB = 0.2126, 0.0722
_YUV_FROM_RGB = torch.tensor(
    [
        [_KR, 1 - _KR - _KB, _KB],
        [-_KR / (2 * (1 - _KB)), -(1 - _KR - _KB) / (2 * (1 - _KB)), 0.5],
        [0.5, -(1 - _KR - _KB) / (2 * (1 - _KR)), -_KB / (2 * (1 - _KR))],
    ]
)
_BT709, _FULL_RANGE = 1, 2  # FFmpeg's numbers for the tags
GROUP_OF_PICTURES = 8
_PNG_OPTIONS = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP, cv2.IMWRITE_PNG_COMPRESSION, 3]


def encode_video(frames: Iterable[Tensor], fps: Fraction, crf: int) -> bytes:
    """H.264 in MP4, 4:2:0, BT.709, full range, constant frame rate.

    Args:
        frames: (T, 3, H, W) uint8, or one after the other; H and W even.
        fps: exact frame rate.
        crf: x264's constant rate factor, 0..51; smaller is better and larger in bytes.
    """
    frames = iter(frames)
    first = next(frames)
    _, height, width = first.shape
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        options = {"crf": str(crf), "preset": "veryfast", "tune": "fastdecode", "bf": "0"}
        if parameters := x264.repeatable():
            options["x264-params"] = ":".join(parameters)
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.gop_size = GROUP_OF_PICTURES
        context.thread_count = 1  # x264 makes other bytes with other numbers of threads
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = _FULL_RANGE
        for frame in chain([first], frames):
            picture = av.VideoFrame.from_ndarray(_yuv420(frame), "yuv420p")
            picture.colorspace, picture.color_range = _BT709, _FULL_RANGE
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return buffer.getvalue()


def _yuv420(frame: Tensor) -> np.ndarray:
    """(3, H, W) uint8 RGB -> (H·3/2, W) uint8, the planes Y, Cb and Cr one after the other."""
    _, height, width = frame.shape
    yuv = (_YUV_FROM_RGB @ frame.reshape(3, -1).float()).view(3, height, width)
    chroma = F.avg_pool2d(yuv[None, 1:], 2)[0] + 128
    planes = torch.cat([yuv[0].flatten(), chroma.flatten()])
    return planes.round_().clamp_(0, 255).byte().view(-1, width).numpy()


class VideoDecoder:
    """Random access to the frames of an encoded video in memory.

    Args:
        data: the file's bytes.

    Raises:
        ValueError: these bytes are no video.
    """

    def __init__(self, data: bytes) -> None:
        try:
            self._container = av.open(io.BytesIO(data))
            (stream, *_) = self._container.streams.video
            stream.codec_context.thread_count = 1
            self._packets = [packet for packet in self._container.demux(stream) if packet.size]
        except (av.FFmpegError, ValueError) as error:
            raise ValueError("no readable video") from error
        self._context, self._reformatter = stream.codec_context, VideoReformatter()
        numbered = enumerate(self._packets)
        # Time and packet of every frame, in the order in which they are shown.
        self._shown = sorted((packet.pts, place) for place, packet in numbered if not packet.is_discard)

    def __len__(self) -> int:
        return len(self._shown)

    def __getitem__(self, indices: Sequence[int]) -> Tensor:
        """(T, 3, H, W) uint8 frames, with the channels last in memory.

        Raises:
            ValueError, av.FFmpegError: one can't be decoded, or the decoder had to patch it up.
        """
        found: dict[int, np.ndarray] = {}
        wanted = {self._shown[index] for index in indices}
        times = {time for time, _ in wanted}
        for frame in self._decoded(sorted({place for each in wanted for place in self._group(*each)})):
            if frame.pts in times and not frame.is_corrupt:
                found[frame.pts] = self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        for index in indices:
            if self._shown[index][0] not in found:
                raise ValueError(f"frame {index} can't be decoded")
        frames = np.stack([found[self._shown[index][0]] for index in indices])
        return torch.from_numpy(frames).permute(0, 3, 1, 2)

    def _group(self, time: int, place: int) -> range:
        """The packets from the key frame before a frame up to its own."""
        first = place
        while first and not (self._packets[first].is_keyframe and self._packets[first].pts <= time):
            first -= 1
        return range(first, place + 1)

    def _decoded(self, places: list[int]) -> Iterator[av.VideoFrame]:
        for before, place in zip([None, *places], places, strict=False):
            if before is None or place > before + 1:  # groups between two are passed over
                yield from self._rest()
            yield from self._context.decode(self._packets[place])
        yield from self._rest()

    def _rest(self) -> list[av.VideoFrame]:
        """The frames that the decoder has kept back; it can then begin anywhere."""
        frames = self._context.decode(None) if self._context.is_open else []
        self._context.flush_buffers()
        return frames


def encode_planes(planes: np.ndarray) -> bytes:
    """A ZIP archive with one PNG a frame (`00000.png`, ...), stored, not compressed again.

    Args:
        planes: (T, H, W) uint8 or uint16.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for index, plane in enumerate(planes):
            _, png = cv2.imencode(".png", plane, _PNG_OPTIONS)
            archive.writestr(zipfile.ZipInfo(f"{index:05d}.png"), png.tobytes())
    return buffer.getvalue()


def _check_png() -> None:
    """Refuse to run where decord was loaded first, by somebody else.

    It publishes the symbols of its libz of 2005 to the whole process, where OpenCV's PNG decoding breaks on
    them: it returns wrong pixels.
    """
    plane = np.arange(0x10000, dtype=np.uint16).reshape(256, 256)
    if not np.array_equal(cv2.imdecode(cv2.imencode(".png", plane)[1], cv2.IMREAD_UNCHANGED), plane):
        raise ImportError("OpenCV decodes PNGs wrongly beside decord: import m2svid before decord")


_check_png()


class PlaneDecoder:
    """Random access to the planes of `encode_planes`.

    Args:
        data: the archive's bytes.
    """

    def __init__(self, data: bytes) -> None:
        self._archive = zipfile.ZipFile(io.BytesIO(data))

    def __len__(self) -> int:
        return len(self._archive.namelist())

    def __getitem__(self, indices: Sequence[int]) -> list[np.ndarray]:
        """One (H, W) array a frame, in the depth it was stored with."""
        return [self._plane(f"{index:05d}.png") for index in indices]

    def _plane(self, name: str) -> np.ndarray:
        png = np.frombuffer(self._archive.read(name), np.uint8)
        plane = cv2.imdecode(png, cv2.IMREAD_UNCHANGED) if len(png) else None
        if plane is None or plane.ndim != 2:
            raise ValueError(f"{name} is no readable single-channel PNG")
        return plane
