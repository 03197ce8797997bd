"""Where the networks come from: Stable Video Diffusion's weights, or small random ones."""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from diffusers import AutoencoderKLTemporalDecoder
from torch import nn
from transformers import CLIPVisionModelWithProjection

from m2svid.attention import AttentionStrategy
from m2svid.errors import UserError
from m2svid.model.conditioning import Conditioning, widen_conv_in
from m2svid.model.image_encoder import ImageEncoder, NoImageEncoder
from m2svid.model.m2svid import M2SVid
from m2svid.model.unet import ConditionedUNet
from m2svid.model.vae import SpaceToDepth, SVDAutoencoder, VideoAutoencoder
from m2svid.weights.mismatch import MismatchError

log = logging.getLogger(__name__)

SVD_XT = "stabilityai/stable-video-diffusion-img2vid-xt"
HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
GROUPS = 32  # of every group norm in diffusers' blocks

Model = TypeVar("Model", bound=nn.Module)


class Backbone(ABC):
    """Makes the model that training starts from."""

    @abstractmethod
    def build(self, conditioning: Conditioning, attention: AttentionStrategy) -> M2SVid:
        """The model, float32, on the CPU.

        Args:
            conditioning: what the U-Net sees beside the noisy latent; decides its input channels.
            attention: strategy of its spatial attention.
        """


class StableVideoDiffusion(Backbone):
    """Stable Video Diffusion, or a folder of the same layout (`unet/`, `vae/`, `image_encoder/`).

    A U-Net with SVD's input channels is widened to those of the conditioning; one that has them already stays
    as it is. Environment variable HF_HUB_OFFLINE=1 forbids downloads.

    Args:
        path: local folder or hub id.
        variant: of the files, such as "fp16"; None = the default ones. Weights are used in float32 in any
            case.
        gradient_checkpointing: recompute the activations of U-Net and decoder in the backward pass; saves
            memory.
        encode_chunk: frames encoded at a time, see `SVDAutoencoder`.
        decode_chunk: frames decoded at a time, see `SVDAutoencoder`; None = the whole clip, exact.
    """

    def __init__(
        self,
        path: str = SVD_XT,
        variant: str | None = None,
        gradient_checkpointing: bool = True,
        encode_chunk: int | None = None,
        decode_chunk: int | None = None,
    ) -> None:
        self.path = path
        self.variant = variant
        self.gradient_checkpointing = gradient_checkpointing
        self.encode_chunk = encode_chunk
        self.decode_chunk = decode_chunk

    def build(self, conditioning: Conditioning, attention: AttentionStrategy) -> M2SVid:
        unet = self._load(ConditionedUNet, "unet")
        vae = SVDAutoencoder(
            self._load(AutoencoderKLTemporalDecoder, "vae"),
            self.gradient_checkpointing,
            self.encode_chunk,
            self.decode_chunk,
        )
        image_encoder = ImageEncoder(self._load(CLIPVisionModelWithProjection, "image_encoder"))
        channels = conditioning.in_channels(vae.latent_channels)
        if unet.config.in_channels != channels:
            log.info("widening conv_in from %d to %d input channels", unet.config.in_channels, channels)
            widen_conv_in(unet, conditioning)
        if self.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        return M2SVid(unet, vae, image_encoder, conditioning, attention)

    def _load(self, kind: type[Model], subfolder: str) -> Model:
        where = f"{self.path}/{subfolder}"
        self._check_path(subfolder)
        try:
            model, report = kind.from_pretrained(
                self.path,
                subfolder=subfolder,
                variant=self.variant,
                use_safetensors=True,  # no pickles
                output_loading_info=True,
            )
        except OSError as error:
            raise UserError(self._how_to_get(where, error)) from error
        except (ValueError, RuntimeError) as error:  # diffusers, transformers: a tensor of another shape
            raise UserError(
                f"the weights in {where} do not match its config.json: {_first_line(error)}"
            ) from error
        if any(report[key] for key in ("missing_keys", "unexpected_keys")):
            raise MismatchError(where, sorted(report["missing_keys"]), sorted(report["unexpected_keys"]))
        size = sum(p.numel() for p in model.parameters()) / 1e6
        log.info("%s: loaded %s, %.1f M parameters, every tensor matched", where, kind.__name__, size)
        return model.float()

    def _check_path(self, subfolder: str) -> None:
        folder = Path(self.path)
        if folder.is_dir() and not (folder / subfolder / "config.json").is_file():
            raise UserError(
                f"backbone.path={self.path} holds no {subfolder}/config.json: it must be a diffusers folder "
                "with unet/, vae/ and image_encoder/"
            )
        if not folder.is_dir() and not HUB_ID.fullmatch(self.path):
            raise UserError(f"backbone.path={self.path} is neither a folder nor a hub id such as {SVD_XT}")

    def _how_to_get(self, where: str, error: OSError) -> str:
        files = f"{where} (variant {self.variant})" if self.variant else where
        if Path(self.path).is_dir():
            return (
                f"can't load the safetensors in {files}: {_first_line(error)} "
                "(if there are only *.fp16.safetensors, set backbone.variant=fp16)"
            )
        return (
            f"can't get {files} from the hub: accept the licence on https://huggingface.co/{self.path}, "
            f"then run `hf auth login` and `hf download {self.path}`; or set backbone.path to a local folder "
            f"with unet/, vae/ and image_encoder/ ({_first_line(error)})"
        )


class SmallRandom(Backbone):
    """A small randomly initialised model that needs no download: quickstart and tests.

    It has SVD's blocks, without CLIP. Seeded by torch's global seed.

    Args:
        channels: of each level, from high to low resolution; multiples of 32. Any number of levels; as in SVD
            the lowest of several has no attention.
        layers: residual blocks a level.
        head_dim: channels of an attention head.
        context_dim: size of the (zero) image embeddings.
        autoencoder: None = `SpaceToDepth(8)`.
    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 64),
        layers: int = 1,
        head_dim: int = 16,
        context_dim: int = 32,
        autoencoder: VideoAutoencoder | None = None,
    ) -> None:
        if not channels or any(c < 1 or c % GROUPS or c % head_dim for c in channels):
            raise UserError(
                f"channels={list(channels)} must be one or more multiples of {GROUPS} "
                f"and of head_dim={head_dim}"
            )
        if layers < 1:
            raise UserError(f"layers={layers} must be at least 1")
        self.channels = tuple(channels)
        self.layers = layers
        self.head_dim = head_dim
        self.context_dim = context_dim
        self.autoencoder = autoencoder

    def build(self, conditioning: Conditioning, attention: AttentionStrategy) -> M2SVid:
        vae = self.autoencoder or SpaceToDepth()
        levels = len(self.channels)
        attends = [level < levels - 1 or levels == 1 for level in range(levels)]
        unet = ConditionedUNet(
            in_channels=conditioning.in_channels(vae.latent_channels),
            out_channels=vae.latent_channels,
            down_block_types=tuple(_block("Down", attended) for attended in attends),
            up_block_types=tuple(_block("Up", attended) for attended in reversed(attends)),
            block_out_channels=self.channels,
            addition_time_embed_dim=self.channels[0],
            projection_class_embeddings_input_dim=3 * self.channels[0],
            layers_per_block=self.layers,
            cross_attention_dim=self.context_dim,
            num_attention_heads=tuple(c // self.head_dim for c in self.channels),
        )
        return M2SVid(unet, vae, NoImageEncoder(self.context_dim), conditioning, attention)


def _block(side: str, attends: bool) -> str:
    return f"{'CrossAttn' if attends else ''}{side}BlockSpatioTemporal"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
