"""The U-Net against diffusers' own forward pass, and what our forward adds."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from diffusers.models.resnet import SpatioTemporalResBlock

from m2svid.attention import Disoccluded, Factorized, Full
from m2svid.model.unet import ConditionedUNet
from tests.model.tiny import UNET

B, T, C, h, w = 2, 3, 13, 4, 6


@pytest.fixture
def unet() -> ConditionedUNet:
    torch.manual_seed(0)
    return ConditionedUNet(**UNET, in_channels=C).eval()


@pytest.fixture
def inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask = torch.full((B, T, 1, h, w), -1.0)
    mask[0, :, :, 1:, 2:4] = mask[1, 1, :, :2, :2] = 1
    return {
        "sample": torch.randn(B, T, C, h, w, generator=generator),
        "timestep": torch.tensor([1.6, -0.3]),
        "context": torch.randn(B, T, 1, 16, generator=generator),
        "added_time_ids": torch.tensor([[8.0, 127, 0.02], [24, 127, 0.1]]),
        "mask": mask,
    }


class Counting(Disoccluded):
    """Remembers for which sizes it was asked to select."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = []

    def select(self, mask, size, training, generator=None):
        self.sizes.append(tuple(size))
        return super().select(mask, size, training, generator)


@torch.no_grad()
def test_equals_diffusers_where_all_frames_have_one_embedding(inputs):
    theirs = UNetSpatioTemporalConditionModel(**UNET, in_channels=C)
    ours = ConditionedUNet(**UNET, in_channels=C, resnet_eps=None)
    ours.load_state_dict(theirs.state_dict())
    one = inputs["context"][:, :1]
    expected = theirs(inputs["sample"], inputs["timestep"], one[:, 0], inputs["added_time_ids"]).sample
    out = ours(**inputs | {"context": one.expand(-1, T, -1, -1)}, attention=Factorized())
    torch.testing.assert_close(out, expected)


@torch.no_grad()
def test_every_frames_embedding_counts(unet, inputs):
    out = unet(**inputs, attention=Factorized())
    inputs["context"][:, 1] += 1
    assert not torch.allclose(unet(**inputs, attention=Factorized())[:, 1], out[:, 1], atol=1e-3)


@torch.no_grad()
def test_clips_do_not_see_each_other(unet, inputs):
    together = unet(**inputs, attention=Disoccluded())
    for b in range(B):
        alone = unet(**{name: x[b : b + 1] for name, x in inputs.items()}, attention=Disoccluded())
        torch.testing.assert_close(together[b : b + 1], alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_strategies_meet_at_the_extremes_of_the_mask(unet, inputs):
    empty, ones = torch.full_like(inputs["mask"], -1), torch.ones_like(inputs["mask"])
    factorized, full = unet(**inputs, attention=Factorized()), unet(**inputs, attention=Full())
    assert torch.equal(unet(**inputs | {"mask": empty}, attention=Disoccluded()), factorized)
    torch.testing.assert_close(unet(**inputs | {"mask": ones}, attention=Disoccluded()), full)
    assert (full - factorized).abs().max() > 1e-3


@torch.no_grad()
def test_tokens_are_selected_once_for_each_resolution(unet, inputs):
    attention = Counting()
    unet(**inputs, attention=attention)
    assert attention.sizes == [(4, 6), (2, 3)]


def test_resnet_eps():
    def found(unet):
        resnets = [m for m in unet.modules() if isinstance(m, SpatioTemporalResBlock)]
        return {m.eps for r in resnets for m in r.modules() if isinstance(m, torch.nn.GroupNorm)}

    assert found(ConditionedUNet(**UNET)) == {1e-5}
    assert found(ConditionedUNet(**UNET, resnet_eps=None)) == found(UNetSpatioTemporalConditionModel(**UNET))
    transformer = ConditionedUNet(**UNET).down_blocks[0].attentions[0]
    assert transformer.norm.eps == 1e-6


@pytest.mark.parametrize("attention", [Factorized(), Disoccluded(max_train_tokens_per_frame=1), Full()])
def test_checkpointing_changes_no_gradient(unet, inputs, attention):
    def gradients():
        unet.zero_grad()
        generator = torch.Generator().manual_seed(0)  # of the random choice under the cap
        out = unet(**inputs, attention=attention, generator=generator)
        out.square().mean().backward()
        return {name: p.grad.clone() for name, p in unet.named_parameters()}

    unet.train()
    plain = gradients()
    unet.enable_gradient_checkpointing()
    checkpointed = gradients()
    for name, grad in plain.items():
        torch.testing.assert_close(checkpointed[name], grad, msg=name)


def test_checkpointing_recomputes_every_block_but_no_choice_of_tokens(unet, inputs):
    blocks = [m for m in unet.modules() if isinstance(m, SpatioTemporalResBlock)]
    calls = []
    for block in blocks:
        block.register_forward_pre_hook(lambda *_: calls.append(1))
    unet.train()
    for enabled, times in ((False, 1), (True, 2)):
        calls.clear()
        unet.enable_gradient_checkpointing() if enabled else unet.disable_gradient_checkpointing()
        attention = Counting()
        unet(**inputs, attention=attention).square().mean().backward()
        assert len(calls) == times * len(blocks)
        assert attention.sizes == [(4, 6), (2, 3)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(unet, inputs, dtype):
    exact = unet(**inputs, attention=Disoccluded())
    unet.enable_gradient_checkpointing()
    with torch.autocast("cpu", dtype=dtype):
        out = unet(**inputs, attention=Disoccluded())
        out.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in unet.parameters())
    assert (out - exact).abs().max() < 0.1 * exact.abs().max()


@torch.no_grad()
def test_half_precision_weights(unet, inputs):
    exact = unet(**inputs, attention=Disoccluded())
    half = {name: inputs[name].bfloat16() for name in ("sample", "context")}
    out = unet.bfloat16()(**inputs | half, attention=Disoccluded())
    assert out.dtype == torch.bfloat16
    assert (out - exact).abs().max() < 0.1 * exact.abs().max()


def test_saves_and_loads(unet, inputs, tmp_path):
    unet.save_pretrained(tmp_path)
    loaded = ConditionedUNet.from_pretrained(tmp_path)
    assert loaded.config.resnet_eps == 1e-5
    torch.testing.assert_close(
        loaded(**inputs, attention=Disoccluded()), unet(**inputs, attention=Disoccluded())
    )


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, 2, C, 5, 6), "5×6 must be a multiple of 2"), ((1, 2, 8, 4, 6), "13 input channels")],
)
def test_wrong_input_is_refused(unet, inputs, shape, message):
    with pytest.raises(ValueError, match=message):
        unet(**inputs | {"sample": torch.zeros(shape)}, attention=Factorized())
