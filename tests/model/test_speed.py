"""Compiled blocks and other layouts against the networks as they are."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D, SpatioTemporalResBlock
from torch import nn

from m2svid.attention import Disoccluded
from m2svid.model.conditioning import Conditioning
from m2svid.model.image_encoder import CLIPImageEncoder
from m2svid.model.m2svid import M2SVid
from m2svid.model.speed import compile_regions, lay_channels_last, regions
from m2svid.model.unet import ConditionedUNet
from m2svid.model.vae import SVDAutoencoder
from tests.model import tiny


@pytest.fixture
def model() -> M2SVid:
    torch.manual_seed(0)
    unet, vae = ConditionedUNet(in_channels=13, **tiny.UNET), SVDAutoencoder(tiny.vae(), False)
    return M2SVid(unet, vae, CLIPImageEncoder(tiny.clip()), Conditioning(), Disoccluded()).eval()


def predict(model: M2SVid) -> torch.Tensor:
    return model.predict(tiny.batch(B=1), generator=torch.Generator().manual_seed(0))


def test_compiled_blocks_are_whole_graphs_that_equal_ones_share(model):
    """Of one level, so that it takes seconds: all kinds of blocks are there."""
    sizes = {name: value[:1] for name, value in tiny.UNET.items() if isinstance(value, tuple)}
    model.unet = ConditionedUNet(in_channels=13, **(tiny.UNET | sizes)).eval()
    expected, names = predict(model), list(model.state_dict())
    graphs = []

    def backend(graph, _inputs):
        graphs.append(graph)
        return graph

    count = compile_regions(model, backend=backend)
    assert torch.equal(predict(model), expected)
    made = len(graphs)
    assert 0 < made < count
    predict(model)
    assert len(graphs) == made
    assert list(model.state_dict()) == names


def test_every_residual_block_is_in_one_region(model):
    found = list(regions(model))
    inside = [module for region in found for module in region.modules()]
    assert len(inside) == len(set(inside))
    blocks = [each for each in model.modules() if isinstance(each, SpatioTemporalResBlock | ResnetBlock2D)]
    assert set(blocks) <= set(inside)


def test_gradients_of_compiled_blocks_are_those_of_the_others(model):
    block = model.vae.model.decoder.mid_block.resnets[0]

    def gradient() -> torch.Tensor:
        x = torch.linspace(-1, 1, 3 * 32 * 4 * 6).reshape(3, 32, 4, 6).requires_grad_()
        return torch.autograd.grad(block(x, None, torch.zeros(1, 3)).square().sum(), x)[0]

    expected = gradient()
    assert compile_regions(block, backend="aot_eager") == 1
    torch.testing.assert_close(gradient(), expected)


def test_channels_last_changes_the_layout_alone(model):
    expected, before = predict(model), {name: each.clone() for name, each in model.state_dict().items()}
    lay_channels_last(model)
    torch.testing.assert_close(predict(model), expected, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    layouts = {nn.Conv2d: torch.channels_last, nn.Conv3d: torch.channels_last_3d}
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            assert module.weight.is_contiguous(memory_format=layouts[type(module)])
