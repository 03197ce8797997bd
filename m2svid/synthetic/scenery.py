"""The contents of a procedural world: a floor, a wall, and objects at many depths, some of them moving."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from numpy.random import Generator

from m2svid.synthetic.surfaces import Outline, Surface, ellipse, fence, polygon, rectangle, ring

_STEEPEST = 0.08  # change of an object's disparity a pixel


@dataclass(frozen=True)
class Spot:
    """The place and size of an object; all in pixels.

    Attributes:
        x: column.
        sky: row, for what hangs.
        foot: row where the floor is as near as the object, for what stands.
        size: about half the object's height; nearer is larger.
        finest: width of the thinnest parts.
        disparity: of the object.
    """

    x: float
    sky: float
    foot: float
    size: float
    finest: float
    disparity: float


def furnish(rng: Generator, height: int, width: int, num_objects: int, largest: float) -> list[Surface]:
    """A random world; wall and floor come first.

    Args:
        rng: source of everything that is random.
        height: of the view, pixels.
        width: of the view, pixels.
        num_objects: number of objects, without wall and floor.
        largest: upper limit of all disparities of the world, pixels.
    """
    far = rng.uniform(0.06, 0.15) * largest
    wall = Surface(Outline(), (width / 2, height / 2), far, (rng.uniform(-0.3, 0.3) * far / width, 0.0))
    horizon, near = rng.uniform(0.45, 0.62) * height, rng.uniform(0.75, 0.85) * largest
    floor = Surface(Outline(), (width / 2, height), near, (0.0, (near - far) / (height - horizon)))
    objects = []
    for i, column in enumerate(rng.permutation(num_objects)):
        disparity = rng.uniform(0.25, 0.92) * largest
        spot = Spot(
            x=(column + rng.uniform(0, 1)) / num_objects * width,
            sky=rng.uniform(0.05, 0.55) * height,
            foot=height - (near - disparity) / floor.slope[1],
            size=height * (0.08 + 0.25 * disparity / largest) * rng.uniform(0.7, 1.2),
            finest=rng.uniform(1.0, 2.2) * max(1.0, height / 256),
            disparity=disparity,
        )
        objects.append(_moving(rng, _slanted(rng, KINDS[i % len(KINDS)](rng, spot), largest), height))
    return [wall, floor, *objects]


def _slanted(rng: Generator, thing: Surface, largest: float) -> Surface:
    room = min(thing.disparity - 0.05 * largest, 0.98 * largest - thing.disparity)
    extent = math.hypot(thing.outline.half_width, thing.outline.half_height)
    steepest = min(_STEEPEST, room / (2 * extent))
    return replace(thing, slope=(rng.uniform(-steepest, steepest), rng.uniform(-steepest, steepest)))


def _moving(rng: Generator, thing: Surface, height: int) -> Surface:
    if rng.random() < 0.4:
        return thing
    return replace(
        thing,
        sway=(rng.uniform(-0.12, 0.12) * height, rng.uniform(-0.03, 0.03) * height),
        spin=rng.uniform(-0.3, 0.3) if thing.angle else 0.0,
        period=rng.uniform(14, 40),
        phase=rng.uniform(0, 2 * math.pi),
    )


def _standing(spot: Spot, outline: Outline) -> Surface:
    return Surface(outline, (spot.x, spot.foot - outline.half_height), spot.disparity)


def _hanging(rng: Generator, spot: Spot, outline: Outline) -> Surface:
    return Surface(outline, (spot.x, spot.sky), spot.disparity, angle=rng.uniform(-0.8, 0.8))


def _pole(rng: Generator, spot: Spot) -> Surface:
    return _standing(spot, rectangle(spot.finest * rng.uniform(0.5, 2), 1.8 * spot.size))


def _ball(rng: Generator, spot: Spot) -> Surface:
    return _hanging(rng, spot, ellipse(0.7 * spot.size, 0.7 * spot.size * rng.uniform(0.6, 1)))


def _fence(rng: Generator, spot: Spot) -> Surface:
    gap = spot.finest * rng.uniform(2.5, 5)
    half_height = 0.7 * spot.size
    return _standing(
        spot, fence(spot.size * rng.uniform(0.8, 1.8), half_height, spot.finest, gap, 1.3 * half_height)
    )


def _board(rng: Generator, spot: Spot) -> Surface:
    return _standing(spot, rectangle(spot.size * rng.uniform(0.3, 0.8), spot.size))


def _wire(rng: Generator, spot: Spot) -> Surface:
    wire = _hanging(rng, spot, rectangle(30 * spot.size, 0.6 * spot.finest))
    return replace(wire, angle=rng.uniform(-0.2, 0.2))


def _ring(rng: Generator, spot: Spot) -> Surface:
    return _hanging(rng, spot, ring(0.7 * spot.size, rng.uniform(0.6, 0.9)))


def _sign(rng: Generator, spot: Spot) -> Surface:
    return _hanging(rng, spot, polygon(0.8 * spot.size, int(rng.integers(3, 7))))


KINDS: tuple[Callable[[Generator, Spot], Surface], ...] = (_board, _pole, _ball, _fence, _wire, _sign, _ring)
