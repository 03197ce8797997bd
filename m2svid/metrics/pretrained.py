"""Metrics that need a network's weights, which the user gives as files; nothing is downloaded.

Shapes: T frames, H W pixels, D features.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionModelWithProjection
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from m2svid.errors import UserError
from m2svid.files import checksum

_I3D_SIDE = 224
_I3D_FRAMES = 10  # fewer vanish in its pooling


class VideoFeatures(nn.Module):
    """Features of whole videos for FVD: I3D of Kinetics-400 as StyleGAN-V publishes it (TorchScript).

    Args:
        weights: its file, `i3d_torchscript.pt`.

    Raises:
        UserError: the file is missing or isn't TorchScript.
    """

    def __init__(self, weights: Path) -> None:
        super().__init__()
        if not weights.is_file():
            raise UserError(
                f"metric_weights: there is no file {weights} for fvd; it takes i3d_torchscript.pt"
            )
        try:
            self.network = torch.jit.load(str(weights), map_location="cpu").eval()
        except RuntimeError as error:
            raise UserError(
                f"metric_weights: {weights} is not TorchScript; fvd takes i3d_torchscript.pt"
            ) from error
        self.checksum = checksum(weights)

    @torch.no_grad()
    def forward(self, video: Tensor) -> list[float]:
        """D features of a video (T, 3, H, W) in [0, 1]: short side at 224, middle square, [-1, 1].

        Raises:
            UserError: the video is too short.
        """
        require_frames(len(video))
        square = 2 * _middle_square(video, _I3D_SIDE, "bilinear") - 1
        clip = square.transpose(0, 1)[None].contiguous()
        return self.network(clip, rescale=False, resize=False, return_features=True)[0].double().tolist()


class ClipConsistency(nn.Module):
    """Mean cosine similarity of the CLIP embeddings of neighbouring frames.

    Args:
        weights: a CLIP vision model with projection as transformers saves it: a folder with `config.json` and
            `model.safetensors`, for instance the `image_encoder` of Stable Video Diffusion.

    Raises:
        UserError: the folder holds no such model.
    """

    def __init__(self, weights: Path) -> None:
        super().__init__()
        files = sorted(weights.glob("*.safetensors"))
        if len(files) != 1 or not (weights / "config.json").is_file():
            raise UserError(
                f"metric_weights: clip_consistency takes a folder with config.json and one safetensors file, "
                f"such as Stable Video Diffusion's image_encoder, and {weights} is none"
            )
        try:
            self.network, report = CLIPVisionModelWithProjection.from_pretrained(
                weights, local_files_only=True, output_loading_info=True
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(
                f"metric_weights: {weights} is no CLIP vision model with projection: {error}"
            ) from error
        if report["missing_keys"]:
            raise UserError(
                f"metric_weights: {files[0]} is no CLIP vision model with projection, it lacks "
                f"{', '.join(sorted(report['missing_keys'])[:3])}..."
            )
        self.network.requires_grad_(False).eval()
        self.checksum = checksum(files[0])

    @torch.no_grad()
    def forward(self, video: Tensor) -> float | None:
        """The value of a video (T, 3, H, W) in [0, 1]; None for a single frame."""
        if len(video) < 2:
            return None
        square = _middle_square(video, self.network.config.image_size, "bicubic", antialias=True).clamp(0, 1)
        mean, std = (
            square.new_tensor(values).view(3, 1, 1) for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)
        )
        embeddings = self.network(pixel_values=(square - mean) / std).image_embeds
        return F.cosine_similarity(embeddings[:-1], embeddings[1:]).double().mean().item()


def _middle_square(video: Tensor, side: int, mode: str, antialias: bool = False) -> Tensor:
    """(T, 3, H, W) -> (T, 3, side, side): the short side resized, the long one cropped."""
    scale = side / min(video.shape[-2:])
    size = [
        side if length == min(video.shape[-2:]) else math.ceil(length * scale) for length in video.shape[-2:]
    ]
    resized = F.interpolate(video, size, mode=mode, align_corners=False, antialias=antialias)
    top, start = ((length - side) // 2 for length in size)
    return resized[..., top : top + side, start : start + side]


def require_frames(count: int) -> None:
    """Raise a UserError where a video of so many frames is too short for fvd."""
    if count < _I3D_FRAMES:
        raise UserError(
            f"metrics: fvd needs videos of at least {_I3D_FRAMES} frames, not {count}: leave it out"
        )


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """|mean difference|² + tr(A + B - 2 (A B)^½) of Gaussians fitted to two sets of features.

    With fewer videos than features the covariances have no full rank and the distance is biased: compare only
    values of the same videos.

    Args:
        a, b: (N, D) and (M, D), at least two rows each.
    """
    a, b = a.double(), b.double()
    covariance_a, covariance_b = torch.cov(a.T), torch.cov(b.T)
    values, vectors = torch.linalg.eigh(covariance_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    # (A B)^½ has the eigenvalues of (A^½ B A^½)^½, which is symmetric.
    cross = torch.linalg.eigvalsh(root @ covariance_b @ root).clamp(min=0).sqrt().sum()
    shift = (a.mean(0) - b.mean(0)).square().sum()
    return (shift + covariance_a.trace() + covariance_b.trace() - 2 * cross).item()
