"""PSNR, SSIM, MS-SSIM and LPIPS of videos, over the full view or over the pixels of a region.

Every metric is `f(prediction, truth, mask=None)`: without a mask its usual definition over the full view,
with one only the region's pixels count ("masked"; the paper's painted protocol is `regions.paint_white`
before the unmasked metric).

Shapes: B videos, T frames, C channels, H W pixels, `...` regions.
    prediction, truth: (B, T, 3, H, W) float in [0, 1]
    mask: (..., B, T, 1, H, W) bool, True = counts
    result: (..., B), one value a video; NaN where a region has no pixel
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from m2svid.metrics.perceptual import Perceptual
from m2svid.metrics.regions import region_mean, require_side

# Wang, Simoncelli & Bovik, "Multi-scale structural similarity for image quality assessment", 2003.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, WINDOW_SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2
SMALLEST_SIDE = (WINDOW - 1) * 2 ** (len(SCALE_WEIGHTS) - 1) + 1

LPIPS_FRAMES_AT_ONCE = 4  # bounds memory: VGG's first layers take 0.5 GB for one pair of 512×512 frames


def psnr(prediction: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio in dB of each video, from the squared error over all its frames.

    Two equal videos have PSNR inf.

    Returns:
        (..., B) float64.
    """
    error = (prediction.float() - truth.float()).square().mean(-3, keepdim=True)
    return -10 * region_mean(error, mask).log10()


def ssim(prediction: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Structural similarity (Wang et al. 2004) of each video: the mean over its frames, windows and channels.

    Gaussian windows of 11 pixels, sigma 1.5, none across the border. Packages differ in that; this is
    `pytorch-msssim`'s `ssim`. With a mask, windows count by their share of the region, as in `ms_ssim`.

    Returns:
        (..., B) float32.

    Raises:
        UserError: The frames are smaller than a window.
    """
    require_side("ssim", WINDOW, *prediction.shape[-2:])
    # Each frame is a volume of its own, one frame deep: B·T C 1 H W, so that no window spans frames.
    x, y = (video.float().flatten(0, 1).unsqueeze(2) for video in (prediction, truth))
    luminance, contrast = _ssim_maps(x, y)
    similarity = (luminance * contrast).unflatten(0, prediction.shape[:2])  # B T C 1 H' W'
    similarity = similarity.mean(2, keepdim=True)
    pixels = (-5, -4, -3, -2, -1)
    if mask is None:
        return similarity.mean(pixels)
    share = _smooth(mask.float().unsqueeze(-3))  # ... B T 1 1 H' W'
    return (similarity * share).sum(pixels) / share.sum(pixels)


def ms_ssim(prediction: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """Multi-scale structural similarity of each video as a volume (T, H, W), equal to `pytorch-msssim`.

    That package refuses 2 to 8 frames, which become one frame before the last scale; here the volume is
    treated as an image from there on.

    With a mask, each value of a similarity map, which describes the window around it, counts by the share of
    that (Gaussian) window that lies in the region, at each scale.

    Returns:
        (..., B) float32.

    Raises:
        UserError: The frames are too small for five scales.
    """
    require_side("ms_ssim", SMALLEST_SIDE, *prediction.shape[-2:])
    x, y = (video.float().movedim(-3, -4).contiguous() for video in (prediction, truth))  # B C T H W
    weight = None if mask is None else mask.float().movedim(-3, -4)  # ... B 1 T H W
    result = x.new_ones(())
    for scale, exponent in enumerate(SCALE_WEIGHTS):
        if scale > 0:
            x, y = _halve(x), _halve(y)
            weight = None if weight is None else _halve(weight, count_padding=False)
        luminance, contrast = _ssim_maps(x, y)
        similarity = contrast if scale < len(SCALE_WEIGHTS) - 1 else luminance * contrast
        result = result * _weighted_mean(similarity, weight).relu() ** exponent
    return result.mean(-1)  # over C


def lpips(perceptual: Perceptual, prediction: Tensor, truth: Tensor, mask: Tensor | None = None) -> Tensor:
    """LPIPS (VGG, v0.1) of each video: the mean over its frames.

    With a mask, the mean of the spatial LPIPS map over the region's pixels of all frames.

    Returns:
        (..., B) float64.
    """
    distance = perceptual if mask is None else perceptual.spatial
    pairs = zip(
        prediction.flatten(0, 1).split(LPIPS_FRAMES_AT_ONCE),
        truth.flatten(0, 1).split(LPIPS_FRAMES_AT_ONCE),
        strict=True,
    )
    values = torch.cat([distance(2 * a - 1, 2 * b - 1) for a, b in pairs])  # B·T, or B·T 1 H W
    values = values.unflatten(0, prediction.shape[:2])
    return values.double().mean(1) if mask is None else region_mean(values, mask)


def _ssim_maps(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance and contrast-structure maps: SSIM is their product.

    Written with x+y and x-y, as 2(E[x]² + E[y]²) = E[x+y]² + E[x-y]² and 4·E[x]·E[y] = E[x+y]² - E[x-y]²,
    and so for the variances: fewer windows than the usual form, and exact in float32 where x = y.
    """
    total, difference = x + y, x - y
    square_total, square_difference = _smooth(total).square(), _smooth(difference).square()
    var_total = _smooth(total.square()) - square_total
    var_difference = _smooth(difference.square()) - square_difference
    luminance = (square_total - square_difference + 2 * C1) / (square_total + square_difference + 2 * C1)
    contrast = (var_total - var_difference + 2 * C2) / (var_total + var_difference + 2 * C2)
    return luminance, contrast


def _weighted_mean(similarity: Tensor, weight: Tensor | None) -> Tensor:
    """(B, C, T, H, W) -> (..., B, C): each window weighted by its share in the region."""
    volume = (-3, -2, -1)
    if weight is None:
        return similarity.mean(volume)
    share = _smooth(weight)
    return (similarity * share).sum(volume) / share.sum(volume)


def _smooth(video: Tensor) -> Tensor:
    """Gaussian mean over the windows that lie inside (T, H, W); an axis shorter than the window is left.

    Sums of shifted views: quicker than grouped convolutions on a CPU, and on a GPU free of their TF32, which
    is too coarse for the difference E[x²] - E[x]².
    """
    offsets = range(-(WINDOW // 2), WINDOW // 2 + 1)
    gaussian = [math.exp(-(offset**2) / (2 * WINDOW_SIGMA**2)) for offset in offsets]
    for axis in (-3, -2, -1):
        size = video.shape[axis] - WINDOW + 1
        if size < 1:
            continue
        smoothed = torch.zeros_like(video.narrow(axis, 0, size))
        for start, value in enumerate(gaussian):
            smoothed = smoothed.add_(video.narrow(axis, start, size), alpha=value / sum(gaussian))
        video = smoothed
    return video


def _halve(video: Tensor, count_padding: bool = True) -> Tensor:
    """Mean over 2×2×2; odd sizes get zeros on both sides, which count as values (as in `pytorch-msssim`)."""
    *batch, T, H, W = video.shape
    step = (min(T, 2), 2, 2)
    padding = [size % stride for size, stride in zip((T, H, W), step, strict=True)]
    volumes = video.reshape(-1, 1, T, H, W)
    halved = F.avg_pool3d(volumes, step, padding=padding, count_include_pad=count_padding)
    return halved.view(*batch, *halved.shape[-3:])
