"""How much memory a model needs, and how a film is cut so that it gets by with what there is.

The estimate is counted, not measured: the layers run once without data (on PyTorch's meta device), and every
tensor that is alive counts. Attention counts as fused. What a GPU's libraries need beside that is `OVERHEAD`
and `MARGIN`, which are assumptions.

Shapes: T frames, H W pixels, h w latent, C latent channels, D context channels.
"""

from __future__ import annotations

import math
import re
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from m2svid.attention import Full
from m2svid.errors import UserError
from m2svid.model.m2svid import M2SVid
from m2svid.model.weights import components

OVERHEAD = int(0.6e9)  # bytes: the GPU's context and libraries
MARGIN = 1.15  # for workspaces of convolutions and memory that is free but in pieces
PIXEL_BYTES = 60  # of a tile's frame while it is encoded: five float32 copies of its colours
DECODED_BYTES = 36  # of a decoded frame: three float32 copies
TILES = (1024, 768, 512)  # px, smaller ones see too little
SMALL_TILE = 256
WINDOWS = (16, 12, 8)
CHUNKS = (25, 16, 12, 8, 6, 4, 3, 2, 1)

_SIZE = 512  # px, side of the frame without data
_UNITS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


@dataclass(frozen=True)
class Footprint:
    """Bytes that a model needs.

    Attributes:
        vae: weights of the autoencoder.
        image_encoder: weights.
        unet: weights.
        encode: for a pixel of the one frame that is encoded at a time.
        embed: for a frame given to the image encoder.
        sample: for a pixel of each frame that the U-Net takes.
        decode: for a pixel of each frame that is decoded at a time.
    """

    vae: int
    image_encoder: int
    unet: int
    encode: float
    embed: float
    sample: float
    decode: float


@dataclass(frozen=True)
class Fit:
    """How a film goes through the model.

    Attributes:
        window: frames refined together.
        tile: side of a tile, px; 0 = whole frames.
        decode_chunk: frames decoded at a time.
        offload: each network is on the device only while it is used.
    """

    window: int
    tile: int
    decode_chunk: int
    offload: bool = False

    def bytes_needed(self, model: Footprint, height: int, width: int) -> int:
        """Estimate for frames of height × width, px, which are multiples of what the model takes."""
        tile_pixels = min(self.tile or height, height) * min(self.tile or width, width)
        chunk = min(self.decode_chunk, self.window)
        encoding = tile_pixels * (model.encode + PIXEL_BYTES * self.window) + model.embed * self.window
        sampling = model.sample * tile_pixels * self.window
        decoding = (model.decode + DECODED_BYTES) * height * width * chunk
        if self.offload:
            peak = max(
                encoding + model.vae + model.image_encoder, sampling + model.unet, decoding + model.vae
            )
        else:
            peak = max(encoding, sampling, decoding) + model.vae + model.image_encoder + model.unet
        return round(peak * MARGIN) + OVERHEAD


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
) -> Fit:
    """The way through the model that changes least of what is wished and needs no more than `budget` bytes.

    First the networks take turns on the device, then tiles become smaller, then windows, then tiles again.
    As many frames as possible are decoded at a time.

    Args:
        budget: bytes.
        model: what it needs.
        height: of a frame, px, a multiple of what the model takes.
        width: likewise.
        wished: without a limit; `offload` is False.
        fixed: attributes of `wished` that are not to be changed.
        overlap: frames that windows share, fewer than they have.
        may_offload: False where weights and results share the memory in any case.

    Raises:
        UserError: nothing fits; it says what would.
    """
    windows = [wished.window]
    if "window" not in fixed:
        windows += [number for number in WINDOWS if overlap < number < wished.window]
    ways = list(_ways(wished, windows, fixed, max(height, width), may_offload))
    for way in ways:
        if way.bytes_needed(model, height, width) <= budget:
            return way
    if {"window", "tile", "decode_chunk"} <= fixed:
        return ways[-1]  # all is said: what follows is the user's choice
    least = min(ways, key=lambda way: way.bytes_needed(model, height, width))
    needed = math.ceil(least.bytes_needed(model, height, width) / 1e8) / 10
    raise UserError(
        f"--vram {budget / 1e9:.3g}G is too little for frames of {width}×{height}: the model is estimated to "
        f"need {needed:.1f}G with {describe(least)}; give that much, take --dtype float16 if it is not taken "
        "yet, or a smaller film"
    )


def describe(way: Fit) -> str:
    """For the user."""
    size = f"tiles of {way.tile} px" if way.tile else "whole frames"
    turns = ", networks taking turns" if way.offload else ""
    return f"windows of {way.window} frames, {size}, {way.decode_chunk} frames decoded at a time{turns}"


def _ways(
    wished: Fit, windows: Sequence[int], fixed: frozenset[str], side: int, may_offload: bool
) -> Iterator[Fit]:
    tiles = [wished.tile] if "tile" in fixed else [wished.tile, *(tile for tile in TILES if tile < side)]
    areas = [(wished.window, tile) for tile in tiles] + [(window, tiles[-1]) for window in windows[1:]]
    if "tile" not in fixed and side > SMALL_TILE:
        areas.append((windows[-1], SMALL_TILE))
    for window, tile in areas:
        chunks = [wished.decode_chunk]
        if "decode_chunk" not in fixed:
            chunks = [window, *(number for number in CHUNKS if number < window)]
        for offload in (False, True) if may_offload else (False,):
            for chunk in chunks:
                yield Fit(window, tile, chunk, offload)


def measure(model: M2SVid) -> Footprint:
    """What a model needs, in the dtype of its parameters."""
    dtype = model.unet.dtype
    parts = {
        "unet": components.unet_part(model.unet),
        "vae": components.vae_part(model.vae),
        "image_encoder": components.image_encoder_part(model.image_encoder),
    }
    with torch.device("meta"):
        networks = {name: components.build(name, part.config).eval() for name, part in parts.items()}
    for network in networks.values():
        nn.Module.to(network, "meta", dtype)  # diffusers' own `to` warns
    vae, encoder, unet = (networks[name] for name in ("vae", "image_encoder", "unet"))
    multiple = model.size_multiple
    side = -(-_SIZE // multiple) * multiple
    latent = side // model.vae.downscale
    T = 4
    sizes = {"dtype": dtype, "device": "meta"}

    def sample() -> Tensor:
        x = torch.empty(1, T, unet.config.in_channels, latent, latent, **sizes)
        context = torch.empty(1, T, 1, unet.config.cross_attention_dim, **sizes)
        ones = torch.empty(1, device="meta")
        # each token sees all: no less than any other strategy
        return unet(x, ones, context, ones.expand(1, 3), None, Full())

    frames = torch.empty(1, 3, side, side, **sizes)
    z = torch.empty(T, model.vae.latent_channels, latent, latent, **sizes)
    embedded = components.wrap_image_encoder(encoder)
    return Footprint(
        *(_weights(networks[name]) for name in ("vae", "image_encoder", "unet")),
        encode=_peak(vae, lambda: vae.encode(frames)) / side**2,
        embed=_peak(encoder, lambda: embedded(frames[None])),
        sample=_peak(unet, sample) / (T * side**2),
        decode=_peak(vae, lambda: _decode(vae, z)) / (T * side**2),
    )


def _decode(vae: nn.Module, z: Tensor) -> Any:
    return vae.decode(z, num_frames=len(z)) if hasattr(vae, "decoder") else vae.decode(z)


def _weights(module: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in module.parameters())


def _peak(module: nn.Module, work: Callable[[], object]) -> int:
    """Most bytes alive at a time, without the module's own."""
    with torch.no_grad(), _FusedAttention(), _Alive(module) as alive:
        work()
    return alive.peak


class _FusedAttention(TorchFunctionMode):
    """Attention that keeps no matrix of all pairs of tokens, as the kernels of GPUs."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if function is torch.nn.functional.scaled_dot_product_attention:
            return torch.empty_like(args[0])
        return function(*args, **(kwargs or {}))


class _Alive(TorchDispatchMode):
    """Bytes of the storages that operations have made and that are still in use."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        own = [*module.parameters(), *module.buffers()]
        self._known = {tensor.untyped_storage()._cdata: 0 for tensor in own}
        self._now = self.peak = 0

    def __torch_dispatch__(
        self, operation: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        self._known[key] = storage.nbytes()
        self._now += storage.nbytes()
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self._now -= self._known.pop(key)
