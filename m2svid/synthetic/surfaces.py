"""Flat textured surfaces seen by a camera that moves sideways, in closed form.

A surface is a plane whose disparity is affine. With the eye `x` baselines to the right of the origin and `y`
baselines below it, a point (X, Y) of disparity d is seen at

    column = X + pan_x - x·d        row = Y + pan_y - y·d

so the right eye, one baseline farther, sees at column - d what the left eye sees at column. Every map between
image, surface and texture is affine and is inverted exactly.

Shapes: rows, columns of sampled positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MARGIN = 1  # pixels added around a bounding box, against rounding


@dataclass(frozen=True)
class Eye:
    """The pose of one eye at one moment: position in baselines, and the pan of the camera in pixels."""

    x: float
    y: float
    pan_x: float
    pan_y: float

    @property
    def right(self) -> Eye:
        return replace(self, x=self.x + 1)


@dataclass(frozen=True)
class Outline:
    """The visible part of a plane, in the surface's own coordinates (pixels from its centre).

    Attributes:
        half_width: upper limit of |u| in the part.
        half_height: upper limit of |v| in the part.
        inside: (u, v) -> bool; None for the whole plane.
    """

    half_width: float = math.inf
    half_height: float = math.inf
    inside: Callable[[Tensor, Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Affine:
    """offset + column·x + row·y"""

    offset: float
    column: float
    row: float

    def __call__(self, columns: Tensor, rows: Tensor) -> Tensor:
        return torch.add(rows * self.row + self.offset, columns, alpha=self.column)

    def combine(self, other: Affine, own: float, others: float) -> Affine:
        return Affine(
            own * self.offset + others * other.offset,
            own * self.column + others * other.column,
            own * self.row + others * other.row,
        )


@dataclass(frozen=True)
class Surface:
    """A plane, or a piece cut out of it, that swings to and fro.

    Attributes:
        outline: what of the plane is there.
        centre: (X, Y) pixels.
        disparity: pixels, at the centre.
        slope: change of the disparity a pixel to the right and down.
        angle: of the outline and the texture in the image, radians.
        sway: amplitude of the centre's movement in X and Y, pixels.
        spin: amplitude of the angle's movement, radians.
        period: of the movement, frames.
        phase: of the movement, radians.
    """

    outline: Outline
    centre: tuple[float, float]
    disparity: float
    slope: tuple[float, float] = (0.0, 0.0)
    angle: float = 0.0
    sway: tuple[float, float] = (0.0, 0.0)
    spin: float = 0.0
    period: float = 1.0
    phase: float = 0.0

    def place(self, frame: float, eye: Eye) -> PlacedSurface:
        """The maps from image positions to disparity and to the surface's coordinates."""
        swing = math.sin(2 * math.pi * frame / self.period + self.phase)
        centre_x = self.centre[0] + self.sway[0] * swing + eye.pan_x
        centre_y = self.centre[1] + self.sway[1] * swing + eye.pan_y
        slope_x, slope_y = self.slope
        stretch = 1 - slope_x * eye.x - slope_y * eye.y
        at_origin = self.disparity - slope_x * centre_x - slope_y * centre_y
        disparity = Affine(at_origin / stretch, slope_x / stretch, slope_y / stretch)
        across = Affine(-centre_x, 1, 0).combine(disparity, 1, eye.x)
        down = Affine(-centre_y, 0, 1).combine(disparity, 1, eye.y)
        cos, sin = (f(self.angle + self.spin * swing) for f in (math.cos, math.sin))
        u, v = across.combine(down, cos, sin), down.combine(across, cos, -sin)
        return PlacedSurface(self.outline, disparity, u, v)


@dataclass(frozen=True)
class PlacedSurface:
    """A surface as one eye sees it at one moment: (column, row) -> disparity and own coordinates."""

    outline: Outline
    disparity: Affine
    u: Affine
    v: Affine

    def box(self) -> tuple[float, float, float, float]:
        """Image columns from, to, rows from, to that hold the outline."""
        if self.outline.inside is None:
            return -math.inf, math.inf, -math.inf, math.inf
        determinant = self.u.column * self.v.row - self.u.row * self.v.column
        columns, rows = [], []
        for side_u in (-self.outline.half_width, self.outline.half_width):
            for side_v in (-self.outline.half_height, self.outline.half_height):
                u, v = side_u - self.u.offset, side_v - self.v.offset
                columns.append((u * self.v.row - v * self.u.row) / determinant)
                rows.append((v * self.u.column - u * self.v.column) / determinant)
        return min(columns) - _MARGIN, max(columns) + _MARGIN, min(rows) - _MARGIN, max(rows) + _MARGIN


@dataclass
class Hit:
    """The nearest surface at each position.

    Attributes:
        surface: (rows, columns) float, index of the surface.
        disparity: (rows, columns) float, pixels.
        u: (rows, columns) float, horizontal coordinate on the surface, pixels.
        v: (rows, columns) float, vertical coordinate on the surface, pixels; index, u and v name a point.
    """

    surface: Tensor
    disparity: Tensor
    u: Tensor
    v: Tensor


def trace(
    surfaces: Sequence[PlacedSurface], rows: Tensor, columns: Tensor, shift: Tensor | None = None
) -> Hit:
    """Find the nearest surface, the one of the largest disparity, at every position.

    Args:
        surfaces: at least one without an outline, behind the others.
        rows: (rows, 1), image rows to sample, ascending.
        columns: (columns,), image columns to sample, ascending.
        shift: (rows, columns), added to the columns; >= 0.
    """
    shape = (len(rows), len(columns))
    reach = 0.0 if shift is None else float(shift.max())
    hit = Hit(torch.zeros(shape), torch.full(shape, -math.inf), torch.zeros(shape), torch.zeros(shape))
    row_positions, column_positions = rows[:, 0].numpy(), columns.numpy()
    for index, surface in enumerate(surfaces):
        left, right, top, bottom = surface.box()
        area = (_between(row_positions, top, bottom), _between(column_positions, left - reach, right))
        if area[0].start == area[0].stop or area[1].start == area[1].stop:
            continue
        x = columns[area[1]] if shift is None else columns[area[1]] + shift[area]
        _overlay(hit, area, index, surface, x, rows[area[0]])
    return hit


def _between(positions: NDArray[np.float32], low: float, high: float) -> slice:
    return slice(*np.searchsorted(positions, (low, high)).tolist())


def _overlay(
    hit: Hit, area: tuple[slice, slice], index: int, surface: PlacedSurface, columns: Tensor, rows: Tensor
) -> None:
    disparity, u, v = (along(columns, rows) for along in (surface.disparity, surface.u, surface.v))
    nearer = disparity > hit.disparity[area]
    if surface.outline.inside is not None:
        nearer &= surface.outline.inside(u, v)
    for target, value in ((hit.disparity[area], disparity), (hit.u[area], u), (hit.v[area], v)):
        torch.where(nearer, value, target, out=target)
    hit.surface[area].masked_fill_(nearer, index)


def ellipse(half_width: float, half_height: float) -> Outline:
    def inside(u: Tensor, v: Tensor) -> Tensor:
        return (u / half_width).square() + (v / half_height).square() < 1

    return Outline(half_width, half_height, inside)


def ring(radius: float, hole: float) -> Outline:
    """A disc with a round hole; `hole` is a share of the radius."""

    def inside(u: Tensor, v: Tensor) -> Tensor:
        squared = u.square() + v.square()
        return (squared < radius**2) & (squared > (hole * radius) ** 2)

    return Outline(radius, radius, inside)


def rectangle(half_width: float, half_height: float) -> Outline:
    """Boards, and when they are narrow poles and wires."""

    def inside(u: Tensor, v: Tensor) -> Tensor:
        return (u.abs() < half_width) & (v.abs() < half_height)

    return Outline(half_width, half_height, inside)


def polygon(radius: float, corners: int) -> Outline:
    """Regular, with the radius of the circle through its corners."""
    angles = [2 * math.pi * i / corners for i in range(corners)]
    apothem = radius * math.cos(math.pi / corners)

    def inside(u: Tensor, v: Tensor) -> Tensor:
        result = torch.ones_like(u, dtype=torch.bool)
        for angle in angles:
            result &= u * math.cos(angle) + v * math.sin(angle) < apothem
        return result

    return Outline(radius, radius, inside)


def fence(half_width: float, half_height: float, bar: float, gap: float, rails: float) -> Outline:
    """Vertical bars of width `bar`, `gap` apart, and rails `rails` apart, in a rectangle; pixels."""

    def inside(u: Tensor, v: Tensor) -> Tensor:
        bars = (u + half_width).remainder(bar + gap) < bar
        bars |= (v + half_height * 0.8).remainder(rails) < bar
        return bars & (u.abs() < half_width) & (v.abs() < half_height)

    return Outline(half_width, half_height, inside)
