"""SVG's warp: nearest pixels with a z-buffer, cleaned in layers of depth (Dai et al. 2025).

Shapes: T frames, H W pixels, L layers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FARTHEST = 10.0  # depth of the clip's smallest disparity; the largest is at about 1
ISOLATED, CRACK = 0.5, 0.2  # shares of a 3×3 window


def warp_layered(left: Tensor, disparity: Tensor) -> tuple[Tensor, Tensor]:
    """Move every pixel x of the left view to x - disparity, rounded; the nearest of those that meet wins.

    The result is divided into four layers of depth, two up to the median and two beyond it. In each,
    isolated pixels are dropped and cracks are filled by a 3×3 Gaussian; then the layers are put over each
    other from far to near. Layers are cut in a depth of 1 / (disparity, stretched to 0..1 over the clip,
    + 1/10), as in the published code.

    Args:
        left: (T, 3, H, W), uint8 or floating; the frames of one clip.
        disparity: (T, 1, H, W) floating, pixels of this resolution; any sign.

    Returns:
        warped: like `left`, black in the hole.
        hole: (T, 1, H, W) bool, True where no source landed.
    """
    disparity = disparity.float()
    low, high = disparity.aminmax()
    depth = 1 / ((disparity - low) / (high - low).clamp(min=1e-6) + 1 / FARTHEST)  # (T, 1, H, W)
    source, known = _nearest(disparity)
    image = left.float().gather(-1, source.expand(left.shape)) * known
    depth = depth.gather(-1, source)
    result, covered = torch.zeros_like(image), torch.zeros_like(known)
    for layer in reversed(_layers(depth, known)):  # from far to near
        filled, mask = _clean(image, layer)
        result = torch.where(mask, filled, result)
        covered |= mask
    return result.to(left.dtype), ~covered


def _nearest(disparity: Tensor) -> tuple[Tensor, Tensor]:
    """For each target its source's column, int64, and whether there is one; both (T, 1, H, W).

    Of the sources of a row that are rounded to one target, the one farthest to the right is the nearest.
    """
    width = disparity.shape[-1]
    x = torch.arange(width, device=disparity.device)
    target = (x - disparity).round().long()
    target = torch.where((target >= 0) & (target < width), target, width)  # column W takes what leaves
    source = torch.full((*disparity.shape[:-1], width + 1), -1, device=disparity.device)
    source.scatter_reduce_(-1, target, x.expand_as(target), "amax")
    source = source[..., :width]
    return source.clamp(min=0), source >= 0


def _layers(depth: Tensor, known: Tensor) -> list[Tensor]:
    """Four bool masks (T, 1, H, W), from near to far."""
    bounds = []
    for frame, seen in zip(depth, known, strict=True):
        values = frame[seen]
        if not len(values):
            values = frame.new_zeros(1)
        low, high = values.aminmax()
        middle = values.double().quantile(0.5).float()
        bounds.append(torch.stack([(low + middle) / 2, middle, (middle + high) / 2, high]))
    steps = torch.stack(bounds).T[..., None, None, None]  # (L, T, 1, 1, 1)
    number = (depth > steps[:-1]).sum(0)
    return [known & (number == layer) for layer in range(len(steps))]


def _clean(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """A layer without isolated pixels and cracks, and which pixels it then has."""
    box = torch.full((3, 3), 1 / 9, device=image.device)
    mask = mask & (_filter(mask.float(), box) > ISOLATED)
    bell = torch.exp(-torch.tensor([1.0, 0.0, 1.0], device=image.device) / 2)
    bell = bell[:, None] * bell / (2 * torch.pi)  # its sum is 0.78, as published
    weight = _filter(mask.float(), bell)
    blurred = _filter(image * mask, bell) / (weight + 1e-6)
    grown = weight > CRACK
    return torch.where(mask & grown, image, blurred), grown


def _filter(video: Tensor, kernel: Tensor) -> Tensor:
    """(T, C, H, W) filtered, the border mirrored."""
    T, C, H, W = video.shape
    padded = F.pad(video.reshape(T * C, 1, H, W), (1, 1, 1, 1), mode="reflect")
    return F.conv2d(padded, kernel[None, None]).view(T, C, H, W)
