"""Inpainting of a matrix of views and times by a frozen text-to-video model (SVG, Dai et al. 2025, Section 4;
published code at commit 9466625).

Shapes: V views from the left eye to the right one, T times, F frames that the network sees together (T along
time, V along views), H W pixels, C h w latent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLTemporalDecoder, DDPMScheduler, UNet3DConditionModel
from diffusers.utils.torch_utils import randn_tensor
from torch import Generator, Tensor

BLUR = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)  # OpenCV's Gaussian of 5 pixels
LATENT_KNOWN = 0.7  # share of known pixels in the window around a latent position


@dataclass(frozen=True)
class Schedule:
    """The schedule of denoising and resampling; the defaults are the published code's.

    Attributes:
        num_steps: of the scheduler.
        guidance: of classifier-free guidance.
        rounds: resampling rounds a step, while all views are denoised.
        last_rounds: the same once only the last view is.
        matrix_end: timestep up to which only the last view is denoised.
    """

    num_steps: int = 50
    guidance: float = 7.5
    rounds: int = 6
    last_rounds: int = 2
    matrix_end: int = 500


class FrameMatrix:
    """Fills the unknown pixels of all views together, and returns the last view.

    Args:
        unet: network of Zeroscope's kind; it predicts noise.
        vae: encodes each frame, and decodes each view as a clip.
        scheduler: of the network.
        text: (2, L, D) embeddings of the negative and of the wanted prompt.
        schedule: see `Schedule`.
    """

    def __init__(
        self,
        unet: UNet3DConditionModel,
        vae: AutoencoderKLTemporalDecoder,
        scheduler: DDPMScheduler,
        text: Tensor,
        schedule: Schedule,
    ) -> None:
        self._unet, self._vae, self._scheduler = unet, vae, scheduler
        # diffusers looks through all parameters for these, which takes milliseconds
        self._unet_dtype, self._vae_dtype = unet.dtype, vae.dtype
        self._text, self._schedule = text.to(self._unet_dtype), schedule
        self._generator: Generator | None = None
        self._downscale = 2 ** (len(vae.config.block_out_channels) - 1)

    @torch.no_grad()
    def __call__(self, views: Tensor, known: Tensor, generator: Generator) -> Tensor:
        """The last view.

        Args:
            views: (V, T, 3, H, W) in [0, 1].
            known: (V, T, 1, H, W) bool.
            generator: of all noise, on the views' device.

        Returns:
            (T, 3, H, W) in [0, 1].
        """
        self._generator, scheduler = generator, self._scheduler
        known = _eroded(known)
        views = views * known
        mask = latent_mask(known, self._downscale)  # (V, T, 1, h, w)
        source = torch.stack([self._encode(view) for view in views])  # (V, T, C, h, w)
        z = self._noise(source)
        scheduler.set_timesteps(self._schedule.num_steps, device=z.device)
        steps = scheduler.timesteps.tolist()
        for t, t_next in zip(steps, [*steps[1:], None], strict=True):
            if t <= self._schedule.matrix_end:  # the other views no longer reach the last one
                z, source, mask, views, known = (x[-1:] for x in (z, source, mask, views, known))
            z, clean = self._denoise_views(z, t)
            # Boundary re-injection: the known part of the latents no longer knows of black holes.
            inpainted = [
                torch.where(k, v, self._decode(c)) for c, v, k in zip(clean, views, known, strict=True)
            ]
            source = torch.stack([self._encode(view) for view in inpainted])
            if t_next is None:
                z = z + (source - z) * mask
            else:
                z = self._resample(z, source, mask, t, t_next)
                z = z + (self._noised(source, t_next) - z) * mask
        return self._decode(z[-1])

    def _resample(self, z: Tensor, source: Tensor, mask: Tensor, t: int, t_next: int) -> Tensor:
        """Noise z from `t_next` back to `t` and denoise it again, several times (RePaint):
        in turn along time and along the views, in both directions."""
        whole = t > self._schedule.matrix_end
        kept = (1 - self._scheduler.betas[t_next:t]).prod().to(z.device)  # its betas end one too early
        for turn in range(self._schedule.rounds if whole else self._schedule.last_rounds):
            z = kept.sqrt() * z + (1 - kept).sqrt() * self._noise(z)
            z = z + (self._noised(source, t) - z) * mask
            if not whole or turn % 2 == 0:
                z, _ = self._denoise_views(z, t)
            else:
                z = self._denoise_times(z, t, backwards=turn % 4 == 3)
        return z

    def _denoise_views(self, z: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """One step along time: (V, T, C, h, w) at the next timestep, and its estimate without noise."""
        results = [self._step(view, t, self._predict) for view in z]
        return torch.stack([step[0] for step in results]), torch.stack([step[1] for step in results])

    def _denoise_times(self, z: Tensor, t: int, backwards: bool) -> Tensor:
        """One step along the views, from left to right or backwards."""

        def predict(frames: Tensor, t: int) -> Tensor:
            return self._predict(frames.flip(0), t).flip(0) if backwards else self._predict(frames, t)

        return torch.stack([self._step(z[:, time], t, predict)[0] for time in range(z.shape[1])], dim=1)

    def _step(
        self, frames: Tensor, t: int, predict: Callable[[Tensor, int], Tensor]
    ) -> tuple[Tensor, Tensor]:
        noise = predict(frames, t)
        step = self._scheduler.step(noise, t, frames, generator=self._generator)
        return step.prev_sample, step.pred_original_sample

    def _predict(self, frames: Tensor, t: int) -> Tensor:
        """The guided noise of (F, C, h, w)."""
        x = frames.to(self._unet_dtype).transpose(0, 1).expand(2, -1, -1, -1, -1)
        free, wanted = self._unet(x, t, self._text).sample.transpose(1, 2).float()
        return free + self._schedule.guidance * (wanted - free)

    def _noise(self, like: Tensor) -> Tensor:
        return randn_tensor(like.shape, generator=self._generator, device=like.device)

    def _noised(self, source: Tensor, t: int) -> Tensor:
        return self._scheduler.add_noise(source, self._noise(source), torch.tensor([t], device=source.device))

    def _encode(self, view: Tensor) -> Tensor:
        """(T, 3, H, W) in [0, 1] -> a sample of the posterior, scaled, (T, C, h, w)."""
        posterior = self._vae.encode((view * 2 - 1).to(self._vae_dtype)).latent_dist
        return posterior.sample(self._generator).float() * self._vae.config.scaling_factor

    def _decode(self, z: Tensor) -> Tensor:
        """(T, C, h, w) -> (T, 3, H, W) in [0, 1]."""
        z = (z / self._vae.config.scaling_factor).to(self._vae_dtype)
        return (self._vae.decode(z, num_frames=len(z)).sample.float() / 2 + 0.5).clamp(0, 1)


def _eroded(known: Tensor) -> Tensor:
    """Without the pixels beside unknown ones (3×3); outside the frame counts as known."""
    unknown = F.max_pool2d((~known).flatten(0, 1).float(), 3, stride=1, padding=1) > 0
    return ~unknown.unflatten(0, known.shape[:2])


def latent_mask(known: Tensor, downscale: int) -> Tensor:
    """Weight of the known latents, soft towards the unknown ones.

    Args:
        known: (V, T, 1, H, W) bool.
        downscale: pixels a latent position stands for, along each side; even.

    Returns:
        (V, T, 1, h, w) float in [0, 1]; 0 where the pixels in the middle of the position aren't all known, or
        less than 0.7 of a window around one of them.
    """
    flat = known.flatten(0, 1).float()  # (V·T, 1, H, W)
    half = downscale // 2
    window = F.pad(flat, (half, half - 1, half, half - 1), mode="reflect")
    share = F.avg_pool2d(window, downscale, stride=1)
    safe = ((share >= LATENT_KNOWN - 1e-6) & (flat > 0)).float()
    H, W = safe.shape[-2:]
    hard = (F.interpolate(safe, (H // downscale, W // downscale), mode="bilinear") >= 1).float()
    bell = torch.tensor(BLUR, device=known.device)
    kernel = (bell[:, None] * bell)[None, None]
    soft = F.conv2d(F.pad(hard, (2, 2, 2, 2), mode="reflect"), kernel)
    return (soft * hard).unflatten(0, known.shape[:2])
