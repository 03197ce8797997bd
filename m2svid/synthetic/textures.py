"""Seeded textures for the procedural world: colourful, and full of detail down to about a pixel.

Shapes: S texels a side; textures are (3, S, S) float in [0, 255].
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Field = NDArray[np.float32]  # (S, S) in [0, 1]

TEXELS_PER_PIXEL = 2
FINEST = 1.5 * TEXELS_PER_PIXEL  # texels; finer detail would alias


def make_texture(rng: Generator, size: int) -> NDArray[np.float32]:
    """A random pattern in random colours, weathered by noise at several scales.

    Args:
        size: S, texels a side.

    Returns:
        (3, S, S) float32 in [0, 255].
    """
    pattern = PATTERNS[rng.integers(len(PATTERNS))]
    dark, light, stain = _palette(rng)
    colour = _mix(dark, light, pattern(rng, size))
    colour = _mix(colour, stain, 0.5 * _noise(rng, size, size / 4))
    colour = _mix(colour, stain[..., ::-1], (_noise(rng, size, 2 * FINEST) > 0.9).astype(np.float32))
    shade = 0.7 + 0.35 * _octaves(rng, size) + 0.3 * (_noise(rng, size, FINEST) - 0.5)
    texture = cv2.GaussianBlur(colour * shade[..., None], (0, 0), 0.8)
    return np.ascontiguousarray(texture.clip(0, 255).transpose(2, 0, 1))


def _palette(rng: Generator) -> list[Field]:
    """A dark, a light and a third colour, (1, 1, 3) each in [0, 255]."""
    hue = (rng.uniform(0, 360) + np.array([0, rng.uniform(-40, 40), rng.uniform(90, 270)])) % 360
    saturation = rng.uniform(0.2, 0.75) * np.array([1, rng.uniform(0.4, 1), 1])
    value = np.array([rng.uniform(0.35, 0.6), rng.uniform(0.9, 1), rng.uniform(0.6, 1)])
    hsv = np.stack([hue, saturation, value], -1).astype(np.float32)
    return list(255 * cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB).reshape(3, 1, 1, 3))


def _mix(first: Field, second: Field, weight: Field) -> Field:
    return first + weight[..., None] * (second - first)


def _noise(rng: Generator, size: int, cell: float) -> Field:
    """Value noise with cells of `cell` texels."""
    count = max(2, round(size / cell))
    grid = rng.random((count, count), dtype=np.float32)
    return cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC).clip(0, 1)


def _octaves(rng: Generator, size: int) -> Field:
    """Noise at four scales, each finer one half as strong."""
    field = rng.random((6, 6), dtype=np.float32)
    for octave in range(1, 4):
        count = 6 * 2**octave
        finer = 0.5**octave * rng.random((count, count), dtype=np.float32)
        field = cv2.resize(field, (count, count), interpolation=cv2.INTER_LINEAR) + finer
    return cv2.resize(field, (size, size), interpolation=cv2.INTER_CUBIC) / 1.875


def _rotated(rng: Generator, size: int) -> tuple[Field, Field]:
    y, x = np.mgrid[:size, :size].astype(np.float32)
    angle = float(rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)]))
    cos, sin = math.cos(angle), math.sin(angle)
    return x * cos + y * sin, y * cos - x * sin


def _wave(x: Field, period: float) -> Field:
    """A square wave with edges about a texel wide."""
    return (0.5 + np.sin(2 * np.pi * x / period) * period / 8).clip(0, 1)


def _period(rng: Generator) -> float:
    return FINEST * 3 ** rng.uniform(1, 2.5)


def _stripes(rng: Generator, size: int) -> Field:
    return _wave(_rotated(rng, size)[0], _period(rng))


def _checks(rng: Generator, size: int) -> Field:
    period = _period(rng)
    x, y = (_wave(axis, period) for axis in _rotated(rng, size))
    return x + y - 2 * x * y


def _dots(rng: Generator, size: int) -> Field:
    period, (x, y) = 2 * np.pi / _period(rng), _rotated(rng, size)
    return (0.5 + (np.sin(x * period) * np.sin(y * period) - 0.35) * 4).clip(0, 1)


def _bricks(rng: Generator, size: int) -> Field:
    height, mortar = max(10.0, _period(rng)), 0.6 * FINEST
    y, x = np.mgrid[:size, :size].astype(np.float32)
    row = np.floor(y / height)
    x += row % 2 * height
    column = np.floor(x / (2 * height))
    tones = rng.random(997, dtype=np.float32)[(row * 61 + column * 17).astype(int) % 997]
    return np.where((x % (2 * height) > mortar) & (y % height > mortar), 0.3 + 0.7 * tones, 0)


def _contours(rng: Generator, size: int) -> Field:
    field = _octaves(rng, size) * size
    return (0.5 + np.sin(field * 2 * np.pi / (4 * _period(rng))) * 2).clip(0, 1)


def _mosaic(rng: Generator, size: int) -> Field:
    count = max(2, round(size / (2 * _period(rng))))
    return cv2.resize(
        rng.random((count, count), dtype=np.float32), (size, size), interpolation=cv2.INTER_NEAREST
    )


PATTERNS: tuple[Callable[[Generator, int], Field], ...] = (
    _stripes,
    _checks,
    _dots,
    _bricks,
    _contours,
    _mosaic,
)
