"""Weights of any format into a model, and a model into weights."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from m2svid.errors import UserError
from m2svid.model.conditioning import Conditioning, InputName
from m2svid.model.m2svid import M2SVid
from m2svid.weights import parts as components
from m2svid.weights.fetch import resolve
from m2svid.weights.folder import write_folder
from m2svid.weights.opening import Heads, Opened, open_weights, with_backbone
from m2svid.weights.parts import Parts
from m2svid.weights.settings import ATTENTION, AttentionName, Settings, check_attention

log = logging.getLogger(__name__)


def open_model(
    path: str | Path,
    backbone: str | Path | None = None,
    attention: AttentionName | None = None,
    conditioning: Conditioning | Sequence[InputName] | None = None,
    heads: Heads | None = None,
    variant: str | None = None,
) -> Opened:
    """A whole model as it stands on disk: all components, and settings that are known. See `load_model`."""
    opened = open_weights(resolve(path, variant), heads, variant)
    if opened.format == "Lightning checkpoint" and backbone is None:
        opened = _with_run(opened)
    else:
        frozen = None if backbone is None else open_weights(resolve(backbone, variant), heads, variant)
        opened = with_backbone(opened, frozen)
    return replace(opened, settings=_decide(opened, attention, conditioning))


def _with_run(opened: Opened) -> Opened:
    """A checkpoint of `fit` beside the `config.yaml` of its run, which says all about the model."""
    from m2svid.weights.checkpoint import open_run  # needs the command line's parser

    folders = opened.path.absolute().parents[:2]
    configs = [folder / "config.yaml" for folder in folders if (folder / "config.yaml").is_file()]
    if not configs:
        raise UserError(
            f"{opened.path} is a checkpoint of fit, which holds the U-Net only, and there is no config.yaml "
            "of its run beside it; give the weights that training started from (backbone)."
        )
    run = open_run(configs[0])
    log.info("%s: backbone, conditioning, attention and sampler as in %s", opened.path, configs[0])
    return replace(with_backbone(opened, run), settings=run.settings)


def _decide(
    opened: Opened, attention: str | None, conditioning: Conditioning | Sequence[InputName] | None
) -> Settings:
    """What the weights say, overruled by what the user says."""
    settings = opened.settings
    if conditioning is not None:
        if not isinstance(conditioning, Conditioning):
            conditioning = Conditioning(conditioning)
        settings = Settings(conditioning)
    if settings is None:
        raise UserError(
            f"{opened.path} is a {opened.format} whose U-Net has {opened.parts.unet.config['in_channels']} "
            "input channels, which is no stereo model yet: start one with `weights init`, or say what the "
            "U-Net sees (conditioning)."
        )
    settings = replace(settings, attention=check_attention(attention) or settings.attention)
    if settings.attention is None:
        raise UserError(
            f"{opened.path} does not tell whether it was trained with full attention: give "
            "attention=disoccluded (published as m2svid_weights) or attention=factorized (published as "
            "m2svid_no_full_atten_weights)."
        )
    return settings


def load_model(
    path: str | Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    backbone: str | Path | None = None,
    attention: AttentionName | None = None,
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
        backbone: weights that the VAE and image encoder come from, where `path` holds a U-Net only; None with
            a checkpoint of `fit` = those that the config.yaml of its run names.
        attention: strategy; None = what the weights say, or the published file's name.
        conditioning: what the U-Net sees; None = what the weights say.
        heads: sizes that published files don't tell; None = the published models'.
        variant: of a folder's files, such as "fp16".
        decode_chunk: frames that the VAE decodes at a time; None = the whole clip. Only a chunk of at least
            the clip is exact, as the decoder's convolutions over time see 29 frames in each direction.

    Raises:
        UserError: the weights are unknown, truncated, don't fit, or leave something open that must be given.
    """
    opened = open_model(path, backbone, attention, conditioning, heads, variant)
    model = assemble(opened.parts, opened.settings, device, dtype, decode_chunk)
    log.info(
        "%s: %s, every tensor matched; conditioning %s, attention %s",
        opened.path,
        opened.format,
        ", ".join(opened.settings.conditioning.inputs),
        opened.settings.attention,
    )
    return model


def assemble(
    parts: Parts,
    settings: Settings,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    decode_chunk: int | None = None,
) -> M2SVid:
    """The model of three components."""
    modules = {
        component: components.load(component, part, device, dtype) for component, part in parts.items()
    }
    return M2SVid(
        modules["unet"],
        components.wrap_vae(modules["vae"], decode_chunk),
        components.wrap_image_encoder(modules["image_encoder"]),
        settings.conditioning,
        ATTENTION[settings.attention](),
        settings.usage,
    ).eval()


def disassemble(model: M2SVid) -> tuple[Parts, Settings]:
    """Inverse of `assemble`. An attention strategy that is none of the known ones is left open."""
    names = {strategy: name for name, strategy in ATTENTION.items()}
    settings = Settings(model.conditioning, names.get(type(model.attention)), model.usage)
    parts = Parts(
        components.unet_part(model.unet),
        components.vae_part(model.vae),
        components.image_encoder_part(model.image_encoder),
    )
    return parts, settings


def save_model(model: M2SVid, folder: str | Path) -> None:
    """Writes a model as our own folder. Raises UserError where the folder exists."""
    write_folder(Path(folder), *disassemble(model))
