"""A small random DepthCrafter, saved and loaded as the published one."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel

from m2svid.convert.convert import convert, open_depth
from m2svid.convert.disparity import ShotDepth
from m2svid.convert.footprint import measure
from m2svid.convert.memory import Fit
from m2svid.convert.options import Options
from m2svid.convert.read import Video
from m2svid.convert.refine_model import ModelRefiner
from m2svid.convert.resume import WorkFolder
from m2svid.convert.shots import Shot
from m2svid.depth.depthcrafter import DepthCrafter, cross_fade
from m2svid.errors import UserError
from tests.convert.films import make_film, picture, read_rgb
from tests.model import tiny


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """(U-Net as DepthCrafter publishes it, Stable Video Diffusion)"""
    torch.manual_seed(0)
    crafter, svd = tmp_path_factory.mktemp("depthcrafter"), tmp_path_factory.mktemp("svd")
    unet = UNetSpatioTemporalConditionModel(in_channels=8, **tiny.UNET)
    unet.save_pretrained(crafter)
    config = json.loads((crafter / "config.json").read_text())
    config["_class_name"] = "DiffusersUNetSpatioTemporalConditionModelDepthCrafter"
    (crafter / "config.json").write_text(json.dumps(config))
    unet.save_pretrained(svd / "unet")
    tiny.vae().save_pretrained(svd / "vae")
    tiny.clip().save_pretrained(svd / "image_encoder")
    (svd / "model_index.json").write_text("{}")
    return crafter, svd


@pytest.fixture(scope="module")
def frames():
    return [picture(index, 32, 24) for index in range(12)]


def test_one_window_is_the_model_itself(folders, frames):
    depth = DepthCrafter(*folders)
    assert (depth.chunk, depth.overlap, depth.steady) == (85, 25, True)
    ours = depth(frames[:5], 0)
    model, usage = depth._model, depth._model.usage
    video = torch.from_numpy(np.stack(frames[:5])).permute(0, 3, 1, 2).float() / 255
    noise = torch.Generator().manual_seed(0)
    pixels = torch.randn(1, 5, 3, 24, 32, generator=noise)
    channels = model.vae.encode(video[None] * 2 - 1 + 0.02 * pixels)
    context = model.image_encoder(video[None])
    z = torch.randn(1, 5, 4, 12, 16, generator=noise) * (700.0**2 + 1) ** 0.5
    ids = torch.tensor([[7.0, 127.0, 0.02]])
    unet = model.unet
    sigmas = usage.sampler.sigmas()
    for sigma, following in pairwise(sigmas):
        x = torch.cat([z / (sigma**2 + 1).sqrt(), channels], 2)
        with torch.no_grad():
            out = unet(x, (sigma.log() / 4)[None], context, ids, None, model.attention)
        clean = z / (sigma**2 + 1) - sigma / (sigma**2 + 1).sqrt() * out
        z = clean + (z - clean) * following / sigma
    decoded = (model.vae.decode(z / 0.18215)[0].mean(1) / 2 + 0.5).clamp(0, 1)
    np.testing.assert_allclose(ours, decoded, atol=2e-3)


def test_long_shots_are_cross_faded_and_resumed(folders, frames, tmp_path):
    def make():
        return DepthCrafter(*folders, window=6, overlap=2)

    def read(start, stop):
        return frames[start:stop]

    windows = [make()._latents(frames[start : start + 6]) for start in (0, 4)]
    z = torch.cat([windows[0][:, :4], cross_fade(windows[0][:, 4:], windows[1])], 1)
    expected = np.concatenate([make()._decode(z[:, :4]), make()._decode(z[:, 4:])])
    low, high = expected.min(), expected.max()

    with WorkFolder(tmp_path / "out", {}) as work:
        shot = ShotDepth(make(), Shot(0, 0, 10), read, work)
        shot.prepare()
        whole = shot.get(0, 10, frames[:10])
        np.testing.assert_allclose(whole, (expected - low) / (high - low), atol=1e-4)
        assert len(list((work.path / "depth").iterdir())) == 2
        shot._piece(4).unlink()  # as if the run had died before the second window
        again = ShotDepth(make(), Shot(0, 0, 10), read, work)
        again.prepare()
        np.testing.assert_array_equal(again.get(3, 8, frames[3:8]), whole[3:8])


def test_cross_fade_by_hand():
    faded = cross_fade(torch.zeros(1, 3, 1, 1, 1), torch.ones(1, 5, 1, 1, 1))
    torch.testing.assert_close(faded[0, :, 0, 0, 0], torch.tensor([0, 0.5, 1, 1, 1]))


def test_large_frames_are_shrunk_to_the_longest_side(folders):
    depth = DepthCrafter(*folders)
    assert depth._resized(np.zeros((1080, 1920, 3), np.uint8)).shape == (3, 576, 1024)
    assert depth._resized(np.zeros((100, 51, 3), np.uint8)).shape == (3, 100, 52)  # multiples of 4


def test_converts_a_film_with_a_cut(folders, tmp_path):
    film = make_film(tmp_path / "film.mp4", 9, size=(32, 24), cuts=(5,))
    options = {"depth": str(folders[0]), "depth_backbone": str(folders[1]), "refine": "none"}
    convert(str(film), tmp_path / "out.mp4", progress="quiet", **options)
    assert read_rgb(tmp_path / "out.mp4").shape == (9, 24, 64, 3)


def test_wrong_models_are_named(folders, tmp_path):
    video = Video(make_film(tmp_path / "film.mp4", 1))
    with pytest.raises(UserError, match="backbone"):
        open_depth(Options(refine="none", depth=str(folders[0])), torch.device("cpu"), video)


def test_window_fits_the_memory_and_is_kept(folders, tmp_path, capsys, monkeypatch):
    kept = []
    monkeypatch.setattr(
        WorkFolder, "remove", lambda self: kept.append(json.loads((self.path / "settings.json").read_text()))
    )
    film = make_film(tmp_path / "film.mp4", 20, size=(32, 24))
    options = {"depth": str(folders[0]), "depth_backbone": str(folders[1]), "refine": "none"}
    need = Fit(16, 0, 8).bytes_needed(measure(DepthCrafter(*folders)._model), 24, 32)
    convert(str(film), tmp_path / "out.mp4", progress="json", vram=f"{need / 1e6:.6f}M", **options)
    assert "windows of 16 frames sharing 3, 8 frames decoded at a time" in capsys.readouterr().err
    assert [kept[0][f"depth_{name}"] for name in ("window", "overlap", "decode_chunk")] == [16, 3, 8]
    with pytest.raises(UserError, match=r"--depth .*: --vram 0\.1G is too little for frames of 32×24"):
        convert(str(film), tmp_path / "two.mp4", vram="0.1G", **options)


def test_the_device_is_left_to_others_between_calls(folders):
    depth = DepthCrafter(*folders, device="meta", budget=10**10, size=(24, 32))
    assert depth.alone and not any(parameter.is_meta for parameter in depth._model.parameters())
    refiner = ModelRefiner(depth._model, torch.device("meta"), guest=True)
    assert not any(parameter.is_meta for parameter in refiner._model.parameters())


def test_networks_that_take_turns_give_the_same_depth(folders, frames):
    depth, other = (DepthCrafter(*folders, window=6, overlap=2) for _ in range(2))
    other._whole = ()
    np.testing.assert_array_equal(other(frames[:4], 0, frames[4:6]), depth(frames[:4], 0, frames[4:6]))
