"""Small random networks in the layouts of published ones, so that methods can be run without a download."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    DDPMScheduler,
    UNet3DConditionModel,
    UNetSpatioTemporalConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from m2svid.files import whole

ZEROSCOPE_SCHEDULER = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "clip_sample": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
"""Zeroscope's noise schedule, as published."""

_CONTEXT = 32  # channels of embeddings
_TOKENS = 9


def make_networks(folder: Path) -> None:
    """Write networks of StereoCrafter's, SVD's and Zeroscope's kind, if the folder isn't there.

    It then holds `stereocrafter/unet_diffusers`; `svd` with `unet`, `vae` and `image_encoder`; and
    `zeroscope` with `unet`, `scheduler`, `tokenizer` and `text_encoder`. What they make of a film is noise.
    """
    if folder.is_dir():
        return
    with whole(folder) as temporary, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _svd_unet(9).save_pretrained(temporary / "stereocrafter" / "unet_diffusers")
        _make_svd(temporary / "svd")
        _make_zeroscope(temporary / "zeroscope")


def _svd_unet(in_channels: int) -> UNetSpatioTemporalConditionModel:
    return UNetSpatioTemporalConditionModel(
        in_channels=in_channels,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        block_out_channels=(32, 64),
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=96,
        layers_per_block=1,
        cross_attention_dim=_CONTEXT,
        num_attention_heads=(2, 4),
    )


def _make_svd(folder: Path) -> None:
    _svd_unet(8).save_pretrained(folder / "unet")
    vae = AutoencoderKLTemporalDecoder(
        block_out_channels=(32,) * 4, down_block_types=("DownEncoderBlock2D",) * 4, latent_channels=4
    )
    vae.save_pretrained(folder / "vae")
    clip = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        projection_dim=_CONTEXT,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    CLIPVisionModelWithProjection(clip).save_pretrained(folder / "image_encoder")


def _make_zeroscope(folder: Path) -> None:
    unet = UNet3DConditionModel(
        block_out_channels=(32, 32),
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        layers_per_block=1,
        cross_attention_dim=_CONTEXT,
        attention_head_dim=16,
        norm_num_groups=8,
    )
    unet.save_pretrained(folder / "unet")
    DDPMScheduler(**ZEROSCOPE_SCHEDULER).save_pretrained(folder / "scheduler")
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir(parents=True)
    vocabulary, merges = tokenizer / "vocab.json", tokenizer / "merges.txt"
    vocabulary.write_text(json.dumps({word: number for number, word in enumerate(words)}))
    merges.write_text("#version: 0.2\n")
    CLIPTokenizer(str(vocabulary), str(merges), model_max_length=_TOKENS).save_pretrained(tokenizer)
    text = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=_CONTEXT,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=_TOKENS,
        bos_token_id=len(words) - 2,
        eos_token_id=len(words) - 1,
    )
    CLIPTextModel(text).save_pretrained(folder / "text_encoder")
