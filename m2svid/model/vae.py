"""From videos to latents and back.

Shapes: B clips, T frames, H W pixels, C latent channels, h w = H W / downscale.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLTemporalDecoder
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn

from m2svid.described import Described
from m2svid.errors import UserError
from m2svid.model.half_encoder import encoding_in
from m2svid.model.partial_decoder import decode_parts, reach


class VideoAutoencoder(Described, nn.Module, ABC):
    """Encode views and decode the prediction.

    A checkpoint of training names an own autoencoder by class path and arguments, and holds its parameters.

    Attributes:
        latent_channels: C.
        downscale: pixels a latent position stands for, along each side.
        scaling_factor: what the noisy latent and the target are multiplied with; conditioning latents are
            not.
    """

    latent_channels: int
    downscale: int
    scaling_factor: float

    @property
    def network(self) -> nn.Module:
        """The module whose tensors and configuration are kept as the model's `vae`."""
        return self

    @abstractmethod
    def encode(self, video: Tensor) -> Tensor:
        """Unscaled latents (B, T, C, h, w) of a video (B, T, 3, H, W) in [-1, 1]; no sampling."""

    def encode_sample(self, video: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A sample of the posterior, as `encode`; autoencoders without a posterior give `encode`'s latents.

        Args:
            video: (B, T, 3, H, W) in [-1, 1].
            generator: of the sample; None = the default one.
        """
        del generator
        return self.encode(video)

    def encode_hole(self, hole: Tensor) -> Tensor:
        """(B, T, 1 or C, h, w) bool: the latents that stand for a pixel of a hole (B, T, 1, H, W) bool."""
        return F.max_pool2d(hole.flatten(0, 1).float(), self.downscale).unflatten(0, hole.shape[:2]) > 0

    @abstractmethod
    def decode(self, latent: Tensor) -> Tensor:
        """Video (B, T, 3, H, W), about in [-1, 1], of unscaled latents (B, T, C, h, w)."""


class SVDAutoencoder(VideoAutoencoder):
    """Stable Video Diffusion's autoencoder: an image encoder, and a decoder that sees the clip.

    Args:
        model: the diffusers model.
        gradient_checkpointing: recompute the decoder's activations in the backward pass.
        encode_chunk: frames encoded at a time; None = all of the batch. Any number gives the same latents.
        decode_chunk: frames of a clip decoded at a time; None = the whole clip, which is what the model was
            trained with. Chunks save memory, but the decoder's convolutions over time then end at each chunk.
        encode_dtype: numbers that the encoder calculates with (`encoding_in`); None = those of its weights.
    """

    def __init__(
        self,
        model: AutoencoderKLTemporalDecoder,
        gradient_checkpointing: bool = True,
        encode_chunk: int | None = None,
        decode_chunk: int | None = None,
        encode_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, chunk in {"encode_chunk": encode_chunk, "decode_chunk": decode_chunk}.items():
            if chunk is not None and chunk < 1:
                raise UserError(f"{name}={chunk} must be at least 1 frame, or null for all at once")
        self.model = model
        self.encode_chunk = encode_chunk
        self.decode_chunk = decode_chunk
        self.encode_dtype = encode_dtype
        self.latent_channels = model.config.latent_channels
        self.downscale = 2 ** (len(model.config.block_out_channels) - 1)
        self.scaling_factor = model.config.scaling_factor
        if gradient_checkpointing:
            model.enable_gradient_checkpointing()

    @property
    def network(self) -> AutoencoderKLTemporalDecoder:
        return self.model

    def encode(self, video: Tensor) -> Tensor:
        return self._encode(video, lambda posterior: posterior.mode())

    def encode_sample(self, video: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self._encode(video, lambda posterior: posterior.sample(generator))

    def _encode(self, video: Tensor, pick: Callable[[DiagonalGaussianDistribution], Tensor]) -> Tensor:
        dtype = self.encode_dtype or self.model.dtype
        with (
            encoding_in(dtype, self.model),
            torch.autocast(video.device.type, enabled=self._encodes_in_autocast(video.device)),
        ):
            frames = video.flatten(0, 1).to(dtype)
            chunks = frames.split(self.encode_chunk or len(frames))
            latent = torch.cat([pick(self.model.encode(chunk).latent_dist) for chunk in chunks])
        return latent.unflatten(0, video.shape[:2])

    def decode(self, latent: Tensor) -> Tensor:
        clips = latent.to(self.model.dtype).split(self.decode_chunk or latent.shape[1], dim=1)
        return torch.cat([self._decode(clip) for clip in clips], dim=1)

    @property
    def reach(self) -> int:
        """Latents around a part within which the decoder of parts looks: 6 at full size."""
        return -(-reach(self.model.decoder) // self.downscale)

    def decode_parts(self, latent: Tensor, parts: Sequence[tuple[slice, slice]]) -> Iterator[Tensor]:
        """Decode rows and columns of latents of whole clips, one part after the other: see `decode_parts`."""
        return decode_parts(self.model.decoder, latent.to(self.model.dtype), parts)

    def _decode(self, latent: Tensor) -> Tensor:
        T = latent.shape[1]
        return self.model.decode(latent.flatten(0, 1), num_frames=T).sample.unflatten(0, (-1, T))

    def _encodes_in_autocast(self, device: torch.device) -> bool:
        """Not in float16, which is too small for the encoder as it is, see `encoding_in`."""
        enabled = torch.is_autocast_enabled(device.type)
        half = torch.get_autocast_dtype(device.type) == torch.float16
        return enabled and not (half and self.model.config.force_upcast)


class SpaceToDepth(VideoAutoencoder):
    """Move each downscale × downscale patch into channels: lossless, without parameters.

    For the quickstart and tests, where no autoencoder can be downloaded; it compresses nothing, so it is no
    replacement for a trained one. Latents are pixels in [-1, 1]; the scaling factor is 1.

    Args:
        downscale: patch size; gives 3·downscale² latent channels.
    """

    scaling_factor = 1.0

    def __init__(self, downscale: int = 8) -> None:
        super().__init__()
        if downscale < 1:
            raise UserError(f"downscale={downscale} must be at least 1")
        self.downscale = downscale
        self.latent_channels = 3 * downscale**2

    def encode(self, video: Tensor) -> Tensor:
        return F.pixel_unshuffle(video, self.downscale)

    def encode_hole(self, hole: Tensor) -> Tensor:
        return self.encode(hole.expand(-1, -1, 3, -1, -1).float()) > 0

    def decode(self, latent: Tensor) -> Tensor:
        return F.pixel_shuffle(latent, self.downscale)
