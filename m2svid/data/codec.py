"""Frames to bytes and back: H.264 for the views, archives of PNGs for disparity and holes.

Shapes: T frames, H W pixels.

What was measured at 512×512 on one core (decord 0.6, OpenCV 5.0):
- H.264 tuned for fast decoding (no CABAC, no deblocking) takes half the time to decode and 8 % more space. A
  group of 8 pictures costs little space and bounds what must be decoded before a frame. The preset "veryfast"
  is encoded three times as fast as "medium"; at one size it is 1 dB behind.
- BT.709 in the full range, converted here and not by FFmpeg's scaler, comes back from decord within 0.9 of
  255 (root mean square, before compression), in the limited range within 1.4.
- 16-bit disparity: PNG with the "up" filter is decoded in 1.2 to 3.8 ms a frame, FFV1 in 4.2 to 14 ms at 0.65
  of the size, zlib over differences in 2.5 to 4.1 ms at 0.85 to 1 of the size. A ZIP archive that stores the
  PNGs gives random access and opens everywhere.
"""

from __future__ import annotations

import ctypes
import io
import zipfile
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import chain
from unittest import mock

import av
import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from m2svid.video import x264

# decord publishes the symbols of its libz of 2005 to the whole process, where OpenCV's PNG decoding breaks on
# them: it returns wrong pixels. Kept to itself, decord harms nobody.
with mock.patch.object(ctypes, "RTLD_GLOBAL", ctypes.RTLD_LOCAL):
    import decord

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


UnreadableVideoError = decord.DECORDError  # what the decoder raises for frames it cannot decode


class VideoDecoder:
    """Random access to the frames of an encoded video in memory.

    Args:
        data: the file's bytes.
        width: of the video, pixels.

    Raises:
        ValueError: these bytes are no video.
    """

    def __init__(self, data: bytes, width: int) -> None:
        # decord takes the padding of narrow lines for more channels and cannot make a batch of such frames.
        self._padded = width < 80
        try:
            self._reader = decord.VideoReader(io.BytesIO(data), num_threads=1)
        except RuntimeError as error:  # decord's way to say that FFmpeg cannot open it
            raise ValueError("no readable video") from error

    def __len__(self) -> int:
        return len(self._reader)

    def __getitem__(self, indices: Sequence[int]) -> Tensor:
        """(T, 3, H, W) uint8 frames, with the channels last in memory."""
        if self._padded:
            return torch.stack([self._frame(index) for index in indices]).permute(0, 3, 1, 2)
        frames = self._reader.get_batch(list(indices))
        return torch.utils.dlpack.from_dlpack(frames.to_dlpack()).permute(0, 3, 1, 2)

    def _frame(self, index: int) -> Tensor:
        lines = torch.from_numpy(self._reader[index].asnumpy())
        height, width, _ = lines.shape
        return lines.view(height, -1)[:, : 3 * width].reshape(height, width, 3)


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
    """Refuses to run where decord was loaded first, by somebody else (see the import)."""
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
