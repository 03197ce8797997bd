"""How a film is cut so that a model gets by with the memory that there is.

What the layers need is counted (`footprint.py`). What a GPU's libraries need beside that is `OVERHEAD` and
`MARGIN`, which are assumptions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product

import torch
from torch import nn

from m2svid.errors import UserError
from m2svid.inference.footprint import Footprint

OVERHEAD = int(0.6e9)  # bytes: the GPU's context and libraries
MARGIN = 1.15  # for workspaces of convolutions and memory that is free but in pieces
PIXEL_BYTES = 60  # of a tile's frame while it is encoded: five float32 copies of its colours
DECODED_BYTES = 36  # of a decoded frame: three float32 copies
TILES = (1024, 768, 512)  # px, smaller ones see too little
SMALL_TILE = 256
DECODE_TILES = (1024, 768, 512)  # px
WINDOWS = (16, 12, 8)
CHUNKS = (25, 16, 12, 8, 6, 4, 3, 2, 1)

_UNITS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


@dataclass(frozen=True)
class Fit:
    """How a film goes through the model.

    Attributes:
        window: frames refined together.
        tile: side of a tile, px; 0 = whole frames.
        decode_chunk: frames decoded at a time.
        decode_tile: side of the tiles in which they are decoded, px; 0 = whole frames.
        offload: each network is on the device only while it is used.
    """

    window: int
    tile: int
    decode_chunk: int
    decode_tile: int = 0
    offload: bool = False

    def bytes_needed(self, model: Footprint, height: int, width: int) -> int:
        """Estimate for frames of height × width, px, which are multiples of what the model takes.

        Blended frames and latents, and what waits for its turn, are not on the device and don't count.
        """
        area = _area(self.tile, height, width)
        chunk = min(self.decode_chunk, self.window)
        encoding = area * (model.encode + PIXEL_BYTES * self.window) + model.embed * self.window
        sampling = model.sample * area * self.window
        decoding = (model.decode + DECODED_BYTES) * _area(self.decode_tile, height, width) * chunk
        if self.offload:
            peak = max(
                encoding + model.vae + model.image_encoder, sampling + model.unet, decoding + model.vae
            )
        else:
            peak = max(encoding, sampling, decoding) + model.vae + model.image_encoder + model.unet
        return round(peak * MARGIN) + OVERHEAD


def _area(tile: int, height: int, width: int) -> int:
    return min(tile or height, height) * min(tile or width, width)


def parse_bytes(text: str) -> int:
    """ "8G" -> 8 000 000 000; also K, M, T, and "8GB". Raises a UserError for what is none."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?\s*", text.upper())
    if match is None or not float(match[1]):
        raise UserError(f"--vram must be auto or a size such as 8G, not {text!r}")
    return round(float(match[1]) * _UNITS[match[2]])


def available(vram: str, device: torch.device) -> int | None:
    """Bytes that may be used; None = no limit, which "auto" is where there is no GPU."""
    if vram != "auto":
        return parse_bytes(vram)
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device)


def fit(
    budget: int,
    model: Footprint,
    height: int,
    width: int,
    wished: Fit,
    fixed: frozenset[str] = frozenset(),
    overlap: int = 0,
    may_offload: bool = True,
    windows: Sequence[int] = WINDOWS,
    taken: int = 0,
) -> Fit:
    """The way through the model that changes least of what is wished and needs no more than `budget` bytes.

    What changes the result least comes first: networks that take turns on the device change nothing; fewer
    frames decoded at a time end the decoder's view of their neighbours; then tiles become smaller, then
    windows, then tiles again. Only where no such way is left are frames decoded in tiles, because the decoder
    was made for whole ones: its norms and its attention then take each tile for a frame. Whole frames need
    the same for decoding whatever tile and window are, so this last step is taken only where a single frame
    can't be decoded as a whole.

    Args:
        budget: bytes.
        model: what it needs.
        height: of a frame, px, a multiple of what the model takes.
        width: likewise.
        wished: without a limit; `offload` is False.
        fixed: attributes of `wished` that are not to be changed.
        overlap: frames that windows share, fewer than they have.
        may_offload: False where weights and results share the memory in any case.
        windows: lengths to choose from, longest first.
        taken: bytes of the budget that another model keeps.

    Raises:
        UserError: nothing fits; it says what would.
    """
    lengths = [wished.window]
    if "window" not in fixed:
        lengths += [number for number in windows if overlap < number < wished.window]
    ways = list(_ways(wished, lengths, fixed, max(height, width), may_offload))
    for way in ways:
        if taken + way.bytes_needed(model, height, width) <= budget:
            return way
    if {"window", "tile", "decode_chunk", "decode_tile"} <= fixed:
        return ways[-1]  # all is said: what follows is the user's choice
    least = min(ways, key=lambda way: way.bytes_needed(model, height, width))
    needed = math.ceil((taken + least.bytes_needed(model, height, width)) / 1e8) / 10
    raise UserError(
        f"--vram {budget / 1e9:.3g}G is too little for frames of {width}×{height}: the model is estimated to "
        f"need {needed:.1f}G with {describe(least)}; give that much, take --dtype float16 if it is not taken "
        "yet, or a smaller film"
    )


def describe(way: Fit) -> str:
    """For the user."""
    size = f"tiles of {way.tile} px" if way.tile else "whole frames"
    return f"windows of {way.window} frames, {size}, {describe_decoding(way)}"


def describe_decoding(way: Fit) -> str:
    """The end of `describe`, which models without tiles share."""
    chunk = min(way.decode_chunk, way.window)
    pieces = f" in tiles of {way.decode_tile} px" if way.decode_tile else ""
    turns = ", networks taking turns" if way.offload else ""
    return f"{chunk} frame{'s' * (chunk > 1)} decoded at a time{pieces}{turns}"


def _ways(
    wished: Fit, windows: Sequence[int], fixed: frozenset[str], side: int, may_offload: bool
) -> Iterator[Fit]:
    tiles = [wished.tile] if "tile" in fixed else [wished.tile, *(tile for tile in TILES if tile < side)]
    areas = [(wished.window, tile) for tile in tiles] + [(window, tiles[-1]) for window in windows[1:]]
    if "tile" not in fixed and side > SMALL_TILE:
        areas.append((windows[-1], SMALL_TILE))
    decode_tiles = [wished.decode_tile]
    if "decode_tile" not in fixed:
        decode_tiles += [tile for tile in DECODE_TILES if tile < side]
    for decode_tile, (window, tile) in product(decode_tiles, areas):
        longest = min(wished.decode_chunk, window)
        shorter = () if "decode_chunk" in fixed else (number for number in CHUNKS if number < longest)
        for chunk, offload in product((longest, *shorter), (False, True) if may_offload else (False,)):
            yield Fit(window, tile, chunk, decode_tile, offload)


@contextmanager
def lent(device: torch.device, *networks: nn.Module) -> Iterator[None]:
    """The networks are on a device while the context lasts, and then again where they were."""
    tensors = [t for network in networks for t in (*network.parameters(), *network.buffers())]
    homes = [tensor.data for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.data = tensor.data.to(device)
        yield
    finally:
        for tensor, home in zip(tensors, homes, strict=True):
            tensor.data = home
