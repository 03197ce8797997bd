"""What no hole needs isn't done: calls are counted, and results compared with those of everything."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.resnet import SpatioTemporalResBlock
from torch import Tensor, nn

from m2svid.attention import Disoccluded
from m2svid.convert.stereo import RightView
from m2svid.convert.stereo_options import StereoOptions
from m2svid.errors import UserError
from m2svid.inference.blending import around_holes, blend, join, keep_outside
from m2svid.inference.parts import cover
from m2svid.inference.refiner import Refiner
from m2svid.inference.tiles import Tile, plan_tiles
from m2svid.inference.windows import plan_windows
from m2svid.model.conditioning import Conditioning
from m2svid.model.m2svid import M2SVid
from m2svid.model.vae import SVDAutoencoder
from m2svid.training.backbone import SmallRandom
from m2svid.video.shots import Shot
from tests.model import tiny

H, W = 64, 512


def small(vae: SVDAutoencoder | None = None) -> M2SVid:
    torch.manual_seed(0)
    return SmallRandom((32,), autoencoder=vae).build(Conditioning(), Disoccluded()).eval()


@pytest.fixture(scope="module")
def model() -> M2SVid:
    """Its autoencoder moves patches of 8 × 8 pixels into channels, so what it decodes is local."""
    return small()


@pytest.fixture
def calls(model, monkeypatch) -> list[str]:
    made: list[str] = []
    for name in ("condition", "sample", "encode", "decode"):
        function = getattr(model, name)

        def watched(*args, name=name, function=function, **options):
            made.append(name)
            return function(*args, **options)

        monkeypatch.setattr(model, name, watched)
    return made


def clip(*holes: tuple[int, int], frames: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Views with holes of 12 × 12 px at some places."""
    left, warped = torch.randint(256, (2, frames, 3, H, W), generator=torch.Generator().manual_seed(1)).byte()
    hole = torch.zeros(frames, 1, H, W, dtype=torch.bool)
    for y, x in holes:
        hole[..., y : y + 12, x : x + 12] = True
    return left, warped, hole


def right_view(refiner: Refiner, views: tuple[Tensor, Tensor, Tensor], match: bool = False) -> Tensor:
    window = plan_windows([Shot(0, 0, len(views[0]))], refiner.window, 0)[0]
    return torch.from_numpy(RightView(refiner, "holes", match, 8.0, 8)(window, *views, None).copy())


def test_a_window_without_holes_needs_no_network(model, calls):
    left, warped, hole = clip()
    for area in ("needed", "whole"):
        made = right_view(Refiner(model, decode_area=area), (left, warped, hole))
        assert torch.equal(made, warped.permute(0, 2, 3, 1))
    assert calls == []


def test_tiles_without_holes_need_no_network(model, calls):
    """Three tiles of 256 px, 128 px apart. The hole's 10 px and the decoder's 144 around it begin at 334."""
    views = clip((20, 488))
    exact = right_view(Refiner(model, tile=256, decode_area="whole"), views)
    assert (calls.count("condition"), calls.count("sample"), calls.count("encode")) == (3, 3, 0)
    calls.clear()
    assert torch.equal(right_view(Refiner(model, tile=256), views), exact)
    assert (calls.count("condition"), calls.count("sample"), calls.count("encode")) == (2, 2, 1)
    calls.clear()
    right_view(Refiner(model, tile=256), views, match=True)  # colours are matched by the whole view
    assert (calls.count("condition"), calls.count("sample")) == (3, 3)


def test_decoded_tiles_without_holes_are_left_out(model, calls):
    views = clip((20, 380))
    exact = right_view(Refiner(model, decode_tile=128, decode_area="whole"), views)
    whole = calls.count("decode")
    calls.clear()
    assert torch.equal(right_view(Refiner(model, decode_tile=128), views), exact)
    # they begin at 0, 96, 192, 288, 384; the hole and 10 px around it go from 370 to 401
    assert (whole, calls.count("decode")) == (5, 2)


def test_frames_that_the_window_before_has_made_need_nothing(model, calls):
    """The second window's first frame is known; the only hole is in it."""
    left, warped, hole = clip((20, 100), frames=6)
    hole[1:] = False
    second = plan_windows([Shot(0, 0, 10)], 6, 2)[1]
    assert second.known == 1
    shared = torch.zeros(second.shared, H, W, 3, dtype=torch.uint8).numpy()
    RightView(Refiner(model, window=6), "holes", False, 8.0, 8)(second, left, warped, hole, shared)
    assert calls == []


def test_the_view_is_used_around_holes_and_nowhere_else():
    hole = clip((0, 0), (30, 200), (52, 500))[2]
    used = keep_outside(torch.ones(2, 3, H, W), torch.zeros(2, 3, H, W), hole) > 0
    assert torch.equal(used[:, :1], around_holes(hole))


def test_rectangles_cover_an_area_and_its_margin_with_the_least_to_decode():
    area = torch.zeros(64, 128, dtype=torch.bool)
    area[20, 20], area[22, 26], area[60, 120] = True, True, True
    assert sorted(cover(area, 3), key=lambda tile: tile.left) == [Tile(17, 17, 10, 14), Tile(57, 117, 7, 10)]
    assert cover(torch.ones_like(area), 3) == [Tile(0, 0, 64, 128)]
    scattered = torch.rand(64, 128, generator=torch.Generator().manual_seed(0)) > 0.998
    tiles = cover(scattered, 3)
    inside = torch.zeros_like(area)
    for tile in tiles:
        tile.crop(inside).fill_(True)
    near = nn.functional.max_pool2d(scattered[None].float(), 7, 1, 3)[0] > 0
    assert (inside | ~near).all()
    assert len(tiles) > 1 and sum(tile.height * tile.width for tile in tiles) < 0.9 * area.numel()


def test_rectangles_are_joined_softly():
    tiles = [Tile(0, 0, 8, 16), Tile(0, 8, 8, 24)]
    joined = join(tiles, iter([torch.zeros(8, 16), torch.ones(8, 24)]), 8, 64, margin=4)
    assert (joined[:, :8] == 0).all() and (joined[:, 16:32] == 1).all() and (joined[:, 32:] == 0).all()
    row = joined[0, 8:16]
    # weights of the left one 1, 1, 1, 1, 7/8, 5/8 ..., of the right one 1/8, 3/8 ... 1
    torch.testing.assert_close(row[:2], torch.tensor([1 / 9, 3 / 11]))
    assert (row.diff() > 0).all()


def test_tiles_that_are_left_out_change_no_others():
    tiles = plan_tiles(64, 160, (64, 64), 16)
    parts = [torch.full((64, 64), float(place)) for place in range(3)]
    some, whole = blend(tiles, iter([parts[0], None, None])), blend(tiles, iter(parts))
    assert torch.equal(some[:, :48], whole[:, :48]) and (some[:, 64:] == 0).all()


@pytest.fixture
def decoder() -> SVDAutoencoder:
    torch.manual_seed(0)
    kind = {"block_out_channels": (32, 32, 32), "down_block_types": ("DownEncoderBlock2D",) * 3}
    return SVDAutoencoder(tiny.AutoencoderKLTemporalDecoder(**kind), gradient_checkpointing=False)


def without_norms(vae: SVDAutoencoder) -> None:
    for module in vae.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, nn.Identity())


@torch.no_grad()
def test_a_part_is_that_of_the_frame_but_for_the_norms(decoder):
    """Within the reach, and not much less; attention is over the frame. By hand, for three levels: 1 px
    of the last convolution, 2 · 2 · 2 and 2 · 2 of two blocks' convolutions, 1 of an upsampling: 14 of 16."""
    without_norms(decoder)
    z = torch.randn(1, 2, 4, 40, 40, generator=torch.Generator().manual_seed(0))
    whole, margin = decoder.decode(z), decoder.reach
    assert margin == 4
    for less, same in ((0, True), (3, False)):
        start, stop = 20 - margin + less, 22 + margin - less
        part = next(decoder.decode_parts(z, [(slice(start, stop), slice(0, 40))]))
        inner = part[..., (20 - start) * 4 : (22 - start) * 4, :]
        error = (inner - whole[..., 80:88, :]).abs().max() / whole.std()
        assert (error < 1e-4) == same, error


@torch.no_grad()
@pytest.mark.parametrize("frames", [2, 3])
def test_norms_are_measured_on_the_frames_in_the_middle(decoder, frames):
    """Where these are all frames and alike, a part is that of the frame; the norms are there again."""
    z = torch.randn(1, 1, 4, 24, 24, generator=torch.Generator().manual_seed(0)).repeat(1, frames, 1, 1, 1)
    for module in decoder.modules():
        if isinstance(module, SpatioTemporalResBlock):
            module.time_mixer.mix_factor.fill_(-1e4)  # without blocks over time, which see the clip's ends
    before = decoder.decode(z)
    part = next(decoder.decode_parts(z, [(slice(0, 24), slice(0, 16))]))
    torch.testing.assert_close(part[..., :48], before[..., :48], rtol=1e-4, atol=1e-5)
    assert torch.equal(decoder.decode(z), before)


def test_only_what_surrounds_holes_is_decoded(decoder):
    """Without norms there is no difference, and the area is as planned."""
    without_norms(decoder)
    model, areas = small(decoder), []
    last = decoder.model.decoder.conv_out
    last.register_forward_hook(lambda module, inputs, output: areas.append(output[0, 0].numel()))
    hole = around_holes(clip((20, 30), (40, 450))[2][0, 0])
    z = torch.randn(1, 6, 4, H // 4, W // 4, generator=torch.Generator().manual_seed(0))
    refine = Refiner(model)._clip
    made, exact = refine.decode(z, hole), refine.decode(z)
    torch.testing.assert_close(made[..., hole], exact[..., hole], rtol=1e-4, atol=1e-5)
    measured, *parts, whole = areas
    assert measured == whole == H * W and len(parts) == 2 and sum(parts) < 0.4 * H * W


def test_what_needs_whole_frames_refuses_parts():
    for given in ({}, {"blend": "holes", "match_color": True}, {"blend": "holes", "compile": True}):
        with pytest.raises(UserError, match="--decode-area needed is for --blend holes without"):
            StereoOptions(decode_area="needed", **given)
