"""Regions of a view: the pixels that a metric counts.

Shapes: B videos, T frames, C channels, H W pixels; `...` any number of regions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from m2svid.errors import UserError


def require_side(metric: str, smallest: int, height: int, width: int) -> None:
    """Raise a UserError where frames of height × width pixels are too small for a metric."""
    if min(height, width) < smallest:
        raise UserError(
            f"Frames of {width}×{height} pixels are too small for {metric}, which needs {smallest} a side: "
            "leave it out of `metrics`"
        )


def regions(hole: Tensor) -> dict[str, Tensor]:
    """The two regions that the paper reports in addition to the full view (Appendix, Table 6).

    Args:
        hole: (B, T, 1, H, W) bool, True = disoccluded; the closed mask.
    """
    return {"inside": hole, "outside": ~hole}


def paint_white(video: Tensor, region: Tensor) -> Tensor:
    """The paper's protocol: everything outside `region` becomes white, so a perfect pixel of any metric.

    Args:
        video: (B, T, C, H, W) in [0, 1].
        region: (B, T, 1, H, W) bool, True = kept.
    """
    return torch.where(region, video, video.new_ones(()))


def region_mean(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of a map over the pixels of a region, NaN where the region is empty.

    Args:
        values: (B, T, 1, H, W).
        mask: (..., B, T, 1, H, W) bool, or None for every pixel.

    Returns:
        (..., B) float64.
    """
    pixels = (-4, -3, -2, -1)
    if mask is None:
        return values.double().mean(pixels)
    return torch.where(mask, values.double(), 0.0).sum(pixels) / mask.sum(pixels)
