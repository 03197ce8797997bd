"""Input channels, and the start of training from SVD's first convolution."""

from __future__ import annotations

import pytest
import torch

from m2svid.errors import UserError
from m2svid.model.conditioning import Conditioning, widen_conv_in
from m2svid.model.unet import ConditionedUNet
from tests.model.tiny import UNET

INPUTS = {13: ("left", "warped", "mask"), 9: ("warped", "mask"), 8: ("video",)}


@pytest.mark.parametrize(("channels", "inputs"), INPUTS.items())
def test_input_channels_of_the_published_models(channels, inputs):
    assert Conditioning(inputs).in_channels(latent_channels=4) == channels


@torch.no_grad()
@pytest.mark.parametrize("inputs", INPUTS.values())
def test_widened_convolution_sees_equal_views_as_svd_sees_the_image(inputs):
    torch.manual_seed(0)
    unet = ConditionedUNet(**UNET)
    noisy, image, mask = torch.randn(1, 4, 6, 6), torch.randn(1, 4, 6, 6), torch.randn(1, 1, 6, 6)
    expected = unet.conv_in(torch.cat([noisy, image], dim=1))
    widen_conv_in(unet, Conditioning(inputs))
    wide = torch.cat([noisy, *(mask if name == "mask" else image for name in inputs)], dim=1)
    torch.testing.assert_close(unet.conv_in(wide), expected)
    assert unet.config.in_channels == wide.shape[1]


@torch.no_grad()
def test_views_share_the_image_weights():
    unet = ConditionedUNet(**UNET)
    old = unet.conv_in.weight.clone()
    widen_conv_in(unet, Conditioning(("left", "warped", "mask")))
    noisy, left, warped, mask = unet.conv_in.weight.split([4, 4, 4, 1], dim=1)
    assert torch.equal(noisy, old[:, :4])
    assert torch.equal(left, old[:, 4:] / 2)
    assert torch.equal(warped, old[:, 4:] / 2)
    assert not mask.any()


def test_widened_unet_saves_and_loads(tmp_path):
    unet = ConditionedUNet(**UNET)
    widen_conv_in(unet, Conditioning(("warped", "mask")))
    unet.save_pretrained(tmp_path)
    loaded = ConditionedUNet.from_pretrained(tmp_path)
    assert torch.equal(loaded.conv_in.weight, unet.conv_in.weight)


def test_only_svd_is_widened():
    unet = ConditionedUNet(**UNET, in_channels=13)
    with pytest.raises(UserError, match="13 input channels"):
        widen_conv_in(unet, Conditioning(("warped", "mask")))


@pytest.mark.parametrize("inputs", [(), ("left", "depth"), ("mask", "mask")])
def test_wrong_list_is_refused(inputs):
    with pytest.raises(UserError, match="conditioning="):
        Conditioning(inputs)
