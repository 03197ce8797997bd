"""Disparity estimators: left-right check, windows, RAFT's both directions, and the driver's use of them."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torchvision.models.optical_flow import raft_large

from data_prep.dataset import Rejected, Views
from data_prep.steps.matchers import open_matcher
from data_prep.steps.raft import Raft
from data_prep.steps.stereo_matcher import Matched, in_windows, left_right_confidence
from data_prep.steps.views import match_views
from m2svid.errors import UserError
from m2svid.warping.matching import DisparityRange
from tests.data_prep.scenes import BOX, HEIGHT, WIDTH, pair


def test_confidence_by_hand():
    """One row; a step of 2 px in the left view's disparity, which the right view knows at another place."""
    from_left = np.array([[[1, 1, 1, 3, 3, 3, 1.5]]], np.float32)
    from_right = np.array([[[3, 3, 3, 1, 1, 2, 1]]], np.float32)
    # x - d: -1 (outside), 0, 1, 0, 1, 2, 4.5; the right view says: -, 3, 3, 3, 3, 3, 1.5 (between 1 and 2)
    expected = [0, 1 / 5, 1 / 5, 1, 1, 1, 1]
    np.testing.assert_allclose(left_right_confidence(from_left, from_right)[0, 0], expected, atol=1e-6)


def test_confidence_of_exactly_one_pixel_is_just_consistent():
    ones = np.ones((1, 1, 4), np.float32)
    confidence = left_right_confidence(ones, 2 * ones)
    assert Matched(ones, confidence).consistent.tolist() == [[[False, True, True, True]]]


def test_signs_are_kept():
    negative = np.full((1, 2, 9), -3, np.float32)
    confidence = left_right_confidence(negative, negative)
    assert (confidence[..., :6] == 1).all() and not confidence[..., 6:].any()


@pytest.mark.parametrize("count", [1, 7, 8, 9, 12, 13, 30])
def test_windows_fade_into_each_other(count):
    """Each window is off by 10 from the one before; where one fade ends and the next begins, two steps
    meet."""
    seen = []

    def run(begin, end):
        seen.append((begin, end))
        return np.full((end - begin, 2), 10.0 * len(seen), np.float32)

    joined = in_windows(run, count, 8, 4)
    assert joined.shape == (count, 2)
    assert all(end - begin == min(8, count) for begin, end in seen)
    assert np.abs(np.diff(joined[:, 0])).max(initial=0) <= 2 * 10 / 5 + 1e-4
    exact = in_windows(lambda begin, end: np.arange(begin, end, dtype=np.float32), count, 8, 4)
    np.testing.assert_allclose(exact, np.arange(count), atol=1e-5)


def test_sgbm_finds_both_surfaces():
    left, right, truth = pair()
    found = open_matcher("sgbm", None, "cpu")([(left, right)], DisparityRange(0, 20))
    assert found.disparity.shape == (1, HEIGHT, WIDTH) and found.vertical is None
    assert np.median(found.disparity[0][BOX]) == pytest.approx(14, abs=0.5)
    wrong = np.abs(found.disparity[0] - truth)[found.consistent[0]] > 2
    assert wrong.mean() < 0.03 and set(np.unique(found.confidence)) == {0, 1}


class TrueFlow(torch.nn.Module):
    """A network that knows the disparity, and is `down` px wrong about rows; it tells the views apart by
    their mean."""

    def __init__(self, down=0.0):
        super().__init__()
        self.down = down

    def forward(self, first, second, num_flow_updates):
        assert first.shape[-1] % 8 == first.shape[-2] % 8 == 0 and min(first.shape[-2:]) >= 128
        sign = 1.0 if first.mean() > second.mean() else -1.0  # the right view is brighter here
        flow = torch.zeros(1, 2, *first.shape[-2:])
        flow[:, 0], flow[:, 1] = sign * 5, self.down
        return [flow]


@pytest.fixture
def raft(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "raft.pth"
    torch.save(raft_large(weights=None).state_dict(), path)
    return open_matcher("raft", path, "cpu")


def views(down=0):
    left = np.full((70, 91, 3), 50, np.uint8)
    return [(left, left + 50)] * 2


def test_raft_looks_both_ways_and_checks_rows(raft):
    assert isinstance(raft, Raft)
    raft._network = TrueFlow(down=1.5)
    found = raft(views(), DisparityRange(0, 9))
    assert found.disparity.shape == (2, 70, 91) and (found.disparity == 5).all()
    assert found.consistent[..., 5:].all() and not found.consistent[..., :4].any()
    assert found.vertical == pytest.approx(1.5)


def test_random_raft_runs(raft):
    found = raft(views()[:1], DisparityRange(0, 9))
    assert found.disparity.shape == (1, 70, 91) and np.isfinite(found.disparity).all()


def clip(pairs):
    return Views("a-0000", pairs, Fraction(10), DisparityRange(0, 16))


def test_clips_off_their_rows_are_rejected(raft):
    raft._network = TrueFlow(down=3)
    with pytest.raises(Rejected, match=r"vertical offset: not row-aligned: .* 3\.0 px off its row, 2 px"):
        match_views(clip(views()), raft)
    raft._network = TrueFlow(down=1)
    made = match_views(clip([tuple(view[:, :90] for view in pair) for pair in views()]), raft)
    assert made.notes["matched_vertical_px"] == 1 and made.notes["confidence"] > 0.9
    assert (made.disparity[..., 5:] == 5).all()


def test_wrong_calls_are_named(tmp_path):
    with pytest.raises(UserError, match="sgbm has no weights"):
        open_matcher("sgbm", tmp_path / "a.pth", "cpu")
    with pytest.raises(UserError, match=r"must be sgbm, raft or bidastereo, not 'crestereo'"):
        open_matcher("crestereo", None, "cpu")
    path = tmp_path / "a.pth"
    torch.save({"conv.weight": torch.zeros(1)}, path)
    with pytest.raises(
        UserError, match=r"a\.pth lacks context_encoder.*others: it belongs to another network"
    ):
        open_matcher("raft", path, "cpu")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="--device cuda can't be used"):
            open_matcher("raft", path, "cuda")
