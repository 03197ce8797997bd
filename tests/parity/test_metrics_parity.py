"""PSNR and MS-SSIM equal the published code's, over the full view and by the painted-white protocol.

The fixture's two videos are stored losslessly (H.264 RGB, qp 0); the values belong to the exact pixels.
"""

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from m2svid.metrics.stereo import StereoMetrics

FIXTURES = Path(__file__).parent / "fixtures"


def read(name):
    with av.open(str(FIXTURES / name)) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    return torch.from_numpy(frames).movedim(-1, 1)[None] / 255


@pytest.fixture(scope="module")
def ours():
    with np.load(FIXTURES / "metrics.npz") as fixture:
        hole = torch.from_numpy(fixture["hole"])[None, :, None]
    metrics = StereoMetrics(["psnr", "ms_ssim"])
    metrics.update(read("metrics_prediction.mkv"), read("metrics_reference.mkv"), hole, ["fixture"])
    return metrics.compute()


@pytest.mark.parametrize("region", ["full", "inside", "outside"])
@pytest.mark.parametrize("metric", ["psnr", "ms_ssim"])
def test_equals_published(ours, metric, region):
    published = json.loads((FIXTURES / "metrics.json").read_text())[region][metric]
    name = metric if region == "full" else f"{metric}_{region}"
    assert ours[name] == pytest.approx(published, abs=1e-5)
