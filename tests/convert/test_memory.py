"""The estimate of memory, and what is chosen to fit it."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from m2svid.attention import Disoccluded
from m2svid.convert import memory
from m2svid.convert.convert import convert
from m2svid.convert.memory import Fit, Footprint, fit, parse_bytes
from m2svid.convert.refine_model import ModelRefiner
from m2svid.convert.resume import WorkFolder
from m2svid.errors import UserError
from m2svid.model.backbone import SmallRandom
from m2svid.model.conditioning import Conditioning
from m2svid.model.image_encoder import ImageEncoder
from m2svid.model.m2svid import M2SVid
from m2svid.model.unet import ConditionedUNet
from m2svid.model.vae import SVDAutoencoder
from tests.convert.films import make_depth, make_film
from tests.model import tiny

FULL = Footprint(vae=2e8, image_encoder=1.3e9, unet=3e9, encode=1300, embed=1.3e7, sample=300, decode=2000)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    unet = ConditionedUNet(in_channels=13, **tiny.UNET)
    conditioning = Conditioning(["left", "warped", "mask"])
    vae = SVDAutoencoder(tiny.vae(), gradient_checkpointing=False)
    return M2SVid(unet, vae, ImageEncoder(tiny.clip()), conditioning, Disoccluded()).eval()


def test_layers_are_counted_by_hand():
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1)).to("meta")
    x = torch.empty(1, 3, 10, 10, device="meta")
    # input of ReLU and its result; the input of the network was there before
    assert memory._peak(layers, lambda: layers(x)) == 4 * 100 * (8 + 8)


def test_attention_keeps_no_matrix():
    tokens = torch.empty(1, 2, 1000, 8, device="meta")
    peak = memory._peak(nn.Identity(), lambda: nn.functional.scaled_dot_product_attention(*[tokens] * 3))
    assert peak == tokens.nbytes


def test_the_estimate_grows_with_the_size_as_the_layers_do(model, monkeypatch):
    small = memory.measure(model)
    monkeypatch.setattr(memory, "_SIZE", 1024)
    large = memory.measure(model)
    assert small.unet == sum(p.nbytes for p in model.unet.parameters())
    for name in ("encode", "sample", "decode"):
        assert getattr(large, name) == pytest.approx(getattr(small, name), rel=0.02)


def test_less_memory_changes_less_important_things_first():
    wished = Fit(25, 0, 25)
    chosen = [fit(int(size * 1e9), FULL, 1088, 1920, wished) for size in (200, 24, 10, 6)]
    assert chosen[0] == wished
    assert (chosen[1].window, chosen[1].tile) == (25, 0) and chosen[1].decode_chunk < 25
    assert (chosen[2].window, chosen[2].tile, chosen[2].offload) == (25, 768, True)
    assert (chosen[3].window, chosen[3].tile, chosen[3].offload) == (16, 512, True)
    for way, size in zip(chosen, (200, 24, 10, 6), strict=True):
        assert way.bytes_needed(FULL, 1088, 1920) <= size * 1e9


def test_what_is_given_stays():
    chosen = fit(int(24e9), FULL, 1088, 1920, Fit(20, 0, 20), frozenset({"window"}))
    assert chosen.window == 20 and chosen.decode_chunk < 20
    everything = Fit(20, 2048, 20)
    chosen = fit(10**6, FULL, 1088, 1920, everything, frozenset({"window", "tile", "decode_chunk"}))
    assert chosen == Fit(20, 2048, 20, offload=True)


def test_what_would_fit_is_told():
    message = r"--vram 3G is too little .* need 5\.\d+G with windows of 16 .* 1 frames decoded"
    with pytest.raises(UserError, match=message) as error:
        fit(int(3e9), FULL, 1088, 1920, Fit(25, 0, 25))
    needed = float(str(error.value).partition("need ")[2].partition("G")[0])
    fit(int(needed * 1e9), FULL, 1088, 1920, Fit(25, 0, 25))


def test_windows_stay_longer_than_their_overlap():
    assert fit(int(6e9), FULL, 1088, 1920, Fit(25, 0, 25), overlap=12).window == 16
    least = [
        fit(int(size * 1e8), FULL, 512, 512, Fit(25, 0, 25), overlap=12).window for size in range(52, 90)
    ]
    assert set(least) <= {16, 25}


def test_sizes_are_read():
    assert parse_bytes("8G") == parse_bytes("8gb") == parse_bytes("8000M") == 8 * 10**9
    for wrong in ("much", "0", "-3G", ""):
        with pytest.raises(UserError, match="--vram must be auto or a size"):
            parse_bytes(wrong)


def test_networks_that_take_turns_give_the_same_view(model):
    """Lent to the device where they are, and given back."""
    generator = torch.Generator().manual_seed(1)
    left, warped = torch.rand(2, 4, 3, 20, 30, generator=generator)
    hole = torch.zeros(4, 1, 20, 30, dtype=torch.bool)
    hole[..., 5:9, 10:15] = True
    plain = ModelRefiner(model)(left, warped, hole, 8, None)
    homes = [parameter.data_ptr() for parameter in model.parameters()]
    turns = ModelRefiner(model, torch.device("cpu"), offload=True)
    assert torch.equal(turns(left, warped, hole, 8, None), plain)
    assert [parameter.data_ptr() for parameter in model.parameters()] == homes
    assert "taking turns" in turns.description


def test_choice_is_printed_and_kept(tmp_path, capsys, monkeypatch):
    torch.manual_seed(0)
    conditioning = Conditioning(["left", "warped", "mask"])
    small = SmallRandom((32,)).build(conditioning, Disoccluded())
    small.save_pretrained(tmp_path / "model")
    film = make_film(tmp_path / "film.mp4", 3)
    kept = []
    monkeypatch.setattr(
        WorkFolder, "remove", lambda self: kept.append(json.loads((self.path / "settings.json").read_text()))
    )
    options = {
        "depth": str(make_depth(tmp_path / "depth.npz", 3)),
        "weights": str(tmp_path / "model"),
        "progress": "json",
    }
    need = Fit(8, 0, 8).bytes_needed(memory.measure(small), 48, 64)
    convert(str(film), tmp_path / "out.mp4", vram=f"{need / 1e6:.6f}M", **options)
    assert "windows of 8 frames" in capsys.readouterr().err
    assert (kept[0]["window"], kept[0]["tile"], kept[0]["decode_chunk"]) == (8, 0, 8)
    assert "vram" not in kept[0]
    with pytest.raises(UserError, match=r"--vram 0\.1G"):
        convert(str(film), tmp_path / "two.mp4", vram="0.1G", **options)
