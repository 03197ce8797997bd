"""Endless training data that repeats itself exactly, and evaluation data that is read once."""

import re
from collections import Counter
from itertools import islice

import pytest
import torch
from torch.utils.data import DataLoader

from m2svid.data.buckets import Bucket, BucketSchedule
from m2svid.data.clips import BrokenClipError
from m2svid.data.sources import read_shard
from m2svid.data.stream import DatasetSpec, EvalStream, TrainingStream
from m2svid.data.transforms import Augmentation, EvalClip
from m2svid.errors import UserError
from m2svid.training.datamodule import TrainingLoader
from tests.data.clips import break_clip, write_shards

BUCKETS = (Bucket(2, 16, 16, batch_size=2), Bucket(4, 8, 8, batch_size=3))
CLIP = EvalClip(frames=2, fps=None, size=16, batch_size=2)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("shards"), 11, per_shard=3)


def stream(shards, **options):
    specs = [DatasetSpec("a", shards)] if isinstance(shards[0], str) else shards
    defaults = {"seed": 7, "shuffle_buffer": 4}
    schedule = BucketSchedule(BUCKETS, 7)
    return TrainingStream(specs, schedule, Augmentation(), **defaults | options)


def batches(stream, number, workers=0, start=0):
    loader = TrainingLoader(stream, lambda: start, num_workers=workers)
    return list(islice(loader, number))


def equal(one, two):
    tensors = ("left", "right", "warped", "hole", "fps")
    same = all(torch.equal(getattr(one, name), getattr(two, name)) for name in tensors)
    return same and (one.keys, one.index, one.skipped) == (two.keys, two.index, two.skipped)


def test_same_seed_same_data(shards):
    one, two = batches(stream(shards), 8), batches(stream(shards), 8)
    assert all(map(equal, one, two))
    other = batches(stream(shards, seed=8), 8)
    assert not any(map(equal, one, other))


def test_a_sample_may_be_warped_later(shards):
    for one, later in zip(batches(stream(shards), 6), batches(stream(shards, warp=False), 6), strict=True):
        assert all(sample.warped is None for sample in later.samples)
        assert equal(one, later.to("cpu").collate())


def test_batches_come_in_their_order_and_from_one_bucket(shards):
    for workers in (0, 3):
        made = batches(stream(shards), 10, workers)
        assert [batch.index for batch in made] == list(range(10))
        for batch in made:
            bucket = BucketSchedule(BUCKETS, 7)[batch.index]
            assert batch.left.shape == (bucket.batch_size, bucket.frames, 3, bucket.height, bucket.width)
            assert batch.left.dtype == torch.uint8


def test_ranks_have_the_same_buckets_and_other_clips(shards):
    one, two = (batches(stream(shards, rank=rank, ranks=2), 8) for rank in (0, 1))
    assert [batch.left.shape for batch in one] == [batch.left.shape for batch in two]
    assert not any(map(equal, one, two))


@pytest.mark.parametrize("ranks", [1, 3])
def test_ranks_share_the_clips_of_an_epoch(shards, ranks):
    """A buffer of one leaves the epochs' order: the ranks' shares together are every clip once."""
    schedule = BucketSchedule([Bucket(1, 8, 8)], 0)
    drawn = []
    for rank in range(ranks):
        part = TrainingStream(
            [DatasetSpec("a", shards[:3])], schedule, Augmentation(), 0, rank, ranks, shuffle_buffer=1
        )
        drawn += [batch.keys[0] for batch in batches(part, 9 // ranks)]
    assert sorted(drawn) == sorted(f"a/{i:03d}" for i in range(9))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("start", [1, 4, 9])
def test_a_resumed_stream_continues_exactly(shards, workers, start):
    whole = batches(stream(shards), 13, workers)
    rest = batches(stream(shards), 13 - start, workers, start)
    assert all(map(equal, whole[start:], rest))


def test_a_replay_reads_no_clips(shards, monkeypatch):
    read = []
    from m2svid.data import shuffle

    original = shuffle.read_shard
    monkeypatch.setattr(shuffle, "read_shard", lambda url: read.append(url) or original(url))
    started = stream(shards)
    started.start = 400  # about 90 epochs
    next(iter(started))
    assert len(read) <= 4 + 2  # the shards of the buffer's clips, and the one that the stream stands in


def test_a_pipe_can_be_resumed(shards):
    piped = [f"pipe:cat {url}" for url in shards]
    whole = batches(stream(piped), 9)
    assert all(map(equal, whole[5:], batches(stream(piped), 4, start=5)))


def test_more_consumers_than_clips(shards):
    """Everybody still gets all clips in the course of time."""
    for rank in range(5):
        made = batches(stream(shards[:1], rank=rank, ranks=5, shuffle_buffer=1), 12)
        assert {key for batch in made for key in batch.keys} == {"a/000", "a/001", "a/002"}


def test_datasets_are_mixed_by_weight(shards):
    specs = [DatasetSpec("a", shards[:2], weight=3.0), DatasetSpec("b", shards[2:], weight=1.0)]
    made = batches(stream(specs), 80)
    counts = Counter(key for batch in made for key in batch.keys)
    from_a = sum(count for key, count in counts.items() if key.startswith("a/"))
    assert 0.65 < from_a / counts.total() < 0.85
    assert {key for batch in made for key in batch.keys if key[0] == "b"} == {
        f"b/{i:03d}" for i in range(6, 11)
    }


@pytest.mark.parametrize("clips, per_shard", [(1, 1), (7, 3), (11, 3), (13, 2), (8, 8)])
@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_reads_every_clip_once(tmp_path, clips, per_shard, workers):
    spec = DatasetSpec("v", write_shards(tmp_path, clips, per_shard))
    keys = []
    for rank in range(2):
        loader = DataLoader(EvalStream(spec, CLIP, rank, 2), batch_size=None, num_workers=workers)
        for batch in loader:
            assert len(batch.keys) == batch.left.shape[0] <= 2
            keys += batch.keys
    assert sorted(keys) == [f"v/{i:03d}" for i in range(clips)]


@pytest.fixture
def broken(tmp_path):
    shards = write_shards(tmp_path, 9, per_shard=3)
    break_clip(shards[1], "004", "left.mp4")
    return shards


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_clip_stops_evaluation(broken, workers):
    loader = DataLoader(EvalStream(DatasetSpec("v", broken), CLIP), batch_size=None, num_workers=workers)
    with pytest.raises(BrokenClipError, match=r"clips-000001\.tar: clip 004: no readable video"):
        list(loader)


def test_a_broken_clip_stops_training(broken):
    with pytest.raises(BrokenClipError, match=r"clips-000001\.tar: clip 004: no readable video") as caught:
        batches(stream(broken), 20)
    assert isinstance(caught.value.__cause__, ValueError)


def test_broken_clips_can_be_skipped_and_are_counted(broken, caplog):
    whole = batches(stream(broken, skip_broken=True), 20)
    keys = Counter(key for batch in whole for key in batch.keys)
    assert set(keys) == {f"a/{i:03d}" for i in range(9) if i != 4}
    assert sum(batch.skipped for batch in whole) == caplog.text.count("clip 004") > 0
    assert [len(batch.keys) for batch in whole] == [len(batch.left) for batch in whole]
    rest = batches(stream(broken, skip_broken=True), 9, start=11)
    assert all(map(equal, whole[11:], rest))


@pytest.mark.parametrize("scale", ["null", '"128"'])
def test_a_clip_whose_json_makes_no_sense_can_be_skipped(tmp_path, scale):
    shards = write_shards(tmp_path, 4, per_shard=2)
    (text,) = [clip.members["json"] for clip in read_shard(shards[1]) if clip.key == "003"]
    wrong = re.sub(rb'"disparity_scale": [\d.]+', b'"disparity_scale": ' + scale.encode(), text)
    break_clip(shards[1], "003", "json", wrong)
    with pytest.raises(BrokenClipError, match="clip 003: the JSON's disparity_scale must be a number"):
        batches(stream(shards), 20)
    made = batches(stream(shards, skip_broken=True), 20)
    assert {key for batch in made for key in batch.keys} == {"a/000", "a/001", "a/002"}


def test_a_broken_shard_can_be_skipped_and_is_counted(broken):
    with open(broken[2], "r+b") as file:
        file.truncate(2000)
    with pytest.raises(BrokenClipError, match=r"clips-000002\.tar cannot be read"):
        batches(stream([broken[0], broken[2]]), 20)
    whole = batches(stream([broken[0], broken[2]], skip_broken=True), 12)
    assert sum(batch.skipped for batch in whole) > 0
    assert all(map(equal, whole[6:], batches(stream([broken[0], broken[2]], skip_broken=True), 6, start=6)))


def test_nothing_but_broken_clips(tmp_path):
    (shard,) = write_shards(tmp_path, 2)
    for key in ("000", "001"):
        break_clip(shard, key, "json")
    with pytest.raises(UserError, match="dataset a: 100 broken clips in a row"):
        batches(stream([shard], skip_broken=True), 1)


def test_a_dataset_without_clips(tmp_path):
    from webdataset import TarWriter

    path = tmp_path / "empty.tar"
    TarWriter(str(path)).close()
    with pytest.raises(UserError, match=r"no clips for training in .*empty\.tar"):
        batches(stream([str(path)]), 1)


def test_a_wrong_weight():
    with pytest.raises(UserError, match="dataset a: weight"):
        DatasetSpec("a", "x.tar", weight=0)
