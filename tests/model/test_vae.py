"""Both autoencoders."""

from __future__ import annotations

import pytest
import torch

from m2svid.errors import UserError
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
def test_float16_weights_encode_in_float32_and_stay_what_they_are(model, video):
    assert model.config.force_upcast
    model.half()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    latent = SVDAutoencoder(model).encode(video)
    after = model.state_dict()
    assert all(
        tensor.dtype == torch.float16 and torch.equal(tensor, state[name]) for name, tensor in after.items()
    )
    assert latent.dtype == torch.float32
    torch.testing.assert_close(latent, SVDAutoencoder(model.float()).encode(video))


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
