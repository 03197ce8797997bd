"""Depth by DepthCrafter, a video diffusion model: consistent over long shots (REFERENCE "Neighbours").

Shapes: T frames, H W pixels of the film, h w of the depth maps, C latent channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from m2svid.batch import StereoBatch
from m2svid.depth.base import DepthEstimator
from m2svid.errors import UserError
from m2svid.model.m2svid import M2SVid
from m2svid.model.neighbours import DepthCrafterConditioning
from m2svid.model.vae import SVDAutoencoder

LONGEST_SIDE = 1024
DECODE_CHUNK = 8  # frames


class DepthCrafter(DepthEstimator):
    """Windows of a shot, whose latents are cross-faded linearly where they overlap.

    Args:
        model: folder of the U-Net, as published, or a folder of all networks.
        backbone: Stable Video Diffusion's folder or hub id, where `model` holds the U-Net only.
        device: where it runs.
        dtype: numbers that it calculates with; None = the file's.
        seed: of the noise that every window begins with.
        window: frames that the model sees together; None = those that it was made for.
        overlap: frames that neighbouring windows share; None likewise.

    Raises:
        UserError: the model can't be had, or is another one.
    """

    relative = True
    steady = True

    def __init__(
        self,
        model: str | Path,
        backbone: str | Path | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        seed: int = 0,
        window: int | None = None,
        overlap: int | None = None,
    ) -> None:
        self._model = M2SVid.from_pretrained(model, device, dtype, backbone=backbone)
        if self._model.conditioning.family != DepthCrafterConditioning.family:
            raise UserError(f"--depth {model} is a model of the same architecture, but not DepthCrafter")
        if isinstance(self._model.vae, SVDAutoencoder):
            self._model.vae.encode_chunk = 1
        usage = self._model.usage
        window = usage.window if window is None else window
        self.overlap = usage.overlap if overlap is None else overlap
        self.chunk = window - self.overlap
        if not 0 <= self.overlap <= window // 2:
            raise UserError(f"overlap={self.overlap} must be at most half of the window of {window} frames")
        self._device, self._seed = torch.device(device), seed
        self._end: tuple[int, Tensor] | None = None  # last latents of a window, and the number of their frame
        self.name = str(model)
        self.description = (
            f"{model} (DepthCrafter on {self._device}), windows of {window} frames sharing {self.overlap}, "
            "normalised per shot"
        )

    @torch.inference_mode()
    def __call__(
        self, frames: Sequence[NDArray[np.uint8]], first: int, ahead: Sequence[NDArray[np.uint8]] = ()
    ) -> NDArray[np.float32]:
        z = self._latents([*frames, *ahead])
        if self._end is not None and self._end[0] == first:
            z = cross_fade(self._end[1], z)
        self._end = (first + len(frames), z[:, len(frames) :]) if ahead else None
        chunks = z[:, : len(frames)].split(DECODE_CHUNK, dim=1)
        return np.concatenate([self._decode(chunk) for chunk in chunks])

    def _latents(self, frames: Sequence[NDArray[np.uint8]]) -> Tensor:
        """(1, T, C, h, w)"""
        video = torch.stack([self._resized(frame) for frame in frames])[None].to(self._device)
        nowhere = torch.zeros_like(video[:, :, :1], dtype=torch.bool)
        batch = StereoBatch(video, video, nowhere, fps=torch.zeros(1, device=self._device))
        noise = torch.Generator(self._device).manual_seed(self._seed)
        condition = self._model.condition(batch, self._model.usage.noise_aug, generator=noise)
        return self._model.sample(condition, self._model.usage.sampler, noise)

    def _resized(self, frame: NDArray[np.uint8]) -> Tensor:
        """(3, H', W') in [0, 1], multiples of what the model takes, and at most about `LONGEST_SIDE`."""
        shrink = min(1.0, LONGEST_SIDE / max(frame.shape[:2]))
        multiple = self._model.size_multiple
        size = [max(1, round(side * shrink / multiple)) * multiple for side in frame.shape[:2]]
        picture = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
        return F.interpolate(picture, size, mode="bilinear", antialias=True)[0]

    def _decode(self, z: Tensor) -> NDArray[np.float32]:
        """Depth in about [0, 1]: the mean of the colours."""
        return (self._model.decode(z)[0].float().mean(1) / 2 + 0.5).clamp(0, 1).cpu().numpy()


def cross_fade(earlier: Tensor, later: Tensor) -> Tensor:
    """Latents (B, T, C, h, w) of the later of two windows, coming in linearly from 0 to 1 over the frames
    (B, K, C, h, w) that the earlier one ends with."""
    count = min(earlier.shape[1], later.shape[1])
    weight = torch.linspace(0, 1, count, device=later.device)[:, None, None, None]
    shared = earlier[:, :count] * (1 - weight) + later[:, :count] * weight
    return torch.cat([shared, later[:, count:]], dim=1)
