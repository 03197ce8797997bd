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
from m2svid.inference.footprint import measure
from m2svid.inference.memory import Fit, describe_decoding, fit, lent
from m2svid.model.m2svid import M2SVid
from m2svid.model.neighbours import DepthCrafterConditioning
from m2svid.model.vae import SVDAutoencoder

LONGEST_SIDE = 1024
DECODE_CHUNK = 8  # frames
WINDOWS = range(104, 7, -4)  # frames, where there is no memory for the model's own


class DepthCrafter(DepthEstimator):
    """Windows of a shot, joined where they overlap: the later one's noisy latents begin there from the
    earlier one's final ones, with the same noise, and both results are cross-faded linearly.

    That noise is a sequence as long as a window, repeated over the film; the pixels' noise, of level 0.02, is
    each window's own.

    Given a budget of memory, the networks are on the device only during a call, and window and decode chunk
    are chosen to fit; shorter windows share as many frames in proportion.

    Args:
        model: folder of the U-Net, as published, or a folder of all networks.
        backbone: Stable Video Diffusion's folder or hub id, where `model` holds the U-Net only.
        device: where it runs.
        dtype: numbers that it calculates with; None = the file's.
        seed: of all noise.
        window: frames that the model sees together; None = those that it was made for, or as many as fit.
        overlap: frames that neighbouring windows share; None = the model's share of a window.
        budget: bytes that it may take; None = no limit.
        size: height and width of the film, px; needed with a budget.

    Raises:
        UserError: the model can't be had, or is another one, or needs more memory.
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
        budget: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        self._device, self._seed = torch.device(device), seed
        self.alone = budget is not None and self._device.type != "cpu"
        home = "cpu" if self.alone else self._device
        self._model = M2SVid.from_pretrained(model, home, dtype, backbone=backbone)
        if not isinstance(self._model.conditioning, DepthCrafterConditioning):
            raise UserError(f"--depth {model} is a model of the same architecture, but not DepthCrafter")
        if isinstance(self._model.vae, SVDAutoencoder):
            self._model.vae.encode_chunk = 1
        usage = self._model.usage
        way = Fit(window or usage.window, 0, DECODE_CHUNK)
        if budget is not None:
            assert size is not None  # belongs to a budget
            way = self._fitted(str(model), way, window is not None, budget, size)
        self.overlap = usage.overlap * way.window // usage.window if overlap is None else overlap
        self.chunk = way.window - self.overlap
        if not 0 <= self.overlap <= way.window // 2:
            raise UserError(
                f"overlap={self.overlap} must be at most half of the window of {way.window} frames"
            )
        self._decode_chunk = way.decode_chunk
        self._whole = () if way.offload else (self._model,)  # what is on the device during a call
        numbers = str(self._model.unet.dtype).removeprefix("torch.")
        self.settings = {
            "depth_dtype": numbers,
            "depth_window": way.window,
            "depth_overlap": self.overlap,
            "depth_decode_chunk": way.decode_chunk,
        }
        self.name = str(model)
        self.description = (
            f"{model} (DepthCrafter on {self._device} in {numbers}), windows of {way.window} frames sharing "
            f"{self.overlap}, {describe_decoding(way)}, normalised per shot"
        )

    @torch.no_grad()
    def __call__(
        self, frames: Sequence[NDArray[np.uint8]], first: int, ahead: Sequence[NDArray[np.uint8]] = ()
    ) -> NDArray[np.float32]:
        known = None if self.memory is None else torch.from_numpy(self.memory).to(self._device)
        with lent(self._device, *self._whole):
            z = self._latents([*frames, *ahead], first, known)
            if known is not None:
                z = cross_fade(known, z)
            self.memory = z[:, len(frames) :].cpu().numpy() if ahead else None
            chunks = z[:, : len(frames)].split(self._decode_chunk, dim=1)
            with lent(self._device, self._model.vae):
                return np.concatenate([self._decode(chunk) for chunk in chunks])

    def _latents(self, frames: Sequence[NDArray[np.uint8]], first: int, known: Tensor | None) -> Tensor:
        """(1, T, C, h, w) of T frames of the film from `first` on, beginning with (1, K, C, h, w) where those
        of the first K are known."""
        video = torch.stack([self._resized(frame) for frame in frames])[None].to(self._device)
        nowhere = torch.zeros_like(video[:, :, :1], dtype=torch.bool)
        batch = StereoBatch(video, video, nowhere, fps=torch.zeros(1, device=self._device))
        generator = torch.Generator(self._device).manual_seed(self._seed)
        model, usage = self._model, self._model.usage
        h, w = (side // model.vae.downscale for side in video.shape[-2:])
        shape = (1, self.chunk + self.overlap, model.vae.latent_channels, h, w)
        noise = torch.randn(shape, generator=generator, device=self._device)
        noise = noise.roll(-first, dims=1)[:, : len(frames)]
        with lent(self._device, model.vae, model.image_encoder):
            condition = model.condition(batch, usage.noise_aug, generator=generator)
        with lent(self._device, model.unet):
            return model.sample(condition, usage.sampler, x=usage.sampler.begin(noise, known))

    def _resized(self, frame: NDArray[np.uint8]) -> Tensor:
        """(3, H', W') in [0, 1]"""
        picture = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
        size = self._size(*frame.shape[:2])
        return F.interpolate(picture, size, mode="bilinear", antialias=True)[0]

    def _size(self, height: int, width: int) -> tuple[int, int]:
        """H' W': multiples of what the model takes, and at most about `LONGEST_SIDE`."""
        shrink = min(1.0, LONGEST_SIDE / max(height, width))
        multiple = self._model.size_multiple
        height, width = (max(1, round(side * shrink / multiple)) * multiple for side in (height, width))
        return height, width

    def _fitted(self, name: str, wished: Fit, given: bool, budget: int, film: tuple[int, int]) -> Fit:
        fixed = frozenset({"tile", "decode_tile", "window"} if given else {"tile", "decode_tile"})
        size = self._size(*film)
        try:
            return fit(
                budget, measure(self._model), *size, wished, fixed, may_offload=self.alone, windows=WINDOWS
            )
        except UserError as error:
            raise UserError(f"--depth {name}: {error}; or name a model of single frames") from error

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
