"""Depth by DepthCrafter, a video diffusion model: consistent over long shots (REFERENCE §10).

Shapes: T frames, K of them shared with the next window, H W pixels of the film, h w of the depth maps,
C latent channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from m2svid.batch import StereoBatch
from m2svid.depth.base import DepthEstimator, DepthRequest
from m2svid.errors import UserError
from m2svid.inference.blending import cross_fade
from m2svid.inference.clip_model import ClipModel
from m2svid.inference.memory import MemoryPlan, Plan
from m2svid.model.neighbours import DepthCrafterConditioning
from m2svid.weights.fetch import read_json
from m2svid.weights.load import load

HUB_ID = "tencent/DepthCrafter"
LONGEST_SIDE = 1024
DECODE_CHUNK = 8  # frames
WINDOWS = (96, 84, 72, 60, 48, 36, 28, 20, 14, 8)  # frames, where there is no memory for the model's own


class DepthCrafter(DepthEstimator):
    """Windows of a shot, joined where they overlap: the later one's noisy latents begin there from the
    earlier one's final ones, with the same noise, and both results are cross-faded linearly.

    That noise is a sequence as long as a window, repeated over the film; the pixels' noise, of level 0.02, is
    each window's own.

    On a GPU, each network is there only while it runs. Where memory is too small for a window, shorter ones
    share as many frames in proportion.

    Args:
        model: folder of the U-Net, as published, or a folder of all networks.
        backbone: Stable Video Diffusion's folder or hub id, where `model` holds the U-Net only.
        device: where it runs.
        dtype: numbers that it calculates with; None = the file's.
        seed: of all noise.
        window: frames that the model sees together; None = those that it was made for, or as many as fit.
        overlap: frames that neighbouring windows share; None = the model's share of a window.

    Raises:
        UserError: the model can't be had, or is another one.
    """

    relative = True
    steady = True

    @classmethod
    def accepts(cls, name: str) -> bool:
        """The hub id, or a folder of Stable Video Diffusion's architecture: all networks or a U-Net alone."""
        config = Path(name) / "config.json"
        kind = read_json(config).get("_class_name") if config.exists() else None
        whole = (Path(name) / "model_index.json").exists()
        return name == HUB_ID or whole or "UNetSpatioTemporal" in str(kind)

    @classmethod
    def open(cls, request: DepthRequest) -> DepthCrafter:
        return cls(request.name, request.backbone, request.device, request.dtype, request.seed)

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
        device = torch.device(device)
        self._model = load(model, "cpu", dtype, backbone=backbone)
        if not isinstance(self._model.conditioning, DepthCrafterConditioning):
            raise UserError(f"--depth {model} is a model of the same architecture, but not DepthCrafter")
        usage = self._model.usage
        self.offload = device.type != "cpu"
        first = Plan(window or usage.window, 0, DECODE_CHUNK, 0, self.offload)
        kept = {"tile", "decode_tile"} | ({"window"} if window else set())
        self.memory = MemoryPlan(first, frozenset(kept), WINDOWS)
        self._clip = ClipModel(
            self._model, device, self.memory, usage.sampler, usage.noise_aug, add_noise=True, seed=seed
        )
        self._overlap = overlap
        self.begin_shot()
        if not 0 <= self.overlap <= first.window // 2:
            raise UserError(
                f"overlap={self.overlap} must be at most half of the window of {first.window} frames"
            )
        self._numbers = str(self._model.unet.dtype).removeprefix("torch.")
        self.settings = {"depth_dtype": self._numbers}
        self.name = str(model)

    def share_memory(self, other: DepthEstimator) -> None:
        assert other.memory is not None  # a DepthCrafter
        self.memory = other.memory
        self._clip = replace(self._clip, memory=other.memory)

    def begin_shot(self) -> tuple[int, int]:
        usage, window = self._model.usage, self.memory.plan.window
        self.overlap = usage.overlap * window // usage.window if self._overlap is None else self._overlap
        self.chunk = window - self.overlap
        return self.chunk, self.overlap

    @property
    def description(self) -> str:
        return (
            f"{self.name} (DepthCrafter on {self._clip.device} in {self._numbers}), {self.memory.plan}, "
            f"sharing {self.overlap}, normalised per shot"
        )

    def __call__(self, frames: Sequence[NDArray[np.uint8]], first: int) -> NDArray[np.float32]:
        return self.continued(frames, first, (), None)[0]

    @torch.no_grad()
    def continued(
        self,
        frames: Sequence[NDArray[np.uint8]],
        first: int,
        ahead: Sequence[NDArray[np.uint8]],
        before: NDArray[Any] | None,
    ) -> tuple[NDArray[np.float32], NDArray[Any] | None]:
        """The latents (1, K, C, h, w) of the frames ahead come with the depth."""
        known = None if before is None else torch.from_numpy(before)
        z = self._latents([*frames, *ahead], first, known)
        if known is not None:
            count = min(known.shape[1], z.shape[1])
            z = cross_fade(known[0, :count], z[0], torch.linspace(0, 1, count))[None]
        depth = self._clip.decode(z[:, : len(frames)]).mean(1) / 2 + 0.5  # the mean of the colours
        return depth.clamp(0, 1).numpy(), z[:, len(frames) :].numpy() if ahead else None

    def _latents(self, frames: Sequence[NDArray[np.uint8]], first: int, known: Tensor | None) -> Tensor:
        """(1, T, C, h, w) of T frames of the film from `first` on, beginning with (1, K, C, h, w) where those
        of the first K are known."""
        video = torch.stack([self._resized(frame) for frame in frames])[None]
        nowhere = torch.zeros_like(video[:, :, :1], dtype=torch.bool)
        batch = StereoBatch(video, video, nowhere, fps=torch.zeros(1))
        vae, device = self._model.vae, self._clip.device
        h, w = (side // vae.downscale for side in video.shape[-2:])
        shape = (1, self.chunk + self.overlap, vae.latent_channels, h, w)

        def start(generator: torch.Generator) -> Tensor:
            noise = torch.randn(shape, generator=generator, device=device)
            noise = noise.roll(-first, dims=1)[:, : len(frames)]
            return self._clip.sampler.begin(noise, None if known is None else known.to(device))

        return self._clip.sample(batch, start)

    def _resized(self, frame: NDArray[np.uint8]) -> Tensor:
        """(3, H', W') in [0, 1]: multiples of what the model takes, and at most about `LONGEST_SIDE`."""
        picture = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
        shrink = min(1.0, LONGEST_SIDE / max(frame.shape[:2]))
        multiple = self._model.size_multiple
        size = [max(1, round(side * shrink / multiple)) * multiple for side in frame.shape[:2]]
        return F.interpolate(picture, size, mode="bilinear", antialias=True)[0]
