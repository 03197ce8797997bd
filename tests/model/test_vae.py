"""Both autoencoders."""

from __future__ import annotations

import pytest
import torch

from m2svid.errors import UserError
from m2svid.model.half_encoder import encoding_in
from m2svid.model.vae import SpaceToDepth, SVDAutoencoder
from tests.model import tiny

B, T, H, W = 2, 3, 8, 12


@pytest.fixture
def model():
    torch.manual_seed(0)
    return tiny.vae()


@pytest.fixture
def video() -> torch.Tensor:
    return torch.rand(B, T, 3, H, W, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("downscale", [1, 2, 4])
def test_space_to_depth_is_lossless(video, downscale):
    autoencoder = SpaceToDepth(downscale)
    latent = autoencoder.encode(video)
    assert latent.shape == (B, T, autoencoder.latent_channels, H // downscale, W // downscale)
    assert torch.equal(autoencoder.decode(latent), video)
    assert not autoencoder.state_dict()


@torch.no_grad()
def test_encodes_the_mode_of_each_frame(model, video):
    latent = SVDAutoencoder(model).encode(video)
    for b in range(B):
        for t in range(T):
            mean = model.quant_conv(model.encoder(video[b, t][None]))[0, :4]
            torch.testing.assert_close(latent[b, t], mean)


@torch.no_grad()
@pytest.mark.parametrize("chunk", [1, 2, 4])
def test_encoding_in_chunks_is_exact(model, video, chunk):
    whole, chunked = SVDAutoencoder(model), SVDAutoencoder(model, encode_chunk=chunk)
    torch.testing.assert_close(chunked.encode(video), whole.encode(video))


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_encodes_in_another_dtype_and_stays_what_it_is(model, video, dtype):
    model.half()
    before = dict(model.state_dict())
    latent = SVDAutoencoder(model, encode_dtype=dtype).encode(video)
    assert latent.dtype == dtype
    after = model.state_dict()
    assert all(
        torch.equal(after[name], tensor) and after[name].dtype == tensor.dtype
        for name, tensor in before.items()
    )
    exact = SVDAutoencoder(model.float()).encode(video)
    decibels = {torch.float32: 120, torch.float16: 60, torch.bfloat16: 40}
    assert psnr(latent, exact) > decibels[dtype]


def psnr(latent: torch.Tensor, exact: torch.Tensor) -> float:
    return float(20 * (exact.max() - exact.min()).log10() - 10 * (latent - exact).square().mean().log10())


@torch.no_grad()
def test_a_smaller_residual_stream_gives_the_same_latents(model, video):
    """In float32, which rounds powers of two nowhere; both kinds of blocks, attention and norms are there."""
    torch.manual_seed(3)
    for parameter in model.encoder.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    frames = video.flatten(0, 1)
    exact = model.quant_conv(model.encoder(frames))
    with encoding_in(torch.float32, model, stream=2**-6):
        assert not torch.equal(model.encoder.conv_in(frames), exact)
        torch.testing.assert_close(model.quant_conv(model.encoder(frames)), exact, rtol=1e-6, atol=1e-6)
    assert torch.equal(model.quant_conv(model.encoder(frames)), exact)


@torch.no_grad()
def test_float16_holds_a_stream_that_it_is_too_small_for(model, video):
    """Up to 64 times its largest number."""
    for name, parameter in model.encoder.named_parameters():
        if "conv2" in name or name.startswith("conv_in"):
            parameter *= 3e5
    exact = SVDAutoencoder(model).encode(video)
    model.half()
    assert psnr(SVDAutoencoder(model).encode(video).float(), exact) > 55
    with encoding_in(torch.float16, model, stream=1):
        assert not model.encoder(video.flatten(0, 1).half()).isfinite().all()


@torch.no_grad()
def test_decoder_sees_its_clip_and_no_other(model):
    latent = torch.randn(B, T, 4, 4, 6)
    decoded = SVDAutoencoder(model).decode(latent)
    assert decoded.shape == (B, T, 3, 8, 12)
    for b in range(B):
        torch.testing.assert_close(decoded[b], model.decode(latent[b], num_frames=T).sample)
    torch.testing.assert_close(SVDAutoencoder(model, decode_chunk=T).decode(latent), decoded)
    assert not torch.allclose(SVDAutoencoder(model, decode_chunk=1).decode(latent), decoded)


def test_checkpointing_changes_no_gradient(model):
    latent = torch.randn(B, T, 4, 4, 6, requires_grad=True)

    def gradient(checkpointing):
        autoencoder = SVDAutoencoder(model, gradient_checkpointing=checkpointing)
        return torch.autograd.grad(autoencoder.decode(latent).square().mean(), latent)[0]

    plain = gradient(False)
    assert not model.is_gradient_checkpointing
    torch.testing.assert_close(gradient(True), plain)
    assert model.is_gradient_checkpointing
    assert plain.any()


@torch.no_grad()
def test_float16_autocast_encodes_in_float32(model, video):
    autoencoder = SVDAutoencoder(model)
    exact = autoencoder.encode(video)
    with torch.autocast("cpu", dtype=torch.float16):
        assert torch.equal(autoencoder.encode(video), exact)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert autoencoder.encode(video).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_flow_through_the_decoder_under_autocast(model, dtype):
    latent = torch.randn(B, T, 4, 4, 6, requires_grad=True)
    with torch.autocast("cpu", dtype=dtype):
        SVDAutoencoder(model).decode(latent).float().square().mean().backward()
    assert latent.grad.isfinite().all()
    assert latent.grad.any()


@pytest.mark.parametrize("option", ["encode_chunk", "decode_chunk"])
def test_wrong_chunk_is_refused(model, option):
    with pytest.raises(UserError, match=f"{option}=0"):
        SVDAutoencoder(model, **{option: 0})


def test_wrong_downscale_is_refused():
    with pytest.raises(UserError, match="downscale=0"):
        SpaceToDepth(0)
