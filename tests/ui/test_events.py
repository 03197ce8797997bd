"""Event files as TensorBoard's own reader has them, while they grow, are cut off, damaged and made anew."""

import math
import struct
from itertools import pairwise

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from m2svid.errors import UserError
from m2svid.ui.events import PREFIX, RunEvents, smoothed, thinned

EVERYTHING = {"scalars": 0, "images": 0}  # the other reader keeps all of them


def write(folder, steps, offset=0.0, close=True):
    writer = SummaryWriter(str(folder))
    for step in steps:
        writer.add_scalar("train/loss", offset + 1 / (1 + step), step)
        writer.add_scalar("val/mine/psnr", offset + step, step)
        if step % 3 == 0:
            writer.add_image("val/mine/strip", torch.full((3, 4, 8), step % 10 / 10), step)
    writer.flush()
    if close:
        writer.close()
    return writer


def file_of(folder):
    return next(folder.glob(f"{PREFIX}*"))


def same_as_tensorboard(events, folder):
    """Compare all scalars and pictures with TensorBoard's reader; give the number of values."""
    other = EventAccumulator(str(folder), size_guidance=EVERYTHING)
    other.Reload()
    assert events.tags() == sorted(other.Tags()["scalars"])
    for tag in events.tags():
        expected = other.Scalars(tag)
        curve = events.curve(tag)
        assert curve.steps.tolist() == [point.step for point in expected]
        assert curve.times.tolist() == [point.wall_time for point in expected]
        np.testing.assert_array_equal(curve.values, [point.value for point in expected])
    images = {tag: other.Images(tag) for tag in other.Tags()["images"]}
    assert events.pictures() == {
        tag: [image.step for image in found] for tag, found in sorted(images.items())
    }
    for tag, found in images.items():
        for image in found:
            assert events.picture(tag, image.step) == image.encoded_image_string
    return sum(len(other.Scalars(tag)) for tag in events.tags())


def test_scalars_and_pictures_are_those_of_tensorboards_reader(tmp_path):
    write(tmp_path, range(40))
    events = RunEvents(tmp_path)
    events.read()
    assert same_as_tensorboard(events, tmp_path) == 80
    assert (events.share, events.step, events.damaged) == (1.0, 39, {})
    assert events.start == EventAccumulator(str(tmp_path)).Reload().FirstEventTimestamp()
    assert len(events.curve("none").steps) == 0
    with pytest.raises(UserError, match="no picture 'val/mine/strip' of step 1"):
        events.picture("val/mine/strip", 1)


def test_a_file_that_grows_is_read_on_from_where_it_was(tmp_path):
    writer = write(tmp_path, range(5), close=False)
    events = RunEvents(tmp_path)
    events.read()
    assert same_as_tensorboard(events, tmp_path) == 10
    writer.add_scalar("train/loss", math.nan, 5)
    writer.add_scalar("train/loss", math.inf, 6)
    writer.close()
    events.read()
    assert same_as_tensorboard(events, tmp_path) == 12


def test_wherever_a_file_is_cut_off_all_before_is_read_and_the_rest_when_it_is_there(tmp_path):
    write(tmp_path / "whole", range(4))
    content = file_of(tmp_path / "whole").read_bytes()
    cut = tmp_path / "cut" / f"{PREFIX}1"
    cut.parent.mkdir()
    for size in range(0, len(content), 7):
        cut.write_bytes(content[:size])
        events = RunEvents(cut.parent)
        events.read()
        assert not events.damaged and events.share == 1.0
        same_as_tensorboard(events, cut.parent)
        with cut.open("ab") as file:
            file.write(content[size:])
        events.read()
        assert same_as_tensorboard(events, cut.parent) == 8


@pytest.mark.parametrize("place", ["length", "message"])
def test_a_damaged_file_is_read_up_to_the_break_which_is_told(tmp_path, place):
    write(tmp_path, range(20))
    path, records = file_of(tmp_path), []
    content = bytearray(path.read_bytes())
    offset = 0
    while offset < len(content):
        records.append(offset)
        offset += struct.unpack_from("<Q", content, offset)[0] + 16
    broken = records[21]
    size = struct.unpack_from("<Q", content, broken)[0]
    content[broken : broken + 1] = b"\xff" if place == "length" else content[broken : broken + 1]
    if place == "message":
        content[broken + 12 : broken + 12 + size] = bytes(size)  # as a power cut leaves it
    path.write_bytes(content)
    events = RunEvents(tmp_path)
    events.read()
    same_as_tensorboard(events, tmp_path)
    assert 0 < len(events.curve("train/loss").steps) < 20
    assert f"behind byte {broken}" in events.damaged[path]


def test_a_continued_run_has_one_value_a_step_the_newest(tmp_path):
    for number, (steps, value) in enumerate([(range(8), 1.0), (range(5, 12), 2.0)]):
        writer = SummaryWriter(str(tmp_path), filename_suffix=f".{number}")
        for step in steps:
            writer.add_scalar("loss", value, step, walltime=100 * number + step)
        writer.close()
    events = RunEvents(tmp_path)
    events.read()
    steps, times, values = events.curve("loss")
    assert steps.tolist() == list(range(12))
    assert values.tolist() == [1.0] * 5 + [2.0] * 7
    assert times.tolist() == [0, 1, 2, 3, 4, *range(105, 112)]


def test_a_run_made_anew_under_the_name_replaces_the_old_one(tmp_path):
    write(tmp_path, range(30))
    events = RunEvents(tmp_path)
    events.read()
    file_of(tmp_path).unlink()
    write(tmp_path, range(3), offset=7)
    events.read()
    assert same_as_tensorboard(events, tmp_path) == 6
    assert events.step == 2


def test_a_reader_whose_time_is_over_goes_on_at_the_next_call(tmp_path):
    write(tmp_path, range(3000))
    events, shares = RunEvents(tmp_path), []
    while not shares or shares[-1] < 1:
        events.read(seconds=0.005)
        shares.append(events.share)
    assert len(shares) > 2 and shares == sorted(shares)
    assert same_as_tensorboard(events, tmp_path) == 6000


def test_a_thinned_curve_keeps_extremes_ends_and_what_is_not_finite():
    generator = np.random.default_rng(0)
    for length in (2, 999, 1001, 4000, 12345):
        values = generator.normal(size=length)
        values[generator.integers(length)] = 1e9
        values[generator.integers(length)] = -1e9
        places = thinned(values, 1000)
        assert (np.diff(places) > 0).all() and len(places) <= 1002
        assert places[0] == 0 and places[-1] == length - 1
        assert values[places].max() == values.max() and values[places].min() == values.min()
        if length > 1000:  # nowhere is a peak lost
            ends = np.linspace(0, length, 20).astype(int)
            widest = 2 * (length // 500 + 1)
            for begin, end in pairwise(ends):
                inside = values[begin:end].max()
                near = places[(places >= begin - widest) & (places < end + widest)]
                assert values[near].max() >= inside
    values = generator.normal(size=5000)
    values[[17, 18, 4321]] = math.nan, math.inf, -math.inf
    kept = values[thinned(values, 1000)]
    assert np.isnan(kept).sum() == 1 and np.isneginf(kept).sum() == 1
    assert thinned(np.full(3000, math.nan), 1000)[-1] == 2999


def test_smoothing_is_tensorboards():
    values = np.random.default_rng(1).normal(size=200)
    values[[0, 50]] = math.nan
    last, count, expected = 0.0, 0, []
    for value in values:  # as TensorBoard's page computes it, point by point
        if math.isfinite(value):
            last = last * 0.9 + 0.1 * value
            count += 1
            expected.append(last / (1 - 0.9**count))
        else:
            expected.append(value)
    np.testing.assert_allclose(smoothed(values, 0.9), expected, rtol=1e-9)
