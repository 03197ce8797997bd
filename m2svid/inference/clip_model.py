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

from m2svid.batch import StereoBatch, to_float
from m2svid.errors import UserError
from m2svid.inference.blending import blend, join
from m2svid.inference.memory import MemoryPlan, Plan, lent
from m2svid.inference.parts import cover, shrink
from m2svid.inference.tiles import Tile, plan_tiles
from m2svid.model.conditioning import Condition
from m2svid.model.m2svid import M2SVid
from m2svid.model.partial_decoder import MEASURED
from m2svid.model.sampler import Sampler
from m2svid.model.speed import lay_channels_last
from m2svid.model.vae import SVDAutoencoder
from m2svid.warping.mask import dilate

_CPU = torch.device("cpu")
_WORTHWHILE = 0.9  # of the operations; where parts need more, whole frames are decoded, which is exact
_SEEN = 18  # latents around a pixel that the convolutions of Stable Video Diffusion's decoder reach

_Encoded = tuple[Condition, torch.Generator, Tensor | None] | Tensor  # latents where nothing is needed


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
        if self.device.type == "cuda":
            lay_channels_last(self.model)

    @torch.no_grad()
    def sample(
        self,
        batch: StereoBatch,
        start: Callable[[torch.Generator], Tensor] | None = None,
        needed: Tensor | None = None,
    ) -> Tensor:
        """Scaled latents (1, T, C, h, w) of a batch of one clip, on the CPU.

        Args:
            batch: H and W are multiples of what the model takes.
            start: draws the noisy latents to begin with; only with whole frames. None = the sampler's own.
            needed: (H, W) bool, pixels that will be used; None = all. In a tile that none of them looks at,
                the warped view's own latents stand for the model's.

        Raises:
            ShorterWindowError: there is memory for fewer frames only.
            UserError: there is too little memory.
        """
        side = max(batch.left.shape[-2:])

        def work(plan: Plan) -> Tensor:
            encode = partial(self._encoded, batch, start, needed)
            tiles, encoded = self.memory.run("encode", side, encode)
            with self._present(self.memory.plan, self.model.unet):
                latents = (each if isinstance(each, Tensor) else self._sampled(*each) for each in encoded)
                return blend([tile.shrunk(self.model.vae.downscale) for tile in tiles], latents)

        return self.memory.run("sample", side, work)

    @torch.no_grad()
    def decode(self, z: Tensor, needed: Tensor | None = None) -> Tensor:
        """Frames (T, 3, H, W), about in [-1, 1], float32 on the CPU, of scaled latents (1, T, C, h, w).

        Args:
            z: the latents.
            needed: (H, W) bool, pixels that will be used, at least one; None = all. Whole frames are decoded
                as parts then (`decode_parts`) where that is less; tiles that hold none are left out. What is
                not decoded is 0.

        Raises:
            UserError: there is too little memory.
        """
        side = max(z.shape[-2:]) * self.model.vae.downscale
        return self.memory.run("decode", side, lambda plan: self._decode(z, needed, plan))

    def _encoded(
        self,
        batch: StereoBatch,
        start: Callable[[torch.Generator], Tensor] | None,
        needed: Tensor | None,
        plan: Plan,
    ) -> tuple[list[Tile], list[_Encoded]]:
        """Tiles, and what is known of each before the U-Net runs."""
        vae = self.model.vae
        if isinstance(vae, SVDAutoencoder):
            vae.encode_chunk = plan.encode_chunk or None
        tiles = _tiles(*batch.left.shape[-2:], plan.tile, self.tile_overlap)
        seen = None if needed is None else dilate(shrink(needed, vae.downscale), 2 * _SEEN + 1)
        with self._present(plan, vae, self.model.image_encoder):
            return tiles, [
                self._condition(batch, tile, start)
                if seen is None or tile.shrunk(vae.downscale).crop(seen).any()
                else self.model.encode(to_float(tile.crop(batch.warped).to(self.device)))
                for tile in tiles
            ]

    def _condition(
        self, batch: StereoBatch, tile: Tile, start: Callable[[torch.Generator], Tensor] | None
    ) -> _Encoded:
        """The condition of a tile, the source of its noise, and latents to start from."""
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

    def _sampled(self, condition: Condition, generator: torch.Generator, x: Tensor | None) -> Tensor:
        return self.model.sample(condition, self.sampler, generator, x)

    def _decode(self, z: Tensor, needed: Tensor | None, plan: Plan) -> Tensor:
        vae = self.model.vae
        parts = [Tile(0, 0, *z.shape[-2:])]  # latents
        if needed is not None and not plan.decode_tile and isinstance(vae, SVDAutoencoder):
            worthwhile = _WORTHWHILE - MEASURED / min(z.shape[1], plan.decode_chunk)
            parts = cover(shrink(needed, vae.downscale), vae.reach, worthwhile)
        whole = (parts[0].height, parts[0].width) == z.shape[-2:]
        decoded = partial(self._tiles, needed, plan.decode_tile) if whole else partial(self._parts, parts)
        with self._present(plan, vae):
            chunks = [decoded(chunk) for chunk in z.split(plan.decode_chunk, dim=1)]
        return chunks[0] if len(chunks) == 1 else torch.cat(chunks)

    def _tiles(self, needed: Tensor | None, side: int, z: Tensor) -> Tensor:
        """Frames of latents, whole or in tiles."""
        scale = self.model.vae.downscale
        tiles = _tiles(*(length * scale for length in z.shape[-2:]), side, side // 4)
        wanted = (tile if needed is None or tile.crop(needed).any() else None for tile in tiles)
        crops = (tile and tile.shrunk(scale).crop(z).to(self.device) for tile in wanted)
        return blend(
            tiles, (None if crop is None else self.model.decode(crop)[0].cpu().float() for crop in crops)
        )

    def _parts(self, parts: list[Tile], z: Tensor) -> Tensor:
        """Frames of latents, decoded in parts, which are given in latents."""
        vae = self.model.vae
        assert isinstance(vae, SVDAutoencoder)  # see `_decode`
        slices = [
            (slice(part.top, part.top + part.height), slice(part.left, part.left + part.width))
            for part in parts
        ]
        videos = vae.decode_parts(z.to(self.device) / vae.scaling_factor, slices)
        height, width = (length * vae.downscale for length in z.shape[-2:])
        tiles = [part.grown(vae.downscale) for part in parts]
        margin = vae.reach * vae.downscale
        return join(tiles, (video[0].cpu().float() for video in videos), height, width, margin)

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
