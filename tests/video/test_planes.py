"""Planes of pictures, against swscale's conversion of packed pixels."""

from __future__ import annotations

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from m2svid.video.planes import QUALITY, PixelFormat, interleaved, rgb_to_planes


@pytest.mark.parametrize(("kind", "packed"), [(np.uint8, "rgb24"), (np.uint16, "rgb48le")])
@pytest.mark.parametrize("size", [(36, 64), (35, 63)])
@pytest.mark.parametrize("chroma", ["420", "422", "444"])
def test_a_picture_has_the_same_planes_however_it_lies_in_memory(kind, packed, size, chroma):
    rgb = np.random.default_rng(0).integers(0, np.iinfo(kind).max + 1, (*size, 3), dtype=kind)
    planar = np.ascontiguousarray(rgb.transpose(2, 0, 1)).transpose(1, 2, 0)
    pixel_format = PixelFormat(chroma, 8 * rgb.itemsize)
    frame = av.VideoFrame.from_ndarray(rgb, packed)
    frame.color_range = ColorRange.JPEG
    expected = frame.reformat(
        format=pixel_format.name,
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        interpolation=QUALITY,
    )
    for picture in (rgb, planar, rgb[::-1][::-1], np.repeat(rgb, 2, 1)[:, ::2]):
        planes = rgb_to_planes(picture, pixel_format, Colorspace.ITU709, ColorRange.MPEG)
        for plane, values in zip(expected.planes, planes, strict=True):
            rows = np.frombuffer(plane, values.dtype).reshape(plane.height, -1)
            np.testing.assert_array_equal(values, rows[:, : plane.width])


def test_interleaved_pixels_are_the_same_and_lie_together():
    rgb = np.random.default_rng(0).integers(0, 256, (3, 5, 7), dtype=np.uint8).transpose(1, 2, 0)
    together = interleaved(rgb)
    np.testing.assert_array_equal(together, rgb)
    assert together.flags.c_contiguous and not rgb.flags.c_contiguous
    assert interleaved(together[:, 2:]).base is together
