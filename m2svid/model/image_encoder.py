"""One embedding a frame for the U-Net's cross-attention.

Shapes: B clips, T frames, F = B·T frames, H W pixels, S input size of the encoder, D embedding channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

from m2svid.described import Described

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's training images, [0, 1]
STD = (0.26862954, 0.26130258, 0.27577711)


class ImageEncoder(Described, nn.Module, ABC):
    """Embed the frames of a video.

    Attributes:
        dim: D, the U-Net's cross_attention_dim.
    """

    dim: int

    @property
    def network(self) -> nn.Module:
        """The module whose tensors and configuration are kept as the model's `image_encoder`."""
        return self

    @abstractmethod
    def forward(self, video: Tensor) -> Tensor:
        """Embeddings (B, T, 1, D) of a video (B, T, 3, H, W) in [0, 1]."""


class CLIPImageEncoder(ImageEncoder):
    """CLIP's vision tower with projection, ViT-H/14 in Stable Video Diffusion.

    Args:
        model: the transformers model.
    """

    def __init__(self, model: CLIPVisionModelWithProjection) -> None:
        super().__init__()
        self.model = model
        self.dim = model.config.projection_dim

    @property
    def network(self) -> CLIPVisionModelWithProjection:
        return self.model

    def forward(self, video: Tensor) -> Tensor:
        """Embeddings (B, T, 1, D) of a video (B, T, 3, H, W) in [0, 1], each frame on its own."""
        pixels = preprocess(video.flatten(0, 1), self.model.config.image_size)
        embeds = self.model(pixel_values=pixels.to(self.model.dtype)).image_embeds
        return embeds.unflatten(0, video.shape[:2])[:, :, None]


class NoImageEncoder(ImageEncoder):
    """Embeddings of zeros, where there is no CLIP (quickstart and tests).

    Args:
        dim: D, the U-Net's cross_attention_dim.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, video: Tensor) -> Tensor:
        """Zeros (B, T, 1, D) for a video (B, T, 3, H, W)."""
        return video.new_zeros((*video.shape[:2], 1, self.dim))


def preprocess(frames: Tensor, size: int) -> Tensor:
    """Preprocess frames for CLIP as SVD does: blur against aliasing, resize to a square, normalise.

    Args:
        frames: (F, 3, H, W) in [0, 1].
        size: S.

    Returns:
        (F, 3, S, S) float32.
    """
    frames = frames.float()
    for dim in (-1, -2):
        frames = _blur(frames, dim, shrink=frames.shape[dim] / size)
    resized = F.interpolate(frames, size=(size, size), mode="bicubic", align_corners=True)
    mean, std = (resized.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (resized - mean) / std


def _blur(frames: Tensor, dim: int, shrink: float) -> Tensor:
    """Gaussian blur along a dimension, as wide as a resize by 1/`shrink` needs (scikit-image's rule)."""
    sigma = max((shrink - 1) / 2, 0.001)
    taps = int(max(4 * sigma, 3)) | 1  # odd
    radius = taps // 2
    offset = torch.arange(-radius, radius + 1, device=frames.device, dtype=frames.dtype)
    kernel = torch.exp(-(offset**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()

    pad = (radius, radius, 0, 0) if dim == -1 else (0, 0, radius, radius)
    shape = (1, taps) if dim == -1 else (taps, 1)
    padded = F.pad(frames, pad, mode="reflect")
    return F.conv2d(padded, kernel.view(1, 1, *shape).expand(3, 1, *shape), groups=3)
