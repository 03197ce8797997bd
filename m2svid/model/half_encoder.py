"""The encoder of Stable Video Diffusion's autoencoder in another type of number, for as long as it encodes.

Its configuration says that float16 is too small for it (`force_upcast`): the residual stream, to which all
blocks add, can grow past 65 504. Only group norms and linear layers read the stream, so a stream of 1/64
gives the same latents: weights that write into it are divided by 64, which is exact, and so are the norms'
epsilons, by 64². What float16 rounds is then as small as anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import AutoencoderKLTemporalDecoder
from diffusers.models.attention_processor import Attention
from diffusers.models.autoencoders.vae import Encoder
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

STREAM = 2.0**-6


@contextmanager
def encoding_in(
    dtype: torch.dtype, model: AutoencoderKLTemporalDecoder, stream: float | None = None
) -> Iterator[None]:
    """The encoder calculates in a type of number while the context lasts; then it is what it was, exactly.

    Args:
        dtype: of its weights and its input.
        model: whose encoder it is.
        stream: factor of the residual stream, a power of two; None = 1/64 in float16 where the model's
            configuration asks for it, else 1.
    """
    if stream is None:
        stream = STREAM if dtype == torch.float16 and model.config.force_upcast else 1.0
    if dtype == model.dtype and stream == 1:
        yield
        return
    tensors = [*model.encoder.parameters(), *model.quant_conv.parameters()]
    writers, readers = _stream(model.encoder)
    homes, epsilons = [tensor.data for tensor in tensors], [norm.eps for norm in readers]
    scaled = {id(tensor) for tensor in writers}
    try:
        for tensor in tensors:
            data = tensor.data * stream if id(tensor) in scaled else tensor.data
            tensor.data = data.to(dtype)
        for norm in readers:
            norm.eps *= stream**2
        yield
    finally:
        for tensor, home in zip(tensors, homes, strict=True):
            tensor.data = home
        for norm, epsilon in zip(readers, epsilons, strict=True):
            norm.eps = epsilon


def _stream(encoder: Encoder) -> tuple[list[Tensor], list[nn.GroupNorm]]:
    """The tensors that the residual stream is proportional to, and the norms that read it."""
    writers, readers = [*encoder.conv_in.parameters()], [encoder.conv_norm_out]
    for module in encoder.modules():
        if isinstance(module, ResnetBlock2D):
            writers += module.conv2.parameters()
            readers.append(module.norm1)
            if module.conv_shortcut is not None:
                writers.append(module.conv_shortcut.bias)
        elif isinstance(module, Downsample2D):
            writers.append(module.conv.bias)
        elif isinstance(module, Attention):
            writers += module.to_out[0].parameters()
            readers.append(module.group_norm)
    return writers, readers
