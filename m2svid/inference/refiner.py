"""Warped view -> right view by the model, on windows and tiles.

Shapes: T frames of a window, H W pixels, h w latent. Videos are (T, 3, H, W), uint8 or float in [0, 1].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from m2svid.batch import StereoBatch
from m2svid.convert.options import Options
from m2svid.depth.base import DepthEstimator
from m2svid.inference.background import Refiner, unit
from m2svid.inference.footprint import measure
from m2svid.inference.memory import Fit, available, describe_decoding, fit, lent
from m2svid.inference.tiles import Tile, blend, plan_tiles
from m2svid.model.conditioning import Condition
from m2svid.model.m2svid import M2SVid
from m2svid.model.vae import SVDAutoencoder


class ModelRefiner(Refiner):
    """M2SVid on windows, and on tiles where frames are large.

    Tiles of the U-Net are blended as latents. Where even a single frame is too large for the decoder, it
    decodes tiles, which share a quarter of their side and are blended as pixels. That is approximate: its
    group norms and its attention, which see the whole frame otherwise, take each tile for a frame, so that
    tiles can differ a little all over; beside their borders they lack what lies beyond.

    Args:
        model: the network; its `usage` says what is not given.
        device: where it runs; None = where it is.
        tile: height and width of a tile, px; 0 = the whole frame at once.
        tile_overlap: px that neighbouring tiles share.
        window: frames of a window.
        overlap: frames that neighbouring windows share.
        decode_chunk: frames decoded at a time; None = the window, which is exact.
        decode_tile: side of the tiles that are decoded, px; 0 = whole frames, which is exact.
        offload: keep only the network in use on the device.
        guest: leave the device to another model between calls.
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
        decode_tile: int = 0,
        offload: bool = False,
        guest: bool = False,
        num_steps: int | None = None,
        noise_aug: float | None = None,
        add_noise: bool = True,
        seed: int = 0,
    ) -> None:
        usage = model.usage
        self.length = usage.window if window is None else window
        self.overlap = usage.overlap if overlap is None else overlap
        self._device = device or next(model.parameters()).device
        self._model = model.to("cpu" if offload or guest else self._device)
        self._whole = () if offload else (model,)  # what is on the device during a call
        self._sampler = usage.sampler.with_steps(num_steps)
        self._noise_aug = usage.noise_aug if noise_aug is None else noise_aug
        self._add_noise = add_noise
        self._tile, self._tile_overlap = tile, tile_overlap
        self._decode_chunk, self._decode_tile = decode_chunk or self.length, decode_tile
        self._seed = seed
        numbers = str(model.unet.dtype).removeprefix("torch.")
        size = f"tiles of {tile} px sharing {tile_overlap}" if tile else "whole frames"
        decoding = describe_decoding(Fit(self.length, tile, self._decode_chunk, decode_tile, offload))
        self.description = (
            f"model on {self._device} in {numbers}, windows of {self.length} frames sharing {self.overlap}, "
            f"{size}, {decoding}"
        )
        self.settings = {
            "dtype": numbers,
            "window": self.length,
            "overlap": self.overlap,
            "tile": tile,
            "decode_chunk": self._decode_chunk,
            "decode_tile": decode_tile,
        }

    @torch.no_grad()
    def __call__(
        self, left: Tensor, warped: Tensor, hole: Tensor, fps: float, known: Tensor | None
    ) -> Tensor:
        with lent(self._device, *self._whole):
            return self._refine(left, warped, hole, fps, known)

    def _refine(self, left: Tensor, warped: Tensor, hole: Tensor, fps: float, known: Tensor | None) -> Tensor:
        height, width = left.shape[-2:]
        batch = self._batch(left, warped, hole, fps, known)
        tiles = _tiles(batch.left, self._tile, self._tile_overlap)
        model = self._model
        with lent(self._device, model.vae, model.image_encoder):
            conditions = [self._condition(batch, tile) for tile in tiles]
        with lent(self._device, model.unet):
            z = blend(
                [tile.shrunk(model.vae.downscale) for tile in tiles],
                (model.sample(_to(c, self._device), self._sampler, noise) for c, noise in conditions),
            )
        tiles = _tiles(batch.left, self._decode_tile, self._decode_tile // 4)
        with lent(self._device, model.vae):
            right = torch.cat([self._decode(part, tiles) for part in z.split(self._decode_chunk, dim=1)])
        return right[..., :height, :width].to(left.device)

    def _decode(self, z: Tensor, tiles: list[Tile]) -> Tensor:
        """Frames (T, 3, H, W) in [0, 1] of latents (1, T, C, h, w), both on the CPU."""
        crops = (tile.shrunk(self._model.vae.downscale).crop(z).to(self._device) for tile in tiles)
        frames = blend(tiles, (self._model.decode(crop)[0].float() for crop in crops))
        return frames.div_(2).add_(0.5).clamp_(0, 1)

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

    def _condition(self, batch: StereoBatch, tile: Tile) -> tuple[Condition, torch.Generator]:
        """What the network is told of a tile, kept on the CPU, and the source of its noise."""
        part = StereoBatch(
            *(tile.crop(video).to(self._device) for video in (batch.left, batch.warped, batch.hole)),
            batch.fps.to(self._device),
            replaced=None if batch.replaced is None else batch.replaced.to(self._device),
        )
        generator = torch.Generator(self._device).manual_seed(self._seed)
        condition = self._model.condition(part, self._noise_aug, self._add_noise, generator)
        return _to(condition, torch.device("cpu")), generator


def _to(condition: Condition, device: torch.device) -> Condition:
    return Condition(**{name: value.to(device) for name, value in vars(condition).items()})


def _tiles(video: Tensor, side: int, overlap: int) -> list[Tile]:
    """Of a video (..., H, W); a side of 0 means whole frames."""
    height, width = video.shape[-2:]
    return plan_tiles(height, width, (side, side) if side else (height, width), overlap if side else 0)


def fitted(
    model: M2SVid,
    device: torch.device,
    options: Options,
    width: int,
    height: int,
    depth: DepthEstimator | None,
) -> ModelRefiner:
    """The refiner that gets by with the memory that the options allow, for frames of width × height.

    What `depth`, if there is one, keeps on the device between its calls is not to be had.

    Raises:
        UserError: there is none.
    """
    multiple = model.size_multiple
    wished = Fit(
        options.window or model.usage.window,
        options.tile or 0,
        options.decode_chunk or options.window or model.usage.window,
        options.decode_tile or 0,
    )
    names = ("window", "tile", "decode_chunk", "decode_tile")
    fixed = frozenset(name for name in names if getattr(options, name) is not None)
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
            fixed,
            overlap,
            may_offload=device.type != "cpu",
            taken=0 if depth is None else depth.resident,
        )
    return ModelRefiner(
        model,
        device,
        wished.tile,
        options.tile_overlap,
        wished.window,
        options.overlap,
        wished.decode_chunk,
        wished.decode_tile,
        wished.offload,
        depth is not None and depth.alone,
        options.num_steps,
        options.noise_aug,
        options.add_noise,
        options.seed,
    )


def _encode_single_frames(model: M2SVid) -> None:
    if isinstance(model.vae, SVDAutoencoder):
        model.vae.encode_chunk = 1
