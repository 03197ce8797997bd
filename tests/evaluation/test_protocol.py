"""The switches of a protocol: predicted disparity, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from m2svid.depth.base import DepthEstimator
from m2svid.errors import UserError
from m2svid.evaluation.protocol import Protocol, fit_scale_and_shift
from m2svid.warping.view import warp_view
from tests.evaluation.methods.clips import make_clip


class Known(DepthEstimator):
    """A depth that is an affine function of the true disparity, and so fits it exactly."""

    relative = True
    name = "known"

    def __init__(self, disparity):
        self.disparity = disparity
        self.frames = []

    def __call__(self, frames, first):
        self.frames.extend(frames)
        return (0.02 * self.disparity[:, 0] + 3).numpy().astype(np.float32)

    @classmethod
    def accepts(cls, name):
        return False

    @classmethod
    def open(cls, request):
        raise NotImplementedError

    def describe(self):
        return self.name


def test_scale_and_shift_are_numpys_least_squares():
    random = torch.Generator().manual_seed(0)
    depth, disparity = torch.rand(2, 3, 1, 6, 8, generator=random)
    fitted = fit_scale_and_shift(depth, disparity)
    table = np.stack([depth.flatten().numpy(), np.ones(depth.numel())], axis=1)
    (a, b), *_ = np.linalg.lstsq(table, disparity.flatten().numpy(), rcond=None)
    torch.testing.assert_close(fitted, (a * depth + b).float(), atol=1e-6, rtol=0)


def test_smaller_maps_are_resized_and_flat_ones_are_the_mean():
    disparity = torch.linspace(0, 8, 64).view(1, 1, 8, 8)
    small = torch.nn.functional.interpolate(disparity, (4, 4), mode="bilinear")
    assert (fit_scale_and_shift(small, disparity) - disparity).abs().max() < 3
    assert torch.equal(fit_scale_and_shift(torch.ones(1, 1, 8, 8), disparity), torch.full_like(disparity, 4))


def test_a_predicted_disparity_replaces_the_shards_for_all_methods():
    clips = [replace(make_clip(seed=seed), keys=(f"made/{seed}",)) for seed in range(2)]
    true = clips[0].originals[0].disparity
    other = true.flip(-1) * 0.5
    depth = Known(other)
    applied = Protocol(disparity="predicted", depth=depth).apply(clips[0])
    fitted = fit_scale_and_shift(other, true)
    torch.testing.assert_close(applied.originals[0].disparity, fitted, atol=1e-4, rtol=0)
    warped, hole = warp_view(clips[0].originals[0].left, applied.originals[0].disparity.clamp(min=0))
    assert torch.equal(applied.warped[0], warped.float() / 255)
    assert torch.equal(applied.hole[0], hole)
    assert not torch.equal(applied.hole, clips[0].hole)
    assert depth.frames[0].shape == (64, 64, 3) and depth.frames[0].dtype == np.uint8
    assert torch.equal(torch.from_numpy(depth.frames[2]).permute(2, 0, 1), clips[0].originals[0].left[2])


def test_an_exact_prediction_changes_nothing():
    clip = make_clip()
    applied = Protocol(disparity="predicted", depth=Known(clip.originals[0].disparity)).apply(clip)
    assert (applied.warped - clip.warped).abs().max() <= 2 / 255
    assert torch.equal(applied.left, clip.left)


def test_the_default_is_the_papers_and_leaves_the_batch_alone():
    clip = make_clip()
    assert Protocol().name == "paper"
    assert Protocol().apply(clip) is clip


def test_results_name_their_protocol():
    protocol = Protocol("predicted", Known(torch.zeros(1)), "m2svid", "own")
    assert protocol.name == "predicted_disparity+m2svid_warp+own_mask"
    assert protocol.describe()["depth"] == "known"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"disparity": "depth"}, "protocol.disparity must be one of both_views, predicted, not 'depth'"),
        ({"warp": "shared"}, "protocol.warp must be one of own, m2svid, not 'shared'"),
        ({"mask": "none"}, "protocol.mask must be one of own, m2svid"),
        ({"disparity": "predicted"}, "predicted needs model.protocol.depth"),
        ({"depth": Known(torch.zeros(1))}, "nothing else does"),
    ],
)
def test_mistakes_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        Protocol(**options)


def test_a_clip_without_disparity_cant_be_fitted():
    protocol = Protocol(disparity="predicted", depth=Known(torch.zeros(1)))
    with pytest.raises(UserError, match=r"made/a has no disparity.*nothing to be fitted to"):
        protocol.apply(replace(make_clip(), originals=(None,)))
