"""One clip of any size through a model: tiles, networks on the device, chunks, retries with less memory.

This is the only way through a model; the caller makes the batch and uses the latents and frames.

Shapes: T frames, H W pixels, C latent channels, h w latent size.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from m2svid.batch import StereoBatch
from m2svid.errors import UserError
from m2svid.inference.blending import blend
from m2svid.inference.memory import MemoryPlan, Plan, lent
from m2svid.inference.tiles import Tile, plan_tiles
from m2svid.model.conditioning import Condition
from m2svid.model.m2svid import M2SVid
from m2svid.model.sampler import Sampler
from m2svid.model.vae import SVDAutoencoder

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class ClipModel:
    """A model on a device.

    Tiles of the U-Net are blended as latents. Where even a single frame is too large for the decoder, it
    decodes tiles, which share a quarter of their side and are blended as pixels. That is approximate: its
    group norms and its attention, which see the whole frame otherwise, take each tile for a frame, so that
    tiles can differ a little all over; near their borders they lack what lies beyond.

    Attributes:
        model: the networks.
        device: where they run.
        memory: plan of tiles and chunks, lowered where the device's memory is too small.
        sampler: of the latents.
        noise_aug: level of the conditioning noise.
        add_noise: False keeps the conditioning clean; the network is told the level nevertheless.
        seed: of all noise; every clip and tile begins with it.
        tile_overlap: px that neighbouring tiles share.
        encode_dtype: numbers that the encoder calculates with, see `encoding_in`; None = the model's.
    """

    model: M2SVid
    device: torch.device
    memory: MemoryPlan
    sampler: Sampler
    noise_aug: float
    add_noise: bool = True
    seed: int = 0
    tile_overlap: int = 0
    encode_dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        if isinstance(self.model.vae, SVDAutoencoder):
            self.model.vae.encode_dtype = self.encode_dtype

    @torch.no_grad()
    def sample(self, batch: StereoBatch, start: Callable[[torch.Generator], Tensor] | None = None) -> Tensor:
        """Scaled latents (1, T, C, h, w) of a batch of one clip, on the CPU.

        Args:
            batch: H and W are multiples of what the model takes.
            start: draws the noisy latents to begin with; only with whole frames. None = the sampler's own.

        Raises:
            ShorterWindowError: there is memory for fewer frames only.
            UserError: there is too little memory.
        """
        side = max(batch.left.shape[-2:])

        def work(plan: Plan) -> Tensor:
            encode = partial(self._conditions, batch, start)
            tiles, conditions = self.memory.run("encode", side, encode)
            with self._present(self.memory.plan, self.model.unet):
                latents = (self.model.sample(each, self.sampler, *rest) for each, *rest in conditions)
                return blend([tile.shrunk(self.model.vae.downscale) for tile in tiles], latents)

        return self.memory.run("sample", side, work)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Frames (T, 3, H, W), about in [-1, 1], float32 on the CPU, of scaled latents (1, T, C, h, w).

        Raises:
            UserError: there is too little memory.
        """
        side = max(z.shape[-2:]) * self.model.vae.downscale
        return self.memory.run("decode", side, lambda plan: self._decode(z, plan))

    def _conditions(
        self, batch: StereoBatch, start: Callable[[torch.Generator], Tensor] | None, plan: Plan
    ) -> tuple[list[Tile], list[tuple[Condition, torch.Generator, Tensor | None]]]:
        """Tiles, and of each its condition, the source of its noise, and latents to start from."""
        vae = self.model.vae
        if isinstance(vae, SVDAutoencoder):
            vae.encode_chunk = plan.encode_chunk or None
        tiles = _tiles(*batch.left.shape[-2:], plan.tile, self.tile_overlap)
        with self._present(plan, vae, self.model.image_encoder):
            return tiles, [self._condition(batch, tile, start) for tile in tiles]

    def _condition(
        self, batch: StereoBatch, tile: Tile, start: Callable[[torch.Generator], Tensor] | None
    ) -> tuple[Condition, torch.Generator, Tensor | None]:
        part = StereoBatch(
            *(tile.crop(video).to(self.device) for video in (batch.left, batch.warped, batch.hole)),
            batch.fps.to(self.device),
            replaced=None if batch.replaced is None else batch.replaced.to(self.device),
        )
        generator = torch.Generator(self.device).manual_seed(self.seed)
        x = None if start is None else start(generator)
        condition = self.model.condition(part, self.noise_aug, self.add_noise, generator)
        if not condition.channels.isfinite().all():
            raise UserError(
                "the autoencoder's numbers became too large while it encoded: give --encode-dtype float32"
            )
        return condition, generator, x

    def _decode(self, z: Tensor, plan: Plan) -> Tensor:
        model, scale = self.model, self.model.vae.downscale
        height, width = (side * scale for side in z.shape[-2:])
        tiles = _tiles(height, width, plan.decode_tile, plan.decode_tile // 4)

        def decoded(chunk: Tensor) -> Tensor:
            crops = (tile.shrunk(scale).crop(chunk).to(self.device) for tile in tiles)
            return blend(tiles, (model.decode(crop)[0].cpu().float() for crop in crops))

        with self._present(plan, model.vae):
            chunks = [decoded(chunk) for chunk in z.split(plan.decode_chunk, dim=1)]
        return chunks[0] if len(chunks) == 1 else torch.cat(chunks)

    def _present(self, plan: Plan, *networks: nn.Module) -> AbstractContextManager[None]:
        """The networks are on the device; they leave it afterwards where the plan says so."""
        if plan.offload:
            self.model.to(_CPU)
            return lent(self.device, *networks)
        self.model.to(self.device)
        return nullcontext()


def _tiles(height: int, width: int, side: int, overlap: int) -> list[Tile]:
    """A side of 0 means whole frames."""
    return plan_tiles(height, width, (side, side) if side else (height, width), overlap if side else 0)
