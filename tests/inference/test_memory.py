"""The estimate of memory, and what is chosen to fit it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate

import pytest
import torch
from torch import nn

from m2svid.attention import Disoccluded
from m2svid.bench.memory import published
from m2svid.convert.options import Options
from m2svid.convert.setup import pick_dtype
from m2svid.convert.verbs import convert
from m2svid.convert.work_folder import WorkFolder
from m2svid.errors import UserError
from m2svid.inference import footprint
from m2svid.inference.footprint import Footprint
from m2svid.inference.memory import Fit, fit, parse_bytes
from m2svid.inference.refiner import ModelRefiner
from m2svid.model.conditioning import Conditioning
from m2svid.model.image_encoder import CLIPImageEncoder
from m2svid.model.m2svid import M2SVid
from m2svid.model.unet import ConditionedUNet
from m2svid.model.vae import SVDAutoencoder
from m2svid.training.backbone import SmallRandom
from tests.convert.films import make_depth, make_film
from tests.model import tiny


@pytest.fixture(scope="module")
def full() -> Footprint:
    """Of the published size, in float16."""
    return footprint.measure(published(torch.float16))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    unet = ConditionedUNet(in_channels=13, **tiny.UNET)
    conditioning = Conditioning(["left", "warped", "mask"])
    vae = SVDAutoencoder(tiny.vae(), gradient_checkpointing=False)
    return M2SVid(unet, vae, CLIPImageEncoder(tiny.clip()), conditioning, Disoccluded()).eval()


def test_layers_are_counted_by_hand():
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1)).to("meta")
    x = torch.empty(1, 3, 10, 10, device="meta")
    # input of ReLU and its result; the input of the network was there before
    assert footprint._peak(layers, lambda: layers(x)) == 4 * 100 * (8 + 8)


def test_attention_keeps_no_matrix():
    tokens = torch.empty(1, 2, 1000, 8, device="meta")
    peak = footprint._peak(nn.Identity(), lambda: nn.functional.scaled_dot_product_attention(*[tokens] * 3))
    assert peak == tokens.nbytes


def test_the_estimate_is_what_the_profiler_sees(model):
    """Of the real layers with data: the estimate counts without, and not how kernels do their work."""
    counted = footprint.measure(model)
    T, side = 3, 64
    batch = tiny.batch(B=1, T=T, H=side, W=side)
    frame = torch.rand(1, 1, 3, side, side) * 2 - 1
    z = torch.randn(1, T, 4, side // 2, side // 2)
    with torch.no_grad():
        condition = model.condition(batch)
        seen = {
            "encode": peak_bytes(lambda: model.vae.encode(frame)) / side**2,
            "sample": peak_bytes(lambda: model.sample(condition)) / (T * side**2),
            "decode": peak_bytes(lambda: model.decode(z)) / (T * side**2),
        }
    for name, real in seen.items():
        assert getattr(counted, name) == pytest.approx(real, rel=0.15), name


def peak_bytes(work: Callable[[], object]) -> int:
    """Most bytes that PyTorch holds at a time, beside those held before."""
    with torch.profiler.profile(profile_memory=True, acc_events=True) as profiler:
        work()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(accumulate(changes))


def test_the_estimate_grows_with_the_size_as_the_layers_do(model, monkeypatch):
    small = footprint.measure(model)
    monkeypatch.setattr(footprint, "_SIZE", 1024)
    large = footprint.measure(model)
    assert small.unet == sum(p.nbytes for p in model.unet.parameters())
    for name in ("encode", "sample", "decode"):
        assert getattr(large, name) == pytest.approx(getattr(small, name), rel=0.02)


def test_less_memory_changes_less_important_things_first(full):
    wished = Fit(25, 0, 25)
    chosen = [fit(int(size * 1e9), full, 1088, 1920, wished) for size in (200, 24, 10, 6)]
    assert chosen[0] == wished
    assert (chosen[1].window, chosen[1].tile) == (25, 0) and chosen[1].decode_chunk < 25
    assert (chosen[2].window, chosen[2].tile, chosen[2].offload) == (25, 768, True)
    assert (chosen[3].window, chosen[3].tile, chosen[3].offload) == (16, 512, True)
    for way, size in zip(chosen, (200, 24, 10, 6), strict=True):
        assert way.bytes_needed(full, 1088, 1920) <= size * 1e9


@pytest.mark.parametrize("size", [8, 12, 24, 48])
def test_films_of_any_size_fit(size, full):
    for height, width in [(1088, 1920), (2176, 3840), (4352, 8192)]:
        way = fit(int(size * 1e9), full, height, width, Fit(25, 0, 25), overlap=3)
        assert way.bytes_needed(full, height, width) <= size * 1e9
        one = Fit(25, way.tile, 1, offload=True)
        assert (way.decode_tile == 0) == (one.bytes_needed(full, height, width) <= size * 1e9)
    assert way.decode_tile == 1024 and way.decode_chunk > 1


def test_more_of_anything_needs_no_less(full):
    grown = {
        "window": (8, 16, 25),
        "tile": (256, 512, 1024, 2048, 0),
        "decode_chunk": (1, 2, 8, 25),
        "decode_tile": (512, 768, 1024, 2048, 0),
        "offload": (True, False),
    }
    for name, values in grown.items():
        for way in (Fit(25, 512, 2, 512), Fit(16, 0, 4, 0, offload=True), Fit(25, 1024, 25, 1024)):
            ways = [replace(way, **{name: value}) for value in values]
            needs = [one.bytes_needed(full, 2176, 3840) for one in ways]
            assert needs == sorted(needs)
            assert all(
                one.bytes_needed(full, 1088, 1920) <= need for one, need in zip(ways, needs, strict=True)
            )


def test_what_is_given_stays(full):
    chosen = fit(int(24e9), full, 1088, 1920, Fit(20, 0, 20), frozenset({"window"}))
    assert chosen.window == 20 and chosen.decode_chunk < 20
    everything = frozenset({"window", "tile", "decode_chunk", "decode_tile"})
    assert fit(10**6, full, 1088, 1920, Fit(20, 2048, 20), everything) == Fit(20, 2048, 20, offload=True)
    chosen = fit(int(8e9), full, 1088, 1920, Fit(25, 0, 25, 1536), frozenset({"decode_tile"}))
    assert chosen.decode_tile == 1536


def test_what_would_fit_is_told(full):
    message = r"--vram 3G is too little .* need 4\.\d+G with windows of 8 .* 1 frame decoded .* tiles of"
    with pytest.raises(UserError, match=message) as error:
        fit(int(3e9), full, 1088, 1920, Fit(25, 0, 25))
    needed = float(str(error.value).partition("need ")[2].partition("G")[0])
    fit(int(needed * 1e9), full, 1088, 1920, Fit(25, 0, 25))


def test_windows_stay_longer_than_their_overlap(full):
    assert fit(int(6e9), full, 1088, 1920, Fit(25, 0, 25), overlap=12).window == 16
    least = [
        fit(int(size * 1e8), full, 512, 512, Fit(25, 0, 25), overlap=12).window for size in range(52, 90)
    ]
    assert set(least) <= {16, 25}


def test_decode_tiles_are_multiples_of_64():
    with pytest.raises(UserError, match="--decode-tile must be a multiple of 64 px, or 0, not 100"):
        Options(refine="none", decode_tile=100)


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
    guest = ModelRefiner(model, guest=True)
    assert torch.equal(guest(left, warped, hole, 8, None), plain)


def test_what_others_keep_is_not_to_be_had(model, full):
    needs = [
        fit(int(8e9), full, 1088, 1920, Fit(25, 0, 25), taken=int(taken * 1e9)).bytes_needed(full, 1088, 1920)
        for taken in (0, 0.3, 1, 2)
    ]
    assert all(need <= (8 - taken) * 1e9 for need, taken in zip(needs, (0, 0.3, 1, 2), strict=True))
    with pytest.raises(UserError, match=r"--vram 8G is too little .* need 9\.3G with"):
        fit(int(8e9), full, 1088, 1920, Fit(25, 0, 25), taken=int(5e9))


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
    need = Fit(8, 0, 8).bytes_needed(footprint.measure(small), 48, 64)
    convert(str(film), tmp_path / "out.mp4", vram=f"{need / 1e6:.6f}M", **options)
    assert "windows of 8 frames" in capsys.readouterr().err
    assert [kept[0][name] for name in ("window", "tile", "decode_chunk", "decode_tile")] == [8, 0, 8, 0]
    assert "vram" not in kept[0] and kept[0]["dtype"] == "float32"
    with pytest.raises(UserError, match=r"--vram 0\.1G"):
        convert(str(film), tmp_path / "two.mp4", vram="0.1G", **options)


def test_auto_is_float16_on_a_gpu_and_float32_elsewhere():
    assert pick_dtype("auto", torch.device("cuda", 0)) is torch.float16
    assert pick_dtype("auto", torch.device("cpu")) is torch.float32
    assert pick_dtype("bfloat16", torch.device("cuda")) is torch.bfloat16
