"""How much memory a model needs, counted without running it.

The layers run once without data (on PyTorch's meta device), and every tensor that is alive counts. Attention
counts as fused.

Shapes: T frames, H W pixels, h w latent, C latent channels, D context channels.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from m2svid.attention import Full
from m2svid.model.conditioning import Condition
from m2svid.model.m2svid import M2SVid
from m2svid.model.vae import SVDAutoencoder

_SIZE = 512  # px, side of the frame without data
_FRAMES = 4


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


def measure(model: M2SVid) -> Footprint:
    """What a model needs, in the dtype of its parameters."""
    empty = _without_weights(model)
    unet, vae, encoder = empty.unet, empty.vae, empty.image_encoder
    side = -(-_SIZE // model.size_multiple) * model.size_multiple
    coder = getattr(vae, "model", vae)  # diffusers' own
    with vae.encoder_dtype() if isinstance(vae, SVDAutoencoder) else nullcontext(unet.dtype) as dtype:
        frame = torch.empty(1, 3, side, side, dtype=dtype, device="meta")
        encode = _peak(vae, lambda: coder.encode(frame))
    frame = frame.to(unet.dtype)
    return Footprint(
        *(_weights(network) for network in (vae, encoder, unet)),
        encode=encode / side**2,
        embed=_peak(encoder, lambda: encoder(frame[None])),
        sample=_peak(unet, lambda: empty.sample(_condition(empty, side))) / (_FRAMES * side**2),
        decode=_peak(vae, lambda: empty.decode(_latent(empty, side))) / (_FRAMES * side**2),
    )


def _without_weights(model: M2SVid) -> M2SVid:
    empty = model.without_weights().eval()
    empty.attention = Full()  # each token sees all: no less than any other strategy
    if isinstance(empty.vae, SVDAutoencoder):
        empty.vae.decode_chunk = None
    return empty


def _latent(model: M2SVid, side: int, channels: int | None = None) -> Tensor:
    latent = side // model.vae.downscale
    return torch.empty(1, _FRAMES, channels or model.vae.latent_channels, latent, latent, device="meta")


def _condition(model: M2SVid, side: int) -> Condition:
    config = model.unet.config
    channels = _latent(model, side, config.in_channels - model.vae.latent_channels)
    context = channels.new_empty(1, _FRAMES, 1, config.cross_attention_dim)
    return Condition(channels, context, channels.new_empty(1, 3), channels[:, :, :1])


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
