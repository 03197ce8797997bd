"""Pixels of video frames as arrays, so that views can be put side by side without touching their values.

Shapes: H W pixels of a view; the chroma planes are smaller where the format subsamples them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Interpolation
from numpy.typing import NDArray

from m2svid.video.hdr import Pixels

Plane = NDArray[np.uint8] | NDArray[np.uint16]

# One kind of conversion everywhere: exact rounding and the same result on every machine.
QUALITY = (
    Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
)


@dataclass(frozen=True)
class PixelFormat:
    """Planar YUV of one kind.

    Attributes:
        chroma: "420" halves the chroma planes both ways, "422" horizontally, "444" not; "400" has none.
        bits: bits a sample.
    """

    chroma: Literal["400", "420", "422", "444"]
    bits: Literal[8, 10, 16]

    @property
    def name(self) -> str:
        """FFmpeg's name, e.g. `yuv420p10le`."""
        base = "gray" if self.chroma == "400" else f"yuv{self.chroma}p"
        return base if self.bits == 8 else f"{base}{self.bits}le"

    @property
    def step(self) -> tuple[int, int]:
        """Columns and rows that share one chroma sample: (2, 2) for 4:2:0."""
        return (1 if self.chroma in ("400", "444") else 2, 2 if self.chroma == "420" else 1)

    @classmethod
    def nearest(cls, pix_fmt: str) -> PixelFormat:
        """The kind that holds a decoded `pix_fmt` with the least change: no change for 8 and 10 bit YUV."""
        fmt = av.VideoFormat(pix_fmt)
        depth = max(component.bits for component in fmt.components)
        subsampling = (16 // fmt.chroma_width(16), 16 // fmt.chroma_height(16))
        gray = len(fmt.components) < 3
        chroma = "420" if gray else {(2, 2): "420", (2, 1): "422"}.get(subsampling, "444")
        return cls(chroma, 8 if depth <= 8 else 10)


def to_planes(frame: av.VideoFrame) -> list[Plane]:
    """The planes of a planar frame, without the padding of its rows; maybe in the frame's own memory."""
    wide = frame.format.components[0].bits > 8
    stored = np.dtype((">u2" if frame.format.is_big_endian else "<u2") if wide else np.uint8)
    planes = []
    for plane in frame.planes:
        rows = np.frombuffer(plane, stored).reshape(plane.height, plane.line_size // stored.itemsize)
        planes.append(rows[:, : plane.width].astype("<u2" if wide else np.uint8, copy=False))
    return planes


def to_rgb(frame: av.VideoFrame) -> Pixels:
    """(3, H, W) of a frame of planes in the order green, blue, red; a copy."""
    green, blue, red = to_planes(frame)
    return np.stack([red, green, blue])


def interleaved(rgb: Pixels) -> Pixels:
    """A picture (H, W, 3) in whose memory the channels of a pixel lie together, as OpenCV takes it."""
    if rgb.strides[1:] == (3 * rgb.itemsize, rgb.itemsize):
        return rgb
    return cv2.merge([rgb[..., channel] for channel in range(3)])  # a tenth of np.ascontiguousarray's time


def from_planes(planes: Sequence[Plane], pix_fmt: str) -> av.VideoFrame:
    """A frame that holds the planes as they are; `pix_fmt` is FFmpeg's name of their format."""
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, pix_fmt)
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.frombuffer(plane, values.dtype).reshape(plane.height, plane.line_size // values.itemsize)
        rows[:, : plane.width] = values
    return frame


def rgb_to_planes(
    rgb: Pixels,
    pixel_format: PixelFormat,
    matrix: int,
    color_range: ColorRange,
) -> list[Plane]:
    """Planes of an RGB picture.

    Args:
        rgb: (H, W, 3), uint8 or uint16 of full scale.
        pixel_format: of the planes.
        matrix: swscale's number of the YUV matrix (`av.video.reformatter.Colorspace`).
        color_range: of the planes.
    """
    if rgb.dtype == np.uint8:
        red, green, blue = rgb.transpose(2, 0, 1)
        frame = from_planes([green, blue, red], "gbrp")
    else:  # swscale takes the chroma of 16 bits from other pixels where it reads planes
        frame = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(interleaved(rgb)), "rgb48le")
    frame.color_range = ColorRange.JPEG
    converted = frame.reformat(
        format=pixel_format.name,
        dst_colorspace=matrix,
        src_color_range=ColorRange.JPEG,
        dst_color_range=color_range,
        interpolation=QUALITY,
        threads=1,
    )
    return to_planes(converted)


def pad_to(planes: Sequence[Plane], pixel_format: PixelFormat, width: int, height: int) -> list[Plane]:
    """The planes of a view grown to width × height luma samples by repeating the last column and row."""
    step_x, step_y = pixel_format.step
    sizes = [(height, width)] + [(-(-height // step_y), -(-width // step_x))] * 2
    return [
        np.pad(plane, ((0, rows - plane.shape[0]), (0, columns - plane.shape[1])), mode="edge")
        if plane.shape != (rows, columns)
        else plane
        for plane, (rows, columns) in zip(planes, sizes, strict=True)
    ]
