"""Warped view -> right view by the model, on windows and tiles.

Shapes: T frames of a window, H W pixels, h w latent. Videos are (T, 3, H, W), uint8 or float in [0, 1].
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from m2svid.batch import StereoBatch
from m2svid.convert.refine import Refiner, unit
from m2svid.convert.tiles import Blend, Tile, plan_tiles
from m2svid.model.m2svid import M2SVid


class ModelRefiner(Refiner):
    """M2SVid on windows, and on tiles where frames are large.

    Args:
        model: the network, on its device; its `usage` says what is not given.
        tile: height and width of a tile, px; None = the whole frame at once.
        tile_overlap: px that neighbouring tiles share.
        window: frames of a window.
        overlap: frames that a window knows from the one before.
        num_steps: how often the network runs.
        noise_aug: level of the conditioning noise.
        add_noise: whether that noise is added, or the network only told of it.
        seed: of all noise; every window and tile begins with it.
    """

    def __init__(
        self,
        model: M2SVid,
        tile: int | None = None,
        tile_overlap: int = 128,
        window: int | None = None,
        overlap: int | None = None,
        num_steps: int | None = None,
        noise_aug: float | None = None,
        add_noise: bool = True,
        seed: int = 0,
    ) -> None:
        usage = model.usage
        self.length = usage.window if window is None else window
        self.overlap = usage.overlap if overlap is None else overlap
        self._model = model
        self._sampler = copy.copy(usage.sampler)
        self._sampler.num_steps = num_steps or self._sampler.num_steps
        self._noise_aug = usage.noise_aug if noise_aug is None else noise_aug
        self._add_noise = add_noise
        self._tile, self._tile_overlap = tile, tile_overlap
        self._seed = seed
        self._device = next(model.parameters()).device
        size = f"tiles of {tile} px sharing {tile_overlap}" if tile else "whole frames"
        self.description = (
            f"model on {self._device}, windows of {self.length} frames sharing {self.overlap}, {size}"
        )

    @torch.inference_mode()
    def __call__(
        self, left: Tensor, warped: Tensor, hole: Tensor, fps: float, known: Tensor | None
    ) -> Tensor:
        height, width = left.shape[-2:]
        batch = self._batch(left, warped, hole, fps, known)
        tiles = self._tiles(*batch.left.shape[-2:])
        z = Blend(tiles, self._model.vae.downscale)(self._latents(batch, tiles))
        right = self._model.decode(z)[0].float() / 2 + 0.5
        return right[..., :height, :width].clamp(0, 1).to(left.device)

    def _batch(
        self, left: Tensor, warped: Tensor, hole: Tensor, fps: float, known: Tensor | None
    ) -> StereoBatch:
        """The window as the model takes it: padded to its multiples, known frames in their places."""
        left, warped = (unit(video.to(self._device)) for video in (left, warped))
        hole = hole.to(self._device)
        replaced = None
        if known is not None:
            warped = torch.cat([unit(known.to(self._device)), warped[len(known) :]])
            if self._model.usage.mark_known:
                replaced = (torch.arange(len(left), device=self._device) < len(known))[None]
        multiple = self._model.size_multiple
        pad = (0, -left.shape[-1] % multiple, 0, -left.shape[-2] % multiple)
        left, warped = (F.pad(video, pad, mode="replicate")[None] for video in (left, warped))
        hole = F.pad(hole.float(), pad, mode="replicate")[None] > 0
        return StereoBatch(left, warped, hole, torch.tensor([fps], device=self._device), replaced=replaced)

    def _tiles(self, height: int, width: int) -> list[Tile]:
        size = (self._tile, self._tile) if self._tile else (height, width)
        return plan_tiles(height, width, size, self._tile_overlap if self._tile else 0)

    def _latents(self, batch: StereoBatch, tiles: list[Tile]) -> Iterator[Tensor]:
        for tile in tiles:
            part = StereoBatch(
                tile.crop(batch.left),
                tile.crop(batch.warped),
                tile.crop(batch.hole),
                batch.fps,
                replaced=batch.replaced,
            )
            generator = torch.Generator(self._device).manual_seed(self._seed)
            condition = self._model.condition(part, self._noise_aug, self._add_noise, generator)
            B, T, _, h, w = condition.mask.shape
            shape = (B, T, self._model.vae.latent_channels, h, w)

            def denoise(x: Tensor, sigma: Tensor, condition=condition, generator=generator) -> Tensor:  # noqa: ANN001
                return self._model.denoise(x, sigma, condition, generator)

            yield self._sampler(denoise, shape, self._device, generator)
