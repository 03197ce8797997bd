"""Weights of any format into a model, and a model into a folder."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

import m2svid.attention
from m2svid.attention import AttentionStrategy, Factorized
from m2svid.described import Description, create
from m2svid.errors import UserError
from m2svid.model.card import ModelCard, Usage
from m2svid.model.conditioning import Conditioning, InputName
from m2svid.model.m2svid import M2SVid
from m2svid.model.neighbours import (
    DEPTHCRAFTER,
    STEREOCRAFTER,
    DepthCrafterConditioning,
    StereoCrafterConditioning,
)
from m2svid.weights import parts as networks
from m2svid.weights.checkpoint import CARD, PREFIXES, open_checkpoint
from m2svid.weights.fetch import read_file, resolve
from m2svid.weights.folder import read_folder, write_folder
from m2svid.weights.parts import COMPONENTS, Component, Opened, Part, Parts
from m2svid.weights.sgm import to_diffusers
from m2svid.weights.sgm_names import UNET

log = logging.getLogger(__name__)

PUBLISHED_ATTENTION = {
    "m2svid_weights": "m2svid.attention.Disoccluded",
    "m2svid_no_full_atten_weights": "m2svid.attention.Factorized",
}
"""Strategy by the name of a published file, without suffix."""


@dataclass(frozen=True)
class Heads:
    """Sizes that published files don't tell; the defaults are the published models'.

    Attributes:
        head_channels: channels of one attention head of the U-Net.
        clip_heads: attention heads of the CLIP vision tower; None = those of the published tower of its
            width.
    """

    head_channels: int = 64
    clip_heads: int | None = None


def open_weights(
    path: Path,
    heads: Heads | None = None,
    variant: str | None = None,
    only: Collection[Component] = COMPONENTS,
) -> Opened:
    """Open weights of any known format; every tensor's name and shape is checked.

    Args:
        path: local file or folder.
        heads: for files with the names of generative-models.
        variant: of a folder's files, such as "fp16".
        only: networks of a folder to open.

    Raises:
        UserError: unknown, truncated or half-matching; what is missing, unexpected or wrongly shaped is
            listed.
    """
    if path.is_dir():
        opened = read_folder(path, variant, only)
        return replace(opened, card=_recognise(opened)) if opened.format == "U-Net folder" else opened
    content, rest = read_file(path)
    tensors = {key.removeprefix("module."): tensor for key, tensor in content.items()}
    if any(key.startswith(PREFIXES["unet"]) for key in tensors):
        return open_checkpoint(path, tensors, rest.get(CARD))
    if not any(key.startswith(UNET) for key in tensors):
        raise UserError(
            f"{path} holds no U-Net of a known format (keys begin with {UNET} in published files and with "
            f"{PREFIXES['unet']} in checkpoints of fit); its first key is {next(iter(tensors))}"
        )
    heads = heads or Heads()
    parts = to_diffusers(tensors, heads.head_channels, heads.clip_heads, source=str(path))
    opened = Opened(path, "M2SVid file", parts)
    card = _recognise(opened)
    return replace(opened, format="M2SVid file" if card else "SVD file", card=card)


def _recognise(opened: Opened) -> ModelCard | None:
    """Card of a published model, by its U-Net's channels and its name; None for SVD's."""
    config, attention = opened.parts.unet.config, PUBLISHED_ATTENTION.get(opened.path.stem)
    known: list[tuple[Conditioning, Usage, str | None]] = [
        (Conditioning(["left", "warped", "mask"]), Usage(), attention),
        (Conditioning(["warped", "mask"]), Usage(), attention),
    ]
    if opened.format == "U-Net folder":
        factorized = Factorized().describe()["class_path"]
        known[1:] = [
            (StereoCrafterConditioning(), STEREOCRAFTER, factorized),
            (DepthCrafterConditioning(), DEPTHCRAFTER, factorized),
        ]
    for conditioning, usage, name in known:
        if conditioning.in_channels(config["out_channels"]) == config["in_channels"]:
            return ModelCard(conditioning.describe(), name and _attention(name), usage)
    return None


def _attention(given: AttentionStrategy | str) -> Description:
    """Description of a strategy that may be given by its class path, or `disoccluded` for one of ours."""
    if isinstance(given, AttentionStrategy):
        return given.describe()
    ours = {name.lower(): f"m2svid.attention.{name}" for name in m2svid.attention.__all__}
    return create({"class_path": ours.get(given, given)}, AttentionStrategy).describe()


def open_model(
    path: str | Path,
    attention: AttentionStrategy | str | None = None,
    backbone: str | Path | None = None,
    conditioning: Conditioning | Sequence[InputName] | None = None,
    heads: Heads | None = None,
    variant: str | None = None,
) -> Opened:
    """A whole model as it stands on disk: all networks, and a card that leaves nothing open. See `load`."""
    opened = open_weights(resolve(path, variant), heads, variant)
    missing = [name for name in COMPONENTS if getattr(opened.parts, name) is None]
    if missing:
        frozen = _open_frozen(opened, backbone, heads, variant, missing)
        opened = replace(opened, parts=replace(opened.parts, **{n: getattr(frozen, n) for n in missing}))
    return replace(opened, card=decide(opened, attention, conditioning))


def _open_frozen(
    opened: Opened,
    backbone: str | Path | None,
    heads: Heads | None,
    variant: str | None,
    missing: Sequence[Component],
) -> Parts:
    """Networks that `opened` lacks, from `backbone` or where its card says."""
    named = opened.card.backbone if opened.card is not None else None
    if backbone is None and named is not None:
        backbone, variant = named["path"], named["variant"]
    if backbone is None:
        raise UserError(
            f"{opened.path} is a {opened.format} and holds the U-Net only; give the weights that its VAE and "
            "image encoder come from, such as a Stable Video Diffusion folder (backbone)"
        )
    try:
        parts = open_weights(resolve(backbone, variant), heads, variant, missing).parts
    except UserError as error:
        raise UserError(
            f"{opened.path} takes its {' and '.join(missing)} from other weights (backbone): {error}"
        ) from error
    if any(getattr(parts, name) is None for name in missing):
        raise UserError(
            f"{backbone} holds no {' and '.join(missing)}, so it can't be the backbone of {opened.path}"
        )
    return parts


def decide(
    opened: Opened,
    attention: AttentionStrategy | str | None = None,
    conditioning: Conditioning | Sequence[InputName] | None = None,
) -> ModelCard:
    """The card of opened weights, overruled by what is given.

    Raises:
        UserError: neither says what the U-Net sees, or with which attention.
    """
    card = opened.card
    if conditioning is not None:
        made = conditioning if isinstance(conditioning, Conditioning) else Conditioning(conditioning)
        card = replace(card or ModelCard(made.describe()), conditioning=made.describe())
    if card is None:
        raise UserError(
            f"{opened.path} is a {opened.format} whose U-Net has {opened.parts.unet.config['in_channels']} "
            "input channels, which is no stereo model yet: start one with `weights init`, or say what the "
            "U-Net sees (conditioning)"
        )
    if attention is not None:
        card = replace(card, attention=_attention(attention))
    if card.attention is None:
        raise UserError(
            f"{opened.path} does not tell whether it was trained with full attention: give "
            "attention=disoccluded (published as m2svid_weights) or attention=factorized (published as "
            "m2svid_no_full_atten_weights)"
        )
    return card


def load(
    path: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    attention: AttentionStrategy | str | None = None,
    backbone: str | Path | None = None,
    conditioning: Conditioning | Sequence[InputName] | None = None,
    heads: Heads | None = None,
    variant: str | None = None,
    decode_chunk: int | None = None,
) -> M2SVid:
    """The model of any known weights, ready for inference. On the CPU, and in the file's dtype, it is
    memory-mapped.

    Args:
        path: a published M2SVid file (.pt or .safetensors), our own folder, a checkpoint of `fit`, a U-Net
            folder of StereoCrafter or DepthCrafter, or the hub id of a folder.
        device: where the model goes.
        dtype: of its parameters; None = the file's.
        attention: strategy, its class path, or "disoccluded", "factorized" or "full"; None = what the weights
            say, or the published file's name.
        backbone: weights that the VAE and image encoder come from, where `path` holds a U-Net only; None with
            a checkpoint of `fit` = those that it was trained with.
        conditioning: what the U-Net sees; None = what the weights say.
        heads: sizes that published files don't tell; None = the published models'.
        variant: of a folder's files, such as "fp16".
        decode_chunk: frames that the VAE decodes at a time; None = the whole clip. Only a chunk of at least
            the clip is exact, as the decoder's convolutions over time see 29 frames in each direction.

    Raises:
        UserError: the weights are unknown, truncated, don't fit, ask for a class that can't be imported, or
            leave something open that must be given.
    """
    opened = open_model(path, attention, backbone, conditioning, heads, variant)
    card = opened.card
    loaded = {name: networks.load(name, part, device, dtype) for name, part in opened.parts.items()}
    model = M2SVid(
        loaded["unet"],
        networks.wrap(loaded["vae"], gradient_checkpointing=False, decode_chunk=decode_chunk),
        networks.wrap(loaded["image_encoder"]),
        conditioning if isinstance(conditioning, Conditioning) else create(card.conditioning, Conditioning),
        attention if isinstance(attention, AttentionStrategy) else create(card.attention, AttentionStrategy),
        card.usage,
        card.backbone,
    ).eval()
    log.info(
        "%s: %s, every tensor matched; conditioning %s, attention %s%s",
        opened.path,
        opened.format,
        ", ".join(model.conditioning.inputs),
        type(model.attention).__name__,
        f"; averaged over the steps of training with decay {card.averaged:g}" if card.averaged else "",
    )
    return model


def save(model: M2SVid, folder: str | Path) -> None:
    """Write a model as our own folder. Raises UserError where the folder exists."""
    card = model.card()
    parts = {name: Part(card.networks[name], part.state_dict()) for name, part in model.networks.items()}
    write_folder(Path(folder), Parts(**parts), card)
