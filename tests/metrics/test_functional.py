import math
from itertools import product

import pytest
import torch
from pytorch_msssim import ms_ssim as library_ms_ssim
from pytorch_msssim import ssim as library_ssim
from torch.nn import functional as F
from torchmetrics.functional.image import structural_similarity_index_measure

from m2svid.errors import UserError
from m2svid.metrics.functional import C1, C2, SCALE_WEIGHTS, ms_ssim, psnr, ssim
from m2svid.metrics.regions import paint_white, region_mean


def videos(*shape, noise=0.1):
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(shape, generator=generator)
    return (truth + noise * torch.randn(shape, generator=generator)).clamp(0, 1), truth


@pytest.fixture
def two_by_two():
    """One frame of 2×2 pixels; the first pixel is off by 0.5, the last by 0.1, in all three channels."""
    truth = torch.full((1, 1, 3, 2, 2), 0.25)
    prediction = truth.clone()
    prediction[..., 0, 0] += 0.5
    prediction[..., 1, 1] += 0.1
    hole = torch.zeros(1, 1, 1, 2, 2, dtype=torch.bool)
    hole[..., 0, :] = True
    return prediction, truth, hole


def test_psnr_by_hand(two_by_two):
    prediction, truth, hole = two_by_two
    assert psnr(prediction, truth).item() == pytest.approx(-10 * math.log10((0.25 + 0.01) / 4), abs=1e-5)
    masked = psnr(prediction, truth, torch.stack([hole, ~hole]))
    assert masked.shape == (2, 1)
    assert masked[0].item() == pytest.approx(-10 * math.log10(0.25 / 2), abs=1e-5)
    assert masked[1].item() == pytest.approx(-10 * math.log10(0.01 / 2), abs=1e-5)


def test_painted_psnr_counts_the_painted_pixels_as_perfect(two_by_two):
    prediction, truth, hole = two_by_two
    painted = psnr(paint_white(prediction, hole), paint_white(truth, hole))
    assert painted.item() == pytest.approx(-10 * math.log10(0.25 / 4), abs=1e-5)


def test_equal_videos_have_infinite_psnr():
    _, truth = videos(2, 3, 3, 4, 4)
    assert psnr(truth, truth).tolist() == [math.inf, math.inf]


def test_psnr_is_over_the_video_not_a_mean_of_frames():
    truth = torch.zeros(1, 2, 3, 2, 2)
    prediction = torch.tensor([0.1, 0.5]).view(1, 2, 1, 1, 1).expand_as(truth)
    assert psnr(prediction, truth).item() == pytest.approx(-10 * math.log10((0.01 + 0.25) / 2), abs=1e-5)


def test_what_lies_outside_the_region_does_not_matter(two_by_two):
    prediction, truth, hole = two_by_two
    expected = psnr(prediction, truth, hole)
    prediction[..., 1, :] = math.nan
    assert torch.equal(psnr(prediction, truth, hole), expected)


def test_paint_white_keeps_the_region():
    video = torch.tensor([[0.0, 0.2], [0.4, 0.6]]).expand(1, 1, 3, 2, 2)
    kept = torch.tensor([[True, False], [False, True]]).expand(1, 1, 1, 2, 2)
    assert torch.equal(paint_white(video, kept), torch.tensor([[0.0, 1.0], [1.0, 0.6]]).expand_as(video))


def test_region_mean_by_hand():
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 1, 1, 2, 2)
    diagonal = torch.eye(2, dtype=torch.bool).view(1, 1, 1, 2, 2)
    assert region_mean(values).item() == 2.5
    assert region_mean(values, diagonal).item() == 2.5
    assert region_mean(values, torch.stack([diagonal, values > 3.5])).flatten().tolist() == [2.5, 4.0]


@pytest.mark.parametrize(
    "shape", [(2, 1, 3, 161, 164), (1, 9, 3, 170, 161), (2, 12, 3, 176, 163), (1, 25, 3, 161, 161)]
)
@pytest.mark.filterwarnings("ignore:Skipping Gaussian Smoothing")
def test_ms_ssim_equals_the_library(shape):
    prediction, truth = videos(*shape)
    x, y = prediction.movedim(1, 2), truth.movedim(1, 2)
    theirs = library_ms_ssim(x, y, data_range=1.0, size_average=False)
    torch.testing.assert_close(ms_ssim(prediction, truth), theirs, rtol=0, atol=2e-6)


def test_ms_ssim_of_flat_frames_by_hand():
    a, b = 0.3, 0.5
    flat = torch.ones(1, 1, 3, 176, 176)
    luminance = (2 * a * b + C1) / (a * a + b * b + C1)
    assert ms_ssim(a * flat, b * flat).item() == pytest.approx(luminance ** SCALE_WEIGHTS[-1], abs=2e-5)


@pytest.mark.parametrize("T", [2, 4, 8])
def test_a_power_of_two_of_equal_frames_is_one_frame(T):
    prediction, truth = videos(1, 1, 3, 161, 161)
    still = ms_ssim(*(video.expand(1, T, 3, 161, 161) for video in (prediction, truth)))
    torch.testing.assert_close(still, ms_ssim(prediction, truth), rtol=0, atol=5e-6)


def test_a_mask_of_ones_is_no_mask():
    prediction, truth = videos(2, 5, 3, 161, 163)
    ones = torch.ones(2, 5, 1, 161, 163, dtype=torch.bool)
    for metric in (psnr, ms_ssim):
        masked, plain = metric(prediction, truth, ones), metric(prediction, truth)
        torch.testing.assert_close(masked, plain, rtol=0, atol=1e-6)


def masked_ms_ssim_of_an_image(x, y, mask):
    """The masked definition once more, by 2-D windows. x, y, mask: (1, 1, H, W)."""
    window = torch.exp(-((torch.arange(11.0) - 5) ** 2) / 4.5)
    window = (window[:, None] * window / window.sum() ** 2)[None, None]
    result = 1.0
    for scale, exponent in enumerate(SCALE_WEIGHTS):
        mean_x, mean_y, share = (F.conv2d(image, window) for image in (x, y, mask))
        var_x, var_y = F.conv2d(x * x, window) - mean_x**2, F.conv2d(y * y, window) - mean_y**2
        similarity = (2 * (F.conv2d(x * y, window) - mean_x * mean_y) + C2) / (var_x + var_y + C2)
        if scale == len(SCALE_WEIGHTS) - 1:
            similarity = similarity * (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
        result *= ((similarity * share).sum() / share.sum()).relu() ** exponent
        x, y, mask = (F.avg_pool2d(image, 2) for image in (x, y, mask))
    return result


def test_masked_ms_ssim_equals_a_second_calculation():
    prediction, truth = videos(2, 1, 3, 176, 192, noise=0.3)
    hole = torch.zeros(2, 1, 1, 176, 192, dtype=torch.bool)
    hole[0, ..., 40:90, :7] = True
    hole[1, ..., 100:, 30:120] = True
    both = torch.stack([hole, ~hole])
    ours = ms_ssim(prediction, truth, both)
    for region, video in product(range(2), range(2)):
        mask = both[region, video].float()
        pairs = zip(prediction[video, 0], truth[video, 0], strict=True)  # channels
        values = [masked_ms_ssim_of_an_image(x[None, None], y[None, None], mask) for x, y in pairs]
        assert ours[region, video].item() == pytest.approx(sum(values).item() / 3, abs=1e-5)


def test_a_hole_in_the_corner_has_a_value_and_an_empty_region_none():
    prediction, truth = videos(1, 3, 3, 161, 161)
    hole = torch.zeros(2, 1, 3, 1, 161, 161, dtype=torch.bool)
    hole[0, ..., 0, 0] = True
    for metric in (psnr, ms_ssim):
        corner, empty = metric(prediction, truth, hole)
        assert corner.isfinite().all()
        assert empty.isnan().all()


def test_small_frames_are_refused():
    prediction, truth = videos(1, 1, 3, 160, 200)
    with pytest.raises(UserError, match=r"200×160.*too small for ms_ssim, which needs 161"):
        ms_ssim(prediction, truth)


def test_ssim_equals_two_libraries():
    prediction, truth = videos(2, 13, 3, 24, 30)
    ours = ssim(prediction, truth)
    for video, value in enumerate(ours):
        frames = prediction[video], truth[video]
        assert value.item() == pytest.approx(library_ssim(*frames, data_range=1.0).item(), abs=1e-6)
        _, similarity = structural_similarity_index_measure(*frames, data_range=1.0, return_full_image=True)
        inner = similarity[..., 5:-5, 5:-5]  # torchmetrics mirrors the borders
        assert value.item() == pytest.approx(inner.mean().item(), abs=1e-6)
    assert ssim(truth, truth).tolist() == [1, 1]


def test_ssim_of_a_region_is_that_of_its_windows():
    """A region that ends at a window's width: the windows far from it count nothing, those inside fully."""
    prediction, truth = videos(1, 2, 3, 16, 60)
    mask = torch.zeros(1, 2, 1, 16, 60, dtype=torch.bool)
    mask[..., :30] = True
    whole = ssim(prediction, truth, torch.stack([mask, torch.ones_like(mask)]))
    assert whole.shape == (2, 1)
    assert whole[1].item() == pytest.approx(ssim(prediction, truth).item(), abs=1e-6)
    elsewhere = prediction.clone()
    elsewhere[..., 41:] = 0
    assert ssim(elsewhere, truth, mask).item() == pytest.approx(whole[0].item(), abs=1e-6)
    assert ssim(elsewhere, truth, ~mask).item() < 0.9 * whole[0].item()


def test_too_small_for_ssim():
    with pytest.raises(UserError, match="10×12 pixels are too small for ssim"):
        ssim(*videos(1, 1, 3, 12, 10))
