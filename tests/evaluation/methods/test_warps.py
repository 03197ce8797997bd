"""Each method's warp on the part of a clip that is evaluated."""

from dataclasses import replace

import pytest
import torch

from m2svid.errors import UserError
from m2svid.evaluation.methods.warps import ClosedNearest, Layered, SoftSplat, warped_by
from m2svid.warping.soft_splat import soft_splat
from tests.evaluation.methods.clips import make_clip

REGION = (8, 16, 32, 32)


def test_the_models_own_warp_is_what_the_loader_made():
    clip = make_clip(region=REGION)
    again = warped_by(ClosedNearest(), replace(clip, warped=clip.left, hole=~clip.hole))
    assert torch.equal(again.warped, clip.warped)
    assert torch.equal(again.hole, clip.hole)
    assert clip.hole.any()


def test_what_lies_beside_the_evaluated_part_is_warped_into_it():
    """The part's right border is filled by pixels of the clip from beyond it."""
    clip = make_clip(region=REGION)
    seen = warped_by(SoftSplat(), clip)
    assert not seen.hole[..., -8:].any()
    original = clip.originals[0]
    whole, _ = soft_splat(original.left, original.disparity)
    top, left, height, width = REGION
    expected = whole[..., top : top + height, left : left + width].float() / 255
    torch.testing.assert_close(seen.warped[0], expected)


def test_a_soft_hole_is_binarised_at_one_half():
    clip = make_clip()
    original = clip.originals[0]
    _, soft = soft_splat(original.left, original.disparity)
    assert ((soft > 0.01) & (soft < 0.5)).any()
    assert torch.equal(warped_by(SoftSplat(), clip).hole[0], soft * 255 >= 128)


@pytest.mark.parametrize("warp", [ClosedNearest(), SoftSplat(), Layered()], ids=lambda warp: warp.name)
def test_a_share_of_the_baseline_moves_by_that_share(warp):
    """A scene at one depth moves by 4 px at half of the baseline of 8."""
    clip = make_clip(disparity=torch.full((3, 1, 64, 64), 8.0))
    seen = warped_by(warp, clip, share=0.5)
    inner = slice(None, 50)
    torch.testing.assert_close(seen.warped[..., inner, inner], clip.left[..., inner, 4:54], atol=1e-6, rtol=0)


def test_views_are_resized_with_the_clip():
    clip = make_clip()
    small = replace(
        clip,
        left=clip.left[..., ::2, ::2],
        right=clip.right[..., ::2, ::2],
        warped=clip.warped[..., ::2, ::2],
        hole=clip.hole[..., ::2, ::2],
    )
    seen = warped_by(ClosedNearest(), small)
    assert seen.warped.shape == small.warped.shape
    blocks = torch.nn.functional.avg_pool2d(clip.warped[0], 2)
    assert (seen.warped[0] - blocks).abs().mean() < 0.02  # bilinear with antialiasing, near the mean of 2×2


def test_a_clip_without_disparity_is_refused_by_name():
    with pytest.raises(UserError, match=r"made/a has no disparity.*stereocrafter"):
        warped_by(SoftSplat(), replace(make_clip(), originals=(None,)))
