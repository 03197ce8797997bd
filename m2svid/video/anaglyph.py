"""Both views in one picture for red-cyan glasses, the red one before the left eye.

Shapes: (...) any leading dimensions, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Method = Literal["dubois", "color", "half-color", "optimized", "gray", "true"]

Matrix = Sequence[Sequence[float]]  # rows: red, green, blue of the picture; columns: those of a view

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_RED, _GREEN, _BLUE, _NONE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class _Mix:
    left: Matrix
    right: Matrix
    linear: bool = False  # on light instead of sRGB values


_MIXES: dict[str, _Mix] = {
    # matrices of March 2009, https://www.site.uottawa.ca/~edubois/anaglyph/
    "dubois": _Mix(
        ((0.437, 0.449, 0.164), (-0.062, -0.062, -0.024), (-0.048, -0.050, -0.017)),
        ((-0.011, -0.032, -0.007), (0.377, 0.761, 0.009), (-0.026, -0.093, 1.234)),
        linear=True,
    ),
    "color": _Mix((_RED, _NONE, _NONE), (_NONE, _GREEN, _BLUE)),
    "half-color": _Mix((_LUMA, _NONE, _NONE), (_NONE, _GREEN, _BLUE)),
    "optimized": _Mix(((0.0, 0.7, 0.3), _NONE, _NONE), (_NONE, _GREEN, _BLUE)),
    "gray": _Mix((_LUMA, _NONE, _NONE), (_NONE, _LUMA, _LUMA)),
    "true": _Mix((_LUMA, _NONE, _NONE), (_NONE, _NONE, _LUMA)),
}


def anaglyph(left: Tensor, right: Tensor, method: Method = "dubois") -> Tensor:
    """Red-cyan anaglyph, (..., 3, H, W) in [0, 1].

    Args:
        left: (..., 3, H, W) in [0, 1], sRGB; seen through the red glass.
        right: same shape; seen through the cyan glass.
        method: "dubois" has the least ghosting and rivalry: the least-squares projection for LCD displays, on
            linear light (E. Dubois, "A projection method to generate anaglyph stereo images", ICASSP 2001).
            "color" takes red from the left and green and blue from the right; "half-color" has the left
            view's brightness for red, "optimized" its green and blue, both against rivalry in reds; "gray"
            shows both views without colours; "true" also leaves green out, for red-blue glasses.

    Raises:
        ValueError: there is no such method.
    """
    if method not in _MIXES:
        raise ValueError(f"method={method!r} must be one of {', '.join(get_args(Method))}")
    mix = _MIXES[method]
    if mix.linear:
        left, right = _to_linear(left), _to_linear(right)
    mixed = (_apply(mix.left, left) + _apply(mix.right, right)).clamp(0, 1)
    return _to_srgb(mixed) if mix.linear else mixed


def _apply(matrix: Matrix, image: Tensor) -> Tensor:
    return torch.einsum("ij,...jhw->...ihw", image.new_tensor(matrix), image)


def _to_linear(srgb: Tensor) -> Tensor:
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _to_srgb(linear: Tensor) -> Tensor:
    return torch.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
