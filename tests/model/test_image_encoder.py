"""CLIP's preprocessing against that of diffusers' SVD pipeline, and one embedding a frame."""

from __future__ import annotations

import pytest
import torch
from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import (
    _resize_with_antialiasing,
)
from transformers import CLIPImageProcessor

from m2svid.model.image_encoder import CLIPImageEncoder, NoImageEncoder, preprocess
from tests.model import tiny


@pytest.mark.parametrize("size", [(512, 512), (300, 1000), (64, 128)])
def test_preprocessing_is_diffusers(size):
    frames = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    resized = (_resize_with_antialiasing(frames * 2 - 1, (224, 224)) + 1) / 2
    normalise = CLIPImageProcessor(do_resize=False, do_center_crop=False, do_rescale=False)
    expected = normalise(images=resized, return_tensors="pt").pixel_values
    torch.testing.assert_close(preprocess(frames, 224), expected, rtol=0, atol=2e-5)


@torch.no_grad()
def test_one_embedding_a_frame():
    torch.manual_seed(0)
    model = tiny.clip()
    video = torch.rand(2, 3, 3, 40, 56)
    embeds = CLIPImageEncoder(model)(video)
    assert embeds.shape == (2, 3, 1, 16)
    frame = model(pixel_values=preprocess(video[1, 2][None], 28)).image_embeds
    torch.testing.assert_close(embeds[1, 2], frame)


def test_no_image_encoder_gives_zeros():
    embeds = NoImageEncoder(24)(torch.rand(2, 3, 3, 8, 8))
    assert embeds.shape == (2, 3, 1, 24)
    assert not embeds.any()
