"""Sources of the networks: Stable Video Diffusion's weights, or small random ones."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import torch

from m2svid.attention import AttentionStrategy, Disoccluded
from m2svid.described import create
from m2svid.errors import UserError
from m2svid.model.card import ModelCard
from m2svid.model.conditioning import Conditioning, widen_conv_in
from m2svid.model.image_encoder import NoImageEncoder
from m2svid.model.m2svid import M2SVid
from m2svid.model.unet import ConditionedUNet
from m2svid.model.vae import SpaceToDepth, VideoAutoencoder
from m2svid.training.stages import Stage, check_stages
from m2svid.weights.fetch import resolve
from m2svid.weights.load import decide, open_weights
from m2svid.weights.parts import load, wrap

log = logging.getLogger(__name__)

SVD_XT = "stabilityai/stable-video-diffusion-img2vid-xt"
GROUPS = 32  # of every group norm in diffusers' blocks


class Backbone(ABC):
    """Make the model that training starts from.

    Attributes:
        card: of the weights that `build` has opened; None where they have none, as Stable Video Diffusion's.
    """

    card: ModelCard | None = None

    @abstractmethod
    def build(
        self, conditioning: Conditioning | None = None, attention: AttentionStrategy | None = None
    ) -> M2SVid:
        """The model, float32, on the CPU.

        Args:
            conditioning: what the U-Net sees beside the noisy latent; decides its input channels. None = what
                the weights were made for, else left view, warped view and mask.
            attention: strategy of its spatial attention; None = the one that the weights were made for, else
                `Disoccluded`.
        """


class StableVideoDiffusion(Backbone):
    """Stable Video Diffusion, or other weights with all three networks: a folder that `weights init` or
    `weights import` has written, or a published file.

    A U-Net with SVD's input channels is widened to those of the conditioning; one that has them already stays
    as it is. Environment variable HF_HUB_OFFLINE=1 forbids downloads.

    Args:
        path: local folder or file, or hub id.
        variant: of a folder's files, such as "fp16"; None = the default ones, or the only ones there are.
            Weights are used in float32 in any case.
        gradient_checkpointing: recompute activations in the backward pass, which saves memory: of "unet" and
            "decoder", of those that are named, or of all (true). The encoder has no backward pass.
        encode_chunk: frames encoded at a time, see `SVDAutoencoder`.
        decode_chunk: frames decoded at a time, see `SVDAutoencoder`; None = the whole clip, exact.
    """

    def __init__(
        self,
        path: str = SVD_XT,
        variant: str | None = None,
        gradient_checkpointing: bool | Sequence[Stage] = True,
        encode_chunk: int | None = None,
        decode_chunk: int | None = None,
    ) -> None:
        self.path = path
        self.variant = variant
        if isinstance(gradient_checkpointing, bool):
            gradient_checkpointing = get_args(Stage) if gradient_checkpointing else ()
        self.gradient_checkpointing = check_stages("gradient_checkpointing", gradient_checkpointing)
        self.encode_chunk = encode_chunk
        self.decode_chunk = decode_chunk

    def build(
        self, conditioning: Conditioning | None = None, attention: AttentionStrategy | None = None
    ) -> M2SVid:
        opened = open_weights(resolve(self.path, self.variant), variant=self.variant)
        if opened.parts.vae is None or opened.parts.image_encoder is None:
            raise UserError(
                f"backbone.path={self.path} is a {opened.format} without VAE or image encoder: make a whole "
                "model of it with `weights import`, and name its folder"
            )
        self.card = opened.card
        if opened.card is None:
            conditioning, attention = conditioning or Conditioning(), attention or Disoccluded()
        card = decide(opened, attention, conditioning)
        conditioning = conditioning or create(card.conditioning, Conditioning)

        networks = {
            name: load(name, part, dtype=torch.float32, copy=True) for name, part in opened.parts.items()
        }
        sizes = {
            name: sum(p.numel() for p in network.parameters()) / 1e6 for name, network in networks.items()
        }
        log.info(
            "%s: %s, every tensor matched; %s",
            self.path,
            opened.format,
            ", ".join(f"{name} of {size:.1f} M parameters" for name, size in sizes.items()),
        )
        unet = networks["unet"]
        vae = wrap(
            networks["vae"],
            gradient_checkpointing="decoder" in self.gradient_checkpointing,
            encode_chunk=self.encode_chunk,
            decode_chunk=self.decode_chunk,
        )
        channels = conditioning.in_channels(vae.latent_channels)
        if unet.config.in_channels != channels:
            log.info("widening conv_in from %d to %d input channels", unet.config.in_channels, channels)
            widen_conv_in(unet, conditioning)
        if "unet" in self.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        local = Path(self.path)
        return M2SVid(
            unet,
            vae,
            wrap(networks["image_encoder"]),
            conditioning,
            attention or create(card.attention, AttentionStrategy),
            card.usage,
            {"path": str(local.resolve()) if local.exists() else self.path, "variant": self.variant},
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
        keep_warped: share of the warped view in the prediction outside the holes, see `ConditionedUNet`.
    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 64),
        layers: int = 1,
        head_dim: int = 16,
        context_dim: int = 32,
        autoencoder: VideoAutoencoder | None = None,
        keep_warped: float = 0.0,
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
        self.keep_warped = keep_warped

    def build(
        self, conditioning: Conditioning | None = None, attention: AttentionStrategy | None = None
    ) -> M2SVid:
        conditioning, attention = conditioning or Conditioning(), attention or Disoccluded()
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
            keep_warped=self.keep_warped,
        )
        return M2SVid(unet, vae, NoImageEncoder(self.context_dim), conditioning, attention)


def _block(side: str, attends: bool) -> str:
    return f"{'CrossAttn' if attends else ''}{side}BlockSpatioTemporal"
