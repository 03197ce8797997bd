"""BiDAStereo's network against what the published code gives for the same random weights and clip."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from data_prep.steps.bidastereo import BiDAStereo, own_name
from data_prep.steps.bidastereo_network import BiDAStereoNetwork
from data_prep.steps.matchers import open_matcher
from data_prep.steps.raft import load_weights
from m2svid.errors import UserError
from m2svid.warping.matching import DisparityRange

FIXTURES = Path(__file__).parents[1] / "fixtures"


def random_weights():
    """Names and shapes of the published file, random numbers."""
    rng = np.random.default_rng(0)
    tensors = {}
    for name, shape in sorted(json.loads((FIXTURES / "bidastereo_layout.json").read_text()).items()):
        values = rng.standard_normal(shape)
        if name.endswith("num_batches_tracked"):
            values = np.zeros(shape, np.int64)
        elif name.endswith("running_var"):
            values = 0.5 + np.abs(values)
        elif len(shape) > 1:
            values = values / math.sqrt(math.prod(shape[1:]))
        else:
            values = 0.1 * values
        tensors[name] = torch.from_numpy(np.asarray(values))
        if tensors[name].is_floating_point():
            tensors[name] = tensors[name].float()
    # One layer of the published code is stored under two names.
    for name in tensors:
        if ".downsample.1." in name:
            tensors[name] = tensors[name.replace(".downsample.1.", ".norm3.")]
    return tensors


def clip(frames=3):
    """Left and right views (T, 3, 128, 160) in 0..255, smooth."""
    coarse = torch.from_numpy(np.random.default_rng(1).uniform(0, 255, (2 * frames, 3, 16, 20))).float()
    return F.interpolate(coarse, (128, 160), mode="bilinear").unflatten(0, (2, frames))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """As published: under `module.` names."""
    path = tmp_path_factory.mktemp("bidastereo") / "bidastereo_robust.pth"
    torch.save({"model": {f"module.{name}": value for name, value in random_weights().items()}}, path)
    return path


def test_the_network_gives_what_the_published_code_gives():
    network = BiDAStereoNetwork().eval()
    load_weights(network, {own_name(name): value for name, value in random_weights().items()}, Path("random"))
    left, right = clip()
    with torch.inference_mode():
        disparity = network(left / 127.5 - 1, right / 127.5 - 1, rounds=4)
    expected = np.load(FIXTURES / "bidastereo_disparity.npy")
    assert np.abs(expected).mean() > 0.5
    np.testing.assert_allclose(disparity[:, ::8, ::8], expected, atol=2e-3 * np.abs(expected).max())


def test_a_clip_of_any_size_and_length_is_matched(file, monkeypatch):
    """Odd sizes are padded and cut back, one frame is doubled, both views are compared."""
    matcher = open_matcher("bidastereo", file, "cpu")
    monkeypatch.setattr(BiDAStereoNetwork.forward, "__defaults__", (2,))  # fewer rounds
    pairs = [tuple(np.full((70, 90, 3), 40 * index, np.uint8) for _ in "lr") for index in range(2)]
    for count in (1, 2):
        found = matcher(pairs[:count], DisparityRange(0, 16))
        assert found.disparity.shape == found.confidence.shape == (count, 70, 90)
        assert np.isfinite(found.disparity).all() and found.vertical is None
        assert found.confidence.min() >= 0 and found.confidence.max() <= 1


def test_missing_and_wrong_weights_are_named(tmp_path, file):
    with pytest.raises(UserError, match=r"needs --matcher_weights"):
        BiDAStereo(None, torch.device("cpu"))
    with pytest.raises(UserError, match=r"none\.pth does not exist"):
        BiDAStereo(tmp_path / "none.pth", torch.device("cpu"))
    path = tmp_path / "other.pth"
    weights = random_weights()
    weights.pop("fnet.conv1.weight")
    torch.save(weights, path)
    with pytest.raises(
        UserError, match=r"other\.pth lacks fnet\.conv1\.weight: it belongs to another network"
    ):
        BiDAStereo(path, torch.device("cpu"))
    path.write_bytes(b"junk")
    with pytest.raises(UserError, match=r"other\.pth is not a file of PyTorch weights"):
        BiDAStereo(path, torch.device("cpu"))
