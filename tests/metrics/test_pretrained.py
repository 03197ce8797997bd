"""FVD and CLIP consistency with small random networks in the published files' formats."""

import hashlib

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.linalg import sqrtm
from torch import nn
from torch.nn import functional as F
from torchmetrics.image.fid import _compute_fid
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from m2svid.errors import UserError
from m2svid.metrics.pretrained import ClipConsistency, VideoFeatures, frechet_distance
from m2svid.metrics.stereo import StereoMetrics


class Detector(nn.Module):
    """Called as StyleGAN-V's I3D is; its features are means over thirds of time."""

    def forward(
        self, x: torch.Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False
    ) -> torch.Tensor:
        assert not rescale and not resize and return_features
        assert x.shape[1] == 3 and x.shape[3] == 224 and x.shape[4] == 224
        return F.adaptive_avg_pool3d(x, [3, 1, 1]).flatten(1)


@pytest.fixture(scope="module")
def i3d(tmp_path_factory):
    path = tmp_path_factory.mktemp("fvd") / "i3d_torchscript.pt"
    torch.jit.script(Detector()).save(str(path))
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("clip")
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, projection_dim=8, num_hidden_layers=1, num_attention_heads=2,
        image_size=32, patch_size=8,
    )  # fmt: skip
    CLIPVisionModelWithProjection(config).save_pretrained(path)
    return path


def video(seed, frames=12, height=24, width=40):
    return torch.rand(frames, 3, height, width, generator=torch.Generator().manual_seed(seed))


def update(metrics, seeds, prediction=lambda true: 0.5 * true):
    for seed in seeds:
        truth = video(seed)[None]
        hole = torch.zeros(1, len(truth[0]), 1, *truth.shape[-2:], dtype=torch.bool)
        metrics.update(prediction(truth), truth, hole, [f"clip {seed}"])


def test_frechet_distance_equals_scipy_and_torchmetrics():
    generator = np.random.default_rng(0)
    a, b = (generator.normal(size=(60, 7)) @ generator.normal(size=(7, 7)) + i for i in range(2))
    root = sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    ours = frechet_distance(torch.tensor(a), torch.tensor(b))
    assert ours == pytest.approx(expected, rel=1e-6)
    moments = [torch.tensor(x) for x in (a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T))]
    assert ours == pytest.approx(_compute_fid(*moments).item(), rel=1e-6)
    # fewer rows than features: nothing becomes NaN
    assert frechet_distance(torch.tensor(a[:4]), torch.tensor(b[:4])) > 0
    assert frechet_distance(torch.tensor(a), torch.tensor(a)) == pytest.approx(0, abs=1e-6)


def test_fvd_of_all_videos_together(i3d):
    metrics = StereoMetrics(["fvd"], weights={"fvd": i3d})
    update(metrics, range(5))
    features = []
    for factor in (0.5, 1):
        squares = [
            F.interpolate(factor * video(i), (224, 374), mode="bilinear")[..., 75:299] for i in range(5)
        ]
        thirds = [torch.stack([x.mean((0, 2, 3)) for x in (2 * square - 1).split(4)]) for square in squares]
        features.append(torch.stack([x.T.flatten() for x in thirds]))
    assert metrics.compute()["fvd"] == pytest.approx(frechet_distance(*features), rel=1e-4)
    assert "fvd" not in metrics.per_video()[0]
    assert metrics.checksums == {"fvd": hashlib.sha256(i3d.read_bytes()).hexdigest()}


def test_fvd_needs_ten_frames_and_two_videos(i3d):
    with pytest.raises(UserError, match="at least 10 frames, not 9"):
        VideoFeatures(i3d)(video(0, frames=9))
    metrics = StereoMetrics(["fvd"], weights={"fvd": i3d})
    update(metrics, [0])
    assert np.isnan(metrics.compute()["fvd"])


def test_clip_consistency_equals_the_networks_own_embeddings(clip):
    frames = video(3, frames=4, height=32, width=32)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    network = CLIPVisionModelWithProjection.from_pretrained(clip)
    with torch.no_grad():
        embeds = F.normalize(network((frames - mean) / std).image_embeds, dim=-1)
    expected = (embeds[1:] * embeds[:-1]).sum(-1).mean().item()
    consistency = ClipConsistency(clip)
    assert consistency(frames) == pytest.approx(expected, abs=1e-5)
    assert consistency(frames[:1].expand(5, -1, -1, -1)) == pytest.approx(1, abs=1e-6)
    assert consistency(frames[:1]) is None
    assert consistency.checksum == hashlib.sha256((clip / "model.safetensors").read_bytes()).hexdigest()


def test_clip_consistency_beside_the_truths(clip):
    metrics = StereoMetrics(["clip_consistency"], weights={"clip_consistency": clip})
    update(metrics, [0, 1], prediction=lambda true: true[:, :1].expand_as(true))
    values = metrics.compute()
    assert values["clip_consistency"] == pytest.approx(1, abs=1e-6)
    assert values["clip_consistency_truth"] < 0.9999
    update(metrics, [2], prediction=lambda true: true.clone().fill_(np.nan))
    assert np.isnan(metrics.compute()["clip_consistency"])


def test_mistakes_are_refused(i3d, clip, tmp_path):
    with pytest.raises(UserError, match="fvd needs its network: give the file in metric_weights"):
        StereoMetrics(["fvd"])
    with pytest.raises(UserError, match=r"there is no file .*missing\.pt for fvd"):
        StereoMetrics(["fvd"], weights={"fvd": tmp_path / "missing.pt"})
    (tmp_path / "noise.pt").write_bytes(b"noise")
    with pytest.raises(UserError, match=r"noise\.pt is not TorchScript"):
        StereoMetrics(["fvd"], weights={"fvd": str(tmp_path / "noise.pt")})
    with pytest.raises(UserError, match=r"config\.json and one safetensors file"):
        StereoMetrics(["clip_consistency"], weights={"clip_consistency": i3d})
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text((clip / "config.json").read_text())
    save_file({"x": torch.zeros(1)}, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="no CLIP vision model with projection, it lacks"):
        ClipConsistency(other)
