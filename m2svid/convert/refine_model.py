"""Warped view -> right view by the model, on windows and tiles.

Shapes: T frames of a window, H W pixels, h w latent. Videos are (T, 3, H, W), uint8 or float in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m2svid.batch import StereoBatch
from m2svid.convert.memory import Fit, available, fit, measure
from m2svid.convert.options import Options
from m2svid.convert.refine import Refiner, unit
from m2svid.convert.tiles import Blend, Tile, plan_tiles
from m2svid.model.conditioning import Condition
from m2svid.model.m2svid import M2SVid
from m2svid.model.vae import SVDAutoencoder


class ModelRefiner(Refiner):
    """M2SVid on windows, and on tiles where frames are large.

    Args:
        model: the network; its `usage` says what is not given.
        device: where it runs; None = where it is.
        tile: height and width of a tile, px; 0 = the whole frame at once.
        tile_overlap: px that neighbouring tiles share.
        window: frames of a window.
        overlap: frames that a window knows from the one before.
        decode_chunk: frames decoded at a time; None = the window, which is exact.
        offload: keep only the network in use on the device.
        num_steps: how often the network runs.
        noise_aug: level of the conditioning noise.
        add_noise: whether that noise is added, or the network only told of it.
        seed: of all noise; every window and tile begins with it.
    """

    def __init__(
        self,
        model: M2SVid,
        device: torch.device | None = None,
        tile: int = 0,
        tile_overlap: int = 128,
        window: int | None = None,
        overlap: int | None = None,
        decode_chunk: int | None = None,
        offload: bool = False,
        num_steps: int | None = None,
        noise_aug: float | None = None,
        add_noise: bool = True,
        seed: int = 0,
    ) -> None:
        usage = model.usage
        self.length = usage.window if window is None else window
        self.overlap = usage.overlap if overlap is None else overlap
        self._device = device or next(model.parameters()).device
        self._model = model.to("cpu" if offload else self._device)
        self._sampler = usage.sampler.with_steps(num_steps)
        self._noise_aug = usage.noise_aug if noise_aug is None else noise_aug
        self._add_noise = add_noise
        self._tile, self._tile_overlap = tile, tile_overlap
        self._decode_chunk, self._offload = decode_chunk or self.length, offload
        self._seed = seed
        size = f"tiles of {tile} px sharing {tile_overlap}" if tile else "whole frames"
        turns = ", networks taking turns" if offload else ""
        self.description = (
            f"model on {self._device}, windows of {self.length} frames sharing {self.overlap}, {size}, "
            f"{min(self._decode_chunk, self.length)} frames decoded at a time{turns}"
        )
        self.settings = {
            "window": self.length,
            "overlap": self.overlap,
            "tile": tile,
            "decode_chunk": self._decode_chunk,
        }

    @torch.no_grad()
    def __call__(
        self, left: Tensor, warped: Tensor, hole: Tensor, fps: float, known: Tensor | None
    ) -> Tensor:
        height, width = left.shape[-2:]
        batch = self._batch(left, warped, hole, fps, known)
        tiles = self._tiles(*batch.left.shape[-2:])
        model = self._model
        with self._placed(model.vae, model.image_encoder):
            conditions = [self._condition(batch, tile) for tile in tiles]
        with self._placed(model.unet):
            latents = (model.sample(condition, self._sampler, noise) for condition, noise in conditions)
            z = Blend(tiles, model.vae.downscale)(latents)
        with self._placed(model.vae):
            parts = [model.decode(part)[0].float().cpu() for part in z.split(self._decode_chunk, dim=1)]
        right = (torch.cat(parts) / 2 + 0.5).clamp(0, 1)
        return right[..., :height, :width].to(left.device)

    @contextmanager
    def _placed(self, *networks: nn.Module) -> Iterator[None]:
        """The networks on the device while the context lasts, if they take turns."""
        lent = [t for network in networks for t in (*network.parameters(), *network.buffers())]
        homes = [tensor.data for tensor in lent]
        try:
            for tensor in lent if self._offload else ():
                tensor.data = tensor.data.to(self._device)
            yield
        finally:
            for tensor, home in zip(lent, homes, strict=True):
                tensor.data = home

    def _batch(
        self, left: Tensor, warped: Tensor, hole: Tensor, fps: float, known: Tensor | None
    ) -> StereoBatch:
        """The window as the model takes it: padded to its multiples, known frames in their places."""
        left, warped = unit(left), unit(warped)
        replaced = None
        if known is not None:
            warped = torch.cat([unit(known), warped[len(known) :]])
            if self._model.usage.mark_known:
                replaced = (torch.arange(len(left)) < len(known))[None]
        multiple = self._model.size_multiple
        pad = (0, -left.shape[-1] % multiple, 0, -left.shape[-2] % multiple)
        left, warped = (F.pad(video, pad, mode="replicate")[None] for video in (left, warped))
        hole = F.pad(hole.float(), pad, mode="replicate")[None] > 0
        return StereoBatch(left, warped, hole, torch.tensor([fps]), replaced=replaced)

    def _tiles(self, height: int, width: int) -> list[Tile]:
        size = (self._tile, self._tile) if self._tile else (height, width)
        return plan_tiles(height, width, size, self._tile_overlap if self._tile else 0)

    def _condition(self, batch: StereoBatch, tile: Tile) -> tuple[Condition, torch.Generator]:
        """What the network is told of a tile, and the source of its noise."""
        part = StereoBatch(
            *(tile.crop(video).to(self._device) for video in (batch.left, batch.warped, batch.hole)),
            batch.fps.to(self._device),
            replaced=None if batch.replaced is None else batch.replaced.to(self._device),
        )
        generator = torch.Generator(self._device).manual_seed(self._seed)
        return self._model.condition(part, self._noise_aug, self._add_noise, generator), generator


def fitted(model: M2SVid, device: torch.device, options: Options, width: int, height: int) -> ModelRefiner:
    """The refiner that gets by with the memory that the options allow, for frames of width × height.

    Raises:
        UserError: there is none.
    """
    multiple = model.size_multiple
    wished = Fit(
        options.window or model.usage.window,
        options.tile or 0,
        options.decode_chunk or options.window or model.usage.window,
    )
    fixed = {name for name in ("window", "tile", "decode_chunk") if getattr(options, name) is not None}
    budget = available(options.vram, device)
    if budget is not None:
        _encode_single_frames(model)
        sizes = (-(-height // multiple) * multiple, -(-width // multiple) * multiple)
        overlap = model.usage.overlap if options.overlap is None else options.overlap
        wished = fit(
            budget,
            measure(model),
            *sizes,
            wished,
            frozenset(fixed),
            overlap,
            may_offload=device.type != "cpu",
        )
    return ModelRefiner(
        model,
        device,
        wished.tile,
        options.tile_overlap,
        wished.window,
        options.overlap,
        wished.decode_chunk,
        wished.offload,
        options.num_steps,
        options.noise_aug,
        options.add_noise,
        options.seed,
    )


def _encode_single_frames(model: M2SVid) -> None:
    if isinstance(model.vae, SVDAutoencoder):
        model.vae.encode_chunk = 1
