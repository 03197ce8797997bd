"""Layouts of two views in the picture that a player shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from av.video.reformatter import Interpolation

from m2svid.video.planes import PixelFormat, Plane, from_planes, pad_to, to_planes

LayoutName = Literal[
    "sbs",
    "sbs-half",
    "cross",
    "cross-half",
    "tb",
    "tb-half",
    "rows",
    "anaglyph",
    "right",
    "pair",
    "vr180",
    "spatial",
    "rgbd",
    "rgbd-half",
]


@dataclass(frozen=True)
class Layout:
    """Attributes:
    suffix: end of the file's name, by which players choose the mode.
    stereo_mode: what the container tells, in the words of Matroska's tag; None = not a stereo picture.
    packing: H.264 frame packing arrangement (ITU-T H.264 D.2.26); None = none.
    columns: views side by side.
    rows: views below each other.
    squeezed: each view takes half of its size, so that the picture keeps the size of one view.
    mixed: both views in one picture, told apart by colour.
    spherical: views are projected onto a half sphere.
    right_first: the right view comes first, for eyes that cross.
    interleaved: rows of both views alternate.
    layers: views are layers of the stream, for which they are stacked until they are encoded.
    depth: the second view is the depth, near is white.
    """

    suffix: str
    stereo_mode: str | None = None
    packing: int | None = None
    columns: int = 1
    rows: int = 1
    squeezed: bool = False
    mixed: bool = False
    spherical: bool = False
    right_first: bool = False
    interleaved: bool = False
    layers: bool = False
    depth: bool = False


LAYOUTS: dict[str, Layout] = {
    "sbs": Layout("_LRF_Full_SBS", "left_right", 3, columns=2),
    "sbs-half": Layout("_LR", "left_right", 3, columns=2, squeezed=True),
    "cross": Layout("_RLF_cross", "right_left", columns=2, right_first=True),
    "cross-half": Layout("_RL", "right_left", columns=2, squeezed=True, right_first=True),
    "tb": Layout("_TBF_fulltb", "top_bottom", 4, rows=2),
    "tb-half": Layout("_TB", "top_bottom", 4, rows=2, squeezed=True),
    "rows": Layout("_interlaced", "row_interleaved_lr", 2, rows=2, squeezed=True, interleaved=True),
    "anaglyph": Layout("_anaglyph", "anaglyph_cyan_red", mixed=True),
    "right": Layout("_right"),
    "pair": Layout(""),
    "vr180": Layout("_180_LR", "left_right", 3, columns=2, spherical=True),
    "spatial": Layout("_spatial", rows=2, layers=True),
    "rgbd": Layout("_RGBD", columns=2, depth=True),
    "rgbd-half": Layout("_HRGBD", columns=2, squeezed=True, depth=True),
}


def view_size(layout: Layout, pixel_format: PixelFormat, width: int, height: int) -> tuple[int, int]:
    """Width and height to which a view is padded so that no chroma sample belongs to two views."""
    shrink = 2 if layout.squeezed else 1
    step_x = pixel_format.step[0] * (shrink if layout.columns == 2 else 1)
    step_y = pixel_format.step[1] * (shrink if layout.rows == 2 else 1)
    return -(-width // step_x) * step_x, -(-height // step_y) * step_y


def picture_size(layout: Layout, pixel_format: PixelFormat, width: int, height: int) -> tuple[int, int]:
    """Width and height of the whole picture for views of width × height."""
    width, height = view_size(layout, pixel_format, width, height)
    parts = (1, 1) if layout.squeezed or layout.layers else (layout.columns, layout.rows)
    return width * parts[0], height * parts[1]


def displayed_size(layout: Layout, width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Width and height of one view as it is to be shown, in square pixels; of interleaved rows, those of one.

    Args:
        layout: of the picture.
        width: of the whole picture, px.
        height: of the whole picture, px.
        aspect: width of a view's pixel over its height, before views are squeezed.
    """
    if layout.interleaved or not (layout.squeezed or layout.layers):
        width, height = width // layout.columns, height // layout.rows
    return (round(width * aspect), height) if aspect >= 1 else (width, round(height / aspect))


def arrange(views: Sequence[list[Plane]], layout: Layout, pixel_format: PixelFormat) -> list[Plane]:
    """Put views together.

    Args:
        views: Y, U and V of the left and of the right view; of a single one for layouts of one view.
        layout: of the picture.
        pixel_format: of the planes.
    """
    height, width = views[0][0].shape
    size = view_size(layout, pixel_format, width, height)
    padded = [pad_to(view, pixel_format, *size) for view in views]
    if layout.interleaved:
        return [_interleave(*planes) for planes in zip(*padded, strict=True)]
    padded = [_squeeze(view, layout, pixel_format) for view in padded]
    padded = padded[::-1] if layout.right_first else padded
    axis = 1 if layout.columns == 2 else 0
    return [np.concatenate(planes, axis=axis) for planes in zip(*padded, strict=True)]


def _interleave(left: Plane, right: Plane) -> Plane:
    """Even rows of one plane and odd rows of another, each a mean with its neighbours of weights 1, 2, 1.

    Chroma rows alternate, too, as ITU-T H.264 D.2.26 has it.
    """
    mixed = np.empty_like(left)
    for first, plane in enumerate((left, right)):
        rows = np.pad(plane.astype(np.uint32), ((1, 1), (0, 0)), mode="edge")
        mixed[first::2] = ((rows[:-2] + 2 * rows[1:-1] + rows[2:] + 2) // 4)[first::2]
    return mixed


def _squeeze(view: list[Plane], layout: Layout, pixel_format: PixelFormat) -> list[Plane]:
    if not layout.squeezed:
        return view
    height, width = view[0].shape
    options = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
    half = from_planes(view, pixel_format.name).reformat(
        width // layout.columns, height // layout.rows, interpolation=options
    )
    return to_planes(half)
