"""Warps of the left view: one for each method, or one for all.

Shapes: T frames, H W pixels of the clip, h w of the evaluated part.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from m2svid.batch import Original, StereoBatch
from m2svid.data.clips import Region
from m2svid.errors import UserError
from m2svid.warping.layered import warp_layered
from m2svid.warping.soft_splat import soft_splat
from m2svid.warping.view import warp_view


class Warp(ABC):
    """Left view and disparity to warped right view and hole.

    Attributes:
        name: of the warp in results.
    """

    name: ClassVar[str]

    @abstractmethod
    def __call__(self, left: Tensor, disparity: Tensor) -> tuple[Tensor, Tensor]:
        """Warp the frames of one clip.

        Args:
            left: (T, 3, H, W) uint8.
            disparity: (T, 1, H, W) float, pixels.

        Returns:
            warped: like `left`.
            hole: (T, 1, H, W), bool or in [0, 1].
        """

    def binarise(self, hole: Tensor) -> Tensor:
        """Which pixels of a resized hole, in [0, 1], are a hole: all that any hole goes into."""
        return hole > 0


class ClosedNearest(Warp):
    """M2SVid's: two nearest splats, holes closed and black."""

    name = "m2svid"

    def __call__(self, left: Tensor, disparity: Tensor) -> tuple[Tensor, Tensor]:
        return warp_view(left, disparity.clamp(min=0))


class SoftSplat(Warp):
    """StereoCrafter's, see `soft_splat`; the hole goes through 8 bits and is binarised at one half."""

    name = "stereocrafter"

    def __call__(self, left: Tensor, disparity: Tensor) -> tuple[Tensor, Tensor]:
        warped, hole = soft_splat(left, disparity)
        return warped, (hole * 255 + 1e-9).floor() / 255

    def binarise(self, hole: Tensor) -> Tensor:
        return hole >= 0.5


class Layered(Warp):
    """SVG's, see `warp_layered`."""

    name = "svg"

    def __call__(self, left: Tensor, disparity: Tensor) -> tuple[Tensor, Tensor]:
        return warp_layered(left, disparity)


def warped_by(warp: Warp, clip: StereoBatch, share: float = 1.0) -> StereoBatch:
    """A clip with the warped view and the hole that a warp makes.

    Args:
        warp: the warp.
        clip: a batch of one, float in [0, 1].
        share: of the baseline: 1 is the right eye, 0 the left.

    Raises:
        UserError: the clip's shard holds a warped view instead of a disparity.
    """
    original = original_of(clip, f"the warp of {warp.name} can't be made")
    warped, hole = warp(original.left, original.disparity * share)
    region = Region(*original.region)
    size = (clip.left.shape[-2], clip.left.shape[-1])
    view = _resize(region.of(warped).float(), size).round() / 255
    shown = warp.binarise(_resize(region.of(hole).float(), size))
    return replace(clip, warped=view[None], hole=shown[None])


def original_of(clip: StereoBatch, otherwise: str) -> Original:
    """The originals of the views of a batch of one.

    Raises:
        UserError: the clip's shard holds a warped view instead of a disparity; says what then follows.
    """
    original = clip.originals[0] if clip.originals else None
    if original is None:
        raise UserError(
            f"clip {clip.keys[0]} has no disparity in its shard, so {otherwise}: make its shards with a "
            "disparity, or evaluate with M2SVid's warp alone"
        )
    return original


def _resize(video: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(video.shape[-2:]) == size:
        return video
    return F.interpolate(video, size, mode="bilinear", antialias=True)
