"""Point matchers: SIFT against true points, networks at random small size in the published formats."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from transformers import EfficientLoFTRConfig, EfficientLoFTRForKeypointMatching

from data_prep.steps.points import LOFTR_FILES, EfficientLoFTR, LoFTR, Matches, Sift, open_matchers
from m2svid.errors import UserError
from tests.data_prep.scenes import BOX, pair, texture

SCENES = Path(__file__).parents[3].parent / "shared" / "data"


def test_sift_finds_the_disparities_of_both_surfaces():
    left, right, disparity = pair(far=4, near=14)
    found = Sift()((left, right))
    x, y = found.left.round().astype(int).T
    good = np.abs(found.disparity - disparity[y, x]) < 0.5
    assert len(found) > 100 and good.mean() > 0.9
    in_box = (BOX[0].start < y) & (y < BOX[0].stop) & (BOX[1].start < x) & (x < BOX[1].stop)
    assert np.median(found.disparity[in_box]) == pytest.approx(14, abs=0.1)
    assert np.median(np.abs(found.vertical)) < 0.1


def test_vertical_is_positive_where_the_right_view_is_lower():
    left, right, _ = pair(offset=3)
    assert np.median(Sift()((left, right)).vertical) == pytest.approx(3, abs=0.1)


def test_blank_views_have_no_matches():
    blank = np.full((64, 64, 3), 128, np.uint8)
    assert len(Sift()((blank, blank))) == 0


def test_matches_are_chosen_and_joined():
    matches = Matches.of([[1, 2], [3, 4]], [[0, 2], [5, 5]])
    assert matches.disparity.tolist() == [1, -2] and matches.vertical.tolist() == [0, 1]
    joined = Matches.join([matches, matches[np.array([False, True])]])
    assert joined.left.tolist() == [[1, 2], [3, 4], [3, 4]] and len(joined) == 3


@pytest.fixture(scope="module")
def efficient(tmp_path_factory):
    """A small random Efficient LoFTR that takes every mutual best match, however unsure."""
    torch.manual_seed(0)
    config = EfficientLoFTRConfig(
        stage_num_blocks=[1, 1, 1, 1],
        out_features=[16, 16, 32, 64],
        hidden_size=64,
        num_attention_layers=1,
        num_attention_heads=8,
        coarse_matching_threshold=0.0,
        fine_matching_slice_dim=4,
    )
    folder = tmp_path_factory.mktemp("efficientloftr")
    EfficientLoFTRForKeypointMatching(config).eval().save_pretrained(folder)
    return folder


class BlockFeatures(torch.nn.Module):
    """A backbone whose coarse features are the picture's own 8 × 8 blocks, which random weights can't
    offer."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, pixels):
        blocks = torch.nn.functional.unfold(pixels[0, :, :1], 8, stride=8)
        blocks = torch.nn.functional.normalize(blocks - blocks.mean(1, keepdim=True), dim=1) * 8
        size = [length // 8 for length in pixels.shape[-2:]]
        return SimpleNamespace(
            feature_maps=[blocks.view(1, 2, 64, *size), *self.network(pixels).feature_maps[1:]]
        )


@pytest.mark.parametrize("shift", [0, 16, 64])
def test_efficient_loftr_pairs_the_right_cells(efficient, shift):
    """The library's own pairing is wrong for four fifths of the points at 64 px."""
    (matcher,) = open_matchers(f"efficientloftr:{efficient}")
    assert isinstance(matcher, EfficientLoFTR) and str(efficient) in matcher.name
    matcher._network.efficientloftr = BlockFeatures(matcher._network.efficientloftr)
    wide = texture(192, 320, 0)
    found = matcher((wide[:, :256], wide[:, shift : shift + 256]))
    assert len(found) > 400
    right = np.abs(found.disparity - shift) < 4
    assert right.mean() > 0.9 and np.abs(found.vertical[right]).max() < 4


def test_efficient_loftr_keeps_fractions_of_pixels(efficient):
    """Views of 400 x 300 are seen at another size; points come back in the views' own pixels, not rounded."""
    matcher = EfficientLoFTR(str(efficient))
    matcher._network.efficientloftr = BlockFeatures(matcher._network.efficientloftr)
    view = texture(300, 400, 0)
    found = matcher((view, view))
    assert (
        (found.left >= 0).all() and (found.left < [400, 300]).all() and (found.left.max(0) > [360, 260]).all()
    )
    np.testing.assert_allclose(found.left, found.right, atol=4)
    assert (found.left % 1).std() > 0.1


def test_loftr_is_opened_twice_and_reads_its_files(tmp_path):
    kornia = pytest.importorskip("kornia.feature", reason="needs the extra: pip install 'm2svid[loftr]'")
    torch.manual_seed(0)
    for file in LOFTR_FILES.values():
        network = kornia.LoFTR(pretrained=None)
        torch.save({"state_dict": network.state_dict()}, tmp_path / file)
    matchers = open_matchers(f"loftr:{tmp_path}")
    assert [matcher.name for matcher in matchers] == ["loftr (outdoor)", "loftr (indoor_new)"]
    view = texture(96, 128, 0)
    for matcher in matchers:
        matcher._network.coarse_matching.thr = 0.0  # random weights are never sure
        found = matcher((view, view))
        assert found.left.shape == found.right.shape and (found.left < [128, 96]).all()
    (tmp_path / LOFTR_FILES["outdoor"]).unlink()
    with pytest.raises(UserError, match=r"loftr_outdoor\.ckpt does not exist"):
        LoFTR("outdoor", tmp_path)
    torch.save({"state_dict": {}}, tmp_path / LOFTR_FILES["outdoor"])
    with pytest.raises(UserError, match=r"loftr_outdoor\.ckpt does not hold LoFTR's weights"):
        LoFTR("outdoor", tmp_path)


def test_wrong_names_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"sift, efficientloftr, .* not 'surf'"):
        open_matchers("surf")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="is no Efficient LoFTR that can be loaded"):
        open_matchers(f"efficientloftr:{tmp_path}")


@pytest.mark.skipif(not SCENES.is_dir(), reason="needs the folder of test videos beside the repository")
def test_sift_against_the_ground_truth_of_a_real_pair():
    folder = SCENES / "adirondack"
    views = tuple(cv2.imread(str(folder / f"Adirondack_{side}.png"))[..., ::-1] for side in ("left", "right"))
    truth = cv2.imread(str(folder / "Adirondack_gt.png"), cv2.IMREAD_GRAYSCALE).astype(np.float64)
    found = Sift()(views)
    x, y = found.left.round().astype(int).T
    known = truth[y, x] > 0
    error = np.abs(found.disparity[known] - truth[y, x][known])
    assert known.sum() > 300 and (error < 2).mean() > 0.8
    assert np.quantile(np.abs(found.vertical), 0.75) < 0.5
