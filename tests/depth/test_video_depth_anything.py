"""Video Depth Anything as published: its names, its network and its windows over a long shot.

`fixtures/video_depth_anything.json.gz` has the names and shapes of the published modules' tensors: "small"
of the released Small model, "tiny" of the same classes with an encoder of 64 channels and 4 blocks on
pictures of 70 px, 8 to 64 channels of features and 32 of fused ones. `fixtures/video_depth_anything.npz` has
what the published code makes with the tiny one in float32, from the tensors of `make_tensor` below: `window`,
every 3rd pixel in each direction of its network's depth of noise; `shot`, every 7th pixel of its depth of the
60 frames of `frames`, with 70 px as its input size.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from m2svid.convert.verbs import convert
from m2svid.depth import video_depth_anything
from m2svid.depth.base import DepthRequest
from m2svid.depth.registry import open_depth
from m2svid.depth.shot import ShotDepth
from m2svid.depth.vda_network import load_network
from m2svid.depth.video_depth_anything import VideoDepthAnything, _seen
from m2svid.errors import UserError
from m2svid.video.shots import Shot
from m2svid.weights import fetch
from m2svid.weights.mismatch import MismatchError
from tests.convert.films import make_film, picture, read_rgb
from tests.parity.rebuild import rebuild_tensor

FIXTURES = Path(__file__).parent / "fixtures"
LAYOUTS = json.loads(gzip.decompress((FIXTURES / "video_depth_anything.json.gz").read_bytes()))
PUBLISHED = np.load(FIXTURES / "video_depth_anything.npz")


def sine_waves(channels):
    """Positions of 32 frames, written out: sines and cosines of falling frequencies in turn."""
    angles = np.arange(32)[:, None] / 10000 ** (np.arange(0, channels, 2) / channels)
    waves = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(1, 32, channels)
    return torch.from_numpy(waves.astype(np.float32))


def make_tensor(key, shape):
    if key.endswith(".pe"):
        return sine_waves(shape[-1])
    above_zero = 2 * (key == "head.scratch.output_conv2.2.bias")
    return rebuild_tensor(7, key.replace("gamma", "weight"), shape) + above_zero


@pytest.fixture(scope="module")
def weights():
    return {key: make_tensor(key, shape) for key, shape in LAYOUTS["tiny"].items()}


@pytest.fixture(scope="module")
def file(weights, tmp_path_factory):
    """As published: a .pth of a plain state dict."""
    path = tmp_path_factory.mktemp("published") / "video_depth_anything_vits.pth"
    torch.save(weights, path)
    return path


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    monkeypatch.setattr(video_depth_anything, "_SHORTER_SIDE", 70)


@pytest.fixture(scope="module")
def frames():
    return [picture(index, 98, 70) for index in range(60)]


@torch.no_grad()
def test_network_is_the_published_one(weights):
    noise = np.random.RandomState(1).standard_normal((1, 6, 3, 56, 84)).astype(np.float32)
    depth = load_network(Path("tiny"), weights)(torch.from_numpy(noise))[0].numpy()
    np.testing.assert_allclose(depth[:, ::3, ::3], PUBLISHED["window"], rtol=1e-5, atol=1e-5)


def test_windows_of_a_long_shot_are_the_published_ones(file, frames):
    depth = VideoDepthAnything(file)(frames, 0)
    np.testing.assert_allclose(depth[:, ::7, ::7], PUBLISHED["shot"], atol=3e-5)


def test_names_and_sizes_are_those_of_the_released_small_model():
    state = {key: torch.zeros(shape) for key, shape in LAYOUTS["small"].items()}
    network = load_network(Path("video_depth_anything_vits.pth"), state)
    assert network.still.config.neck_hidden_sizes == [48, 96, 192, 384]
    assert network.still.backbone.config.out_indices == [3, 6, 9, 12]
    ours = sum(parameter.numel() for parameter in network.parameters())
    assert ours == sum(state[key].numel() for key in state if not key.endswith(".pe"))


def test_a_killed_run_continues_to_the_same_depth(file, frames, tmp_path):
    def killed(start, stop):
        if start >= 44:
            raise KeyboardInterrupt
        return frames[start:stop]

    def prepared(read):
        shot = ShotDepth(VideoDepthAnything(file), Shot(0, 0, 60), read, tmp_path)
        shot.prepare(lambda _: None)
        return shot.get(0, 60, frames)

    with pytest.raises(KeyboardInterrupt):
        prepared(killed)
    assert len(list(tmp_path.glob("*.state.npz"))) == 1  # not one for each window
    again = prepared(lambda start, stop: frames[start:stop])[:, ::7, ::7]
    assert len(list(tmp_path.glob("*.state.npz"))) == 0
    slope, offset = np.polyfit(PUBLISHED["shot"].ravel(), again.ravel(), 1)  # of the normalisation
    np.testing.assert_allclose(again, slope * PUBLISHED["shot"] + offset, atol=1e-4)
    assert again.max() <= 1 and again.min() >= 0


@pytest.mark.parametrize(
    "size", [(1080, 1920), (2160, 3840), (480, 640), (858, 2048), (1920, 1080), (1000, 1000)]
)
def test_size_that_the_model_sees(size, monkeypatch):
    """518 on the shorter side, in patches of 14 px; less where the film is wider than 16:9."""
    monkeypatch.undo()
    h, w = _seen(*size)
    shorter, longer = min(h, w), max(h, w)
    assert h % 14 == w % 14 == 0 and abs(h / w / (size[0] / size[1]) - 1) < 0.03
    if max(size) / min(size) < 1.78:
        assert shorter == 518
    else:
        assert shorter < 518 and longer < 952  # about as many pixels as at 16:9


@pytest.mark.parametrize("kind", ["file", "folder", "safetensors", "hub"])
def test_is_named_by_file_folder_or_hub_id(file, weights, tmp_path, kind, monkeypatch):
    name, asked = str(file), []
    if kind == "folder":
        name = str(file.parent)
    elif kind == "safetensors":
        name = str(tmp_path / "weights.safetensors")
        save_file(weights, name)
    elif kind == "hub":
        name = "video-depth-anything"

        def download(repo, **patterns):
            asked.append((repo, patterns["allow_patterns"]))
            return str(file.parent)

        monkeypatch.setattr(fetch, "snapshot_download", download)
    depth = open_depth(DepthRequest(name, torch.device("cpu")))
    assert isinstance(depth, VideoDepthAnything) and depth.steady and depth.relative
    hub = ("depth-anything/Video-Depth-Anything-Small", ["*video_depth_anything*"])
    assert asked == [hub] * (kind == "hub")


def test_metric_weights_give_distances(weights, frames, tmp_path):
    path = tmp_path / "metric_video_depth_anything_vits.pth"
    torch.save(weights, path)
    metric = VideoDepthAnything(path)
    with torch.inference_mode():
        pictures = torch.from_numpy(np.stack([metric.prepare(frame) for frame in frames[:32]]))
        distance = load_network(path, weights)(pictures[None])[0].numpy()
    np.testing.assert_allclose(metric(frames[:32], 0), 1 / distance.clip(min=1e-3), rtol=1e-4)


def test_converts_a_film_with_a_cut(file, tmp_path):
    film = make_film(tmp_path / "film.mp4", 9, size=(98, 70), cuts=(5,))
    convert(str(film), tmp_path / "out.mp4", depth=str(file), refine="none", progress="quiet")
    assert read_rgb(tmp_path / "out.mp4").shape == (9, 70, 196, 3)


def test_wrong_files_are_named(weights, file, tmp_path):
    def opened(name, tensors):
        torch.save(tensors, tmp_path / name)
        return VideoDepthAnything(tmp_path / name)

    with pytest.raises(
        UserError, match=r"other\.pth holds no Video Depth Anything: it has no 'pretrained.pos"
    ):
        opened("other.pth", {"weight": torch.zeros(2)})
    with pytest.raises(MismatchError, match=r"2 missing: motion\.0\.norm\.weight, motion\.0\.norm\.bias"):
        norm = "head.motion_modules.0.temporal_transformer.norm."
        opened("lacks.pth", {key: tensor for key, tensor in weights.items() if not key.startswith(norm)})
    with pytest.raises(UserError, match="no finite numbers"):
        opened("diverged.pth", {key: tensor * torch.nan for key, tensor in weights.items()})
    (tmp_path / "two").mkdir()
    for size in "sb":
        (tmp_path / "two" / f"video_depth_anything_vit{size}.pth").write_bytes(b"")
    with pytest.raises(UserError, match=r"must hold one file .* not .*vitb\.pth, .*vits\.pth: name the file"):
        VideoDepthAnything(tmp_path / "two")
    with pytest.raises(UserError, match=r"cut\.pth is truncated"):
        (tmp_path / "cut.pth").write_bytes(file.read_bytes()[:5000])
        VideoDepthAnything(tmp_path / "cut.pth")
