"""Shards that a run makes for itself: once, whole, and as the options say."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from m2svid.data.clips import ClipReader
from m2svid.data.sources import read_shard
from m2svid.errors import UserError
from m2svid.synthetic import shards as generated
from m2svid.synthetic.shards import ProceduralShards

TINY = {"train": 2, "val": 1, "test": 2, "frames": 3, "height": 16, "width": 32, "objects": 1}


def infos(folder):
    return [ClipReader(raw).info for path in sorted(folder.glob("*.tar")) for raw in read_shard(str(path))]


def test_all_splits_are_made_as_the_options_say(tmp_path):
    ProceduralShards(str(tmp_path), **TINY, fps=5).make()
    train, val, test = (infos(tmp_path / split) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (2, 1, 2)
    for info in train + val + test:
        assert (info.num_frames, info.height, info.width, info.fps) == (3, 16, 32, 5)
    assert len({info.source for info in train + val + test}) == 5  # other worlds to validate and test on


def test_they_are_made_once(tmp_path, monkeypatch):
    shards = ProceduralShards(str(tmp_path), **TINY)
    shards.make()
    monkeypatch.setattr(generated, "make_shards", lambda *args, **kwargs: pytest.fail("made again"))
    shards.make()


def test_shards_of_other_options_are_refused_and_kept(tmp_path):
    ProceduralShards(str(tmp_path), **TINY).make()
    with pytest.raises(
        UserError, match=f"{tmp_path / 'train'} holds shards of other options.*data.procedural"
    ):
        ProceduralShards(str(tmp_path), **TINY, seed=1).make()
    with pytest.raises(UserError, match=str(tmp_path / "val")):
        ProceduralShards(str(tmp_path), **(TINY | {"val": 2})).make()
    assert len(infos(tmp_path / "val")) == 1


def test_an_interrupted_split_is_made_again(tmp_path, monkeypatch):
    shards, make_shards = ProceduralShards(str(tmp_path), **TINY), generated.make_shards

    def interrupted(out, clips, **options):
        make_shards(out, clips=1, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(generated, "make_shards", interrupted)
    with pytest.raises(KeyboardInterrupt):
        shards.make()
    assert not (tmp_path / "train").exists()
    monkeypatch.setattr(generated, "make_shards", make_shards)
    shards.make()
    assert len(infos(tmp_path / "train")) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "test", "train", "val"]


def test_runs_that_start_together_share_the_shards(tmp_path):
    shards = ProceduralShards(str(tmp_path), train=3, val=1, frames=2, height=32, width=32, objects=2)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(ProceduralShards.make, [shards, shards]))
    assert len(list((tmp_path / "train").glob("*.tar"))) == 1
    assert not list(tmp_path.glob("*.unfinished"))
