"""From a clip to a sample: frames, crops, warping, sizes."""

from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from m2svid.data.buckets import Bucket
from m2svid.data.clips import ClipReader, RawClip, Region
from m2svid.data.samples import make_sample, resize_hole
from m2svid.data.shards import ClipInfo, encode_clip
from m2svid.data.transforms import Augmentation, EvalClip, frame_indices, frame_span
from m2svid.errors import UserError
from m2svid.warping.mask import close_hole
from m2svid.warping.splat import warp
from tests.data.clips import make_clip


class FakeReader:
    """A clip without compression, so that pixels can be compared exactly."""

    def __init__(self, left, right, disparity, fps=Fraction(30)):
        num_frames, _, height, width = left.shape
        self.views = {"left": left, "right": right}
        self.values = disparity
        self.has_disparity = True
        self.info = ClipInfo(fps, width, height, num_frames, "", "", "", 128.0, 0.0, float(disparity.max()))

    def video(self, name, indices):
        return self.views[name][indices]

    def disparity(self, indices, region):
        return region.of(self.values[indices])


def coordinates(frames=40, height=100, width=140):
    """Red is the column, green the row, blue the frame."""
    columns = torch.arange(width).expand(height, width)
    rows = torch.arange(height)[:, None].expand(height, width)
    video = [torch.stack([columns, rows, torch.full_like(rows, 5 * t)]) for t in range(frames)]
    return torch.stack(video).to(torch.uint8)


def steps(frames=40, height=100, width=140):
    """Blocks of disparity with holes of many widths behind them."""
    coarse = torch.rand(frames, 1, 10, 14, generator=torch.Generator().manual_seed(3)) * 25
    return F.interpolate(coarse, (height, width), mode="nearest")


@pytest.mark.parametrize("seed", range(20))
def test_all_views_show_the_same_part(seed):
    video = coordinates()
    reader = FakeReader(video, video, torch.zeros(40, 1, 100, 140))
    sample = Augmentation()(reader, Bucket(5, 32, 32), np.random.default_rng(seed))
    assert sample.left.shape == (5, 3, 32, 32) and sample.original is None
    assert torch.equal(sample.left, sample.right)
    assert torch.equal(sample.left, sample.warped)  # no disparity, so nothing moves
    assert not sample.hole.any()
    column, row, time = sample.left.float().unbind(1)
    area = (column.max() - column.min() + 1) * (row.max() - row.min() + 1)
    assert 0.25 * 100**2 < area <= 100**2
    # one crop for the whole clip, upright, and frames in their order
    assert (column == column[:1, :1]).all()
    assert (row == row[:1, :, :1]).all()
    assert (time.flatten(1).diff(dim=1) == 0).all()
    assert (time[:, 0, 0].diff() >= 5).all()


@pytest.mark.parametrize("region", [Region(20, 30, 50, 60), Region(0, 0, 40, 40), Region(61, 80, 39, 60)])
@pytest.mark.parametrize("size", [(50, 60), (24, 32), (80, 96)])
def test_a_region_is_exactly_a_part_of_the_whole(region, size):
    """Warping and closing only the region's surroundings against the whole frame."""
    left, right, disparity = coordinates(), coordinates().flip(-1), steps()
    indices = [3, 9, 20]
    sample = make_sample(FakeReader(left, right, disparity), indices, Fraction(5), region, size)

    warped, hole = warp(left[indices], disparity[indices])
    hole = close_hole(hole)
    warped[hole.expand_as(warped)] = 0

    def resized(video):
        return F.interpolate(region.of(video).contiguous(), size, mode="bilinear", antialias=True)

    for got, want in ((sample.left, left[indices]), (sample.right, right[indices]), (sample.warped, warped)):
        assert (got.int() - resized(want).int()).abs().max() <= 1
    assert torch.equal(sample.hole, resized(hole.double()) > 0)
    assert 0.02 < sample.hole.float().mean() < 0.9
    assert sample.warped.dtype == torch.uint8


@pytest.mark.parametrize("length", [7, 31, 33, 48, 80, 96, 300])
@pytest.mark.parametrize("size", [8, 33, 48, 100])
def test_a_pixel_that_any_hole_goes_into_is_a_hole(length, size):
    """Against the filter itself, whose borders are narrower, on a frame that isn't square."""
    holes = torch.rand(2, 1, length, length + 5, generator=torch.Generator().manual_seed(length)) < 0.02
    filtered = F.interpolate(holes.float(), (size, size + 3), mode="bilinear", antialias=True)
    assert torch.equal(resize_hole(holes, (size, size + 3)), filtered > 0)


def test_stored_warped_view_and_hole_are_used():
    clip = make_clip(size=(64, 96))
    hole = torch.zeros(8, 1, 64, 96, dtype=torch.bool)
    hole[:, :, 20:40, 40:60] = True
    hole[:, :, 30, 50] = False  # the closing fills it
    clip = replace(clip, disparity=None, warped=clip.right, hole=hole)
    reader = ClipReader(RawClip("u", "k", encode_clip(clip, 1)))
    sample = make_sample(reader, [0, 4], Fraction(5), Region(0, 16, 64, 64), (64, 64))
    expected = torch.zeros(2, 1, 64, 64, dtype=torch.bool)
    expected[:, :, 20:40, 24:44] = True
    assert torch.equal(sample.hole, expected)
    assert sample.warped[expected.expand_as(sample.warped)].max() == 0
    outside = ~expected.expand_as(sample.warped)
    assert (sample.warped.float() - sample.right.float())[outside].abs().mean() < 1


def test_crops_come_from_everywhere():
    """Centres of small crops fall into all quarters of the frame about equally often."""
    video = coordinates(frames=1)
    reader = FakeReader(video, video, torch.zeros(1, 1, 100, 140))
    augmentation = Augmentation(fps=(30, 30), scale=(0.1, 0.1))
    quarters = Counter()
    for seed in range(60):
        sample = augmentation(reader, Bucket(1, 8, 8), np.random.default_rng(seed))
        column, row = sample.left[0, :2].float().mean((1, 2)).tolist()
        quarters[column > 70, row > 50] += 1
    assert len(quarters) == 4 and min(quarters.values()) >= 6, quarters


def test_a_bucket_that_is_not_square():
    video = coordinates()
    reader = FakeReader(video, video, torch.zeros(40, 1, 100, 140))
    augmentation = Augmentation(scale=(1, 1), ratio=(1, 1))
    sample = augmentation(reader, Bucket(2, 20, 40), np.random.default_rng(0))
    column, row, _ = sample.left.float().unbind(1)
    assert sample.left.shape[2:] == (20, 40)
    assert abs((column.max() - column.min()) - 140 * 39 / 40) <= 2  # the full width
    assert abs((row.max() - row.min()) - 70 * 19 / 20) <= 2


def test_frames_do_not_drift():
    clip_fps = Fraction(30000, 1001)
    indices = frame_indices(clip_fps, Fraction(7), 1000, 3)
    times = [(index - 3) / clip_fps for index in indices]
    assert max(abs(time - Fraction(i, 7)) for i, time in enumerate(times)) <= 1 / clip_fps / 2
    assert frame_indices(Fraction(30), Fraction(5), 4, 2) == [2, 8, 14, 20]
    assert frame_indices(Fraction(30), Fraction(20), 5, 0) == [0, 2, 3, 5, 6]
    assert frame_span(Fraction(30), Fraction(5), 16) == 91


def test_frame_rates_are_those_that_fit():
    video = coordinates(30, 16, 16)
    reader = FakeReader(video, video, torch.zeros(30, 1, 16, 16), Fraction(12))
    rates = set()
    for seed in range(200):
        indices, fps = Augmentation().draw_frames(reader.info, 16, np.random.default_rng(seed))
        assert indices[0] >= 0 and indices[-1] < 30
        rates.add(fps)
    assert rates == {Fraction(rate) for rate in (7, 8, 9, 10, 11, 12)}  # at 6 fps, 16 frames take 31


def test_clips_that_are_too_short_say_so():
    video = coordinates(10, 16, 16)
    reader = FakeReader(video, video, torch.zeros(10, 1, 16, 16))
    with pytest.raises(ValueError, match="16 frames at 30 fps need 16 of its frames, it has 10"):
        Augmentation()(reader, Bucket(16, 8, 8), np.random.default_rng(0))
    with pytest.raises(ValueError, match="16 frames at 5 fps need 91 of its frames, it has 10"):
        EvalClip()(reader)
    with pytest.raises(ValueError, match="too slow: 60 fps wanted, it has 30"):
        EvalClip(2, 60.0)(reader)


def test_evaluation_takes_the_middle_square_of_the_first_frames():
    video = coordinates()
    reader = FakeReader(video, video, torch.zeros(40, 1, 100, 140))
    sample = EvalClip(frames=4, fps=10.0, size=100)(reader)
    assert torch.equal(sample.left, video[[0, 3, 6, 9], :, :, 20:120])
    assert sample.fps == 10
    assert sample.original is not None
    assert torch.equal(sample.original.left, video[[0, 3, 6, 9]])
    assert sample.original.disparity.shape == (4, 1, 100, 140)
    assert sample.original.region == (0, 20, 100, 100)
    own = EvalClip(frames=4, fps=None, size=50)(reader)
    assert own.fps == 30
    assert torch.equal(own.left[:, 2, 0, 0], torch.tensor([0, 5, 10, 15]))
    column = own.left[0, 0, 25].float()
    assert (column - (20.5 + 2 * torch.arange(50))).abs().max() <= 1.5


@pytest.mark.parametrize(
    "make, option",
    [
        (lambda: Augmentation(fps=(10, 5)), "fps"),
        (lambda: Augmentation(scale=(0.0, 1.0)), "scale"),
        (lambda: Augmentation(ratio=(1.2, 1.4)), "ratio"),
        (lambda: EvalClip(frames=0), "frames"),
        (lambda: EvalClip(fps=0.0), "fps"),
        (lambda: EvalClip(size=0), "size"),
    ],
)
def test_wrong_options_are_named(make, option):
    with pytest.raises(UserError, match=f"option {option}"):
        make()
