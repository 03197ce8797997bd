"""Which shards are read by whom."""

import io
import tarfile
from pathlib import Path

import fsspec
import pytest

from m2svid.data import sources
from m2svid.data.clips import BrokenClipError
from m2svid.data.sources import Consumer, count_clips, expand_shards, partition, read_shard
from m2svid.errors import UserError
from tests.data.clips import write_shards


def consumers(ranks, workers):
    return [Consumer(rank, ranks, worker, workers) for rank in range(ranks) for worker in range(workers)]


@pytest.mark.parametrize("ranks, workers", [(1, 1), (1, 3), (2, 2), (8, 4), (3, 5)])
@pytest.mark.parametrize("shards", [1, 2, 3, 4, 7, 31, 32, 33, 100])
def test_every_clip_goes_to_one_consumer(shards, ranks, workers):
    clips = {f"s{i}": 5 + i % 4 for i in range(shards)}
    read = [
        (url, position)
        for consumer in consumers(ranks, workers)
        for url, offset, stride in partition(list(clips), consumer)
        for position in range(offset, clips[url], stride)
    ]
    assert sorted(read) == sorted(
        (url, position) for url, count in clips.items() for position in range(count)
    )


def test_a_turn_is_a_permutation():
    for turns in range(7):
        turned = [consumer.turned(turns).index for consumer in consumers(2, 3)]
        assert sorted(turned) == list(range(6))
        assert turned[0] == turns % 6


def test_patterns(tmp_path):
    urls = write_shards(tmp_path / "a", 5, per_shard=2)
    assert expand_shards(urls[0]) == urls[:1]
    assert expand_shards(f"{tmp_path}/a/*.tar") == urls
    assert expand_shards(f"{tmp_path}/a/clips-{{000000..000001}}.tar") == urls[:2]
    assert expand_shards([urls[2], f"file://{urls[0]}"]) == [urls[2], urls[0]]
    assert expand_shards("pipe:cat x-{1..2}.tar") == ["pipe:cat x-1.tar", "pipe:cat x-2.tar"]
    assert expand_shards("s3://bucket/x-{1..2}.tar") == ["s3://bucket/x-1.tar", "s3://bucket/x-2.tar"]


@pytest.mark.parametrize(
    "pattern, why",
    [
        ("/nowhere/*.tar", r"no shard matches '/nowhere/\*\.tar'"),
        ("/nowhere/x.tar", "'/nowhere/x.tar' does not exist"),
        ("x-{1..2.tar", "unbalanced braces"),
        ("ftp://host/x.tar", "use a path or a URL"),
        (str(Path(__file__).parent), "is a folder"),
        ([], "empty"),
    ],
)
def test_patterns_that_lead_nowhere(pattern, why):
    with pytest.raises(UserError, match=why):
        expand_shards(pattern)


def test_a_shard_named_twice(tmp_path):
    (url,) = write_shards(tmp_path, 1)
    with pytest.raises(UserError, match="named 2 times"):
        expand_shards([url, f"{tmp_path}/*.tar"])


def test_pipe_and_file_give_the_same(tmp_path):
    (url,) = write_shards(tmp_path, 3)
    assert list(read_shard(f"pipe:cat {url}"))[1].members == list(read_shard(url))[1].members
    assert count_clips(url) == count_clips(f"pipe:cat {url}") == 3


def test_a_pipe_may_be_left_early(tmp_path):
    (url,) = write_shards(tmp_path, 3)
    clips = read_shard(f"pipe:cat {url} {url}")
    assert next(clips).key == "000"
    clips.close()


def test_cloud_urls_go_through_fsspec(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_CLOUD", ("memory://",))
    (url,) = write_shards(tmp_path, 3)
    fsspec.filesystem("memory").pipe("/bucket/x-0.tar", Path(url).read_bytes())
    (found,) = expand_shards("memory://bucket/*.tar")
    assert [clip.key for clip in read_shard(found)] == ["000", "001", "002"]
    assert count_clips(found) == 3


def test_a_missing_cloud_package_is_named(monkeypatch):
    def missing(url):
        raise ImportError("no s3fs")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(UserError, match=r"s3://b/x\.tar.*m2svid\[cloud\]"):
        list(read_shard("s3://b/x.tar"))


@pytest.mark.parametrize("keep", [0, 1024, 3000, 0.5, 0.7])
def test_a_broken_shard_is_named(tmp_path, keep):
    (url,) = write_shards(tmp_path, 3)
    data = Path(url).read_bytes()
    Path(url).write_bytes(data[: keep if keep == 0 or keep > 1 else int(keep * len(data))])
    for read in (lambda: list(read_shard(url)), lambda: count_clips(url)):
        with pytest.raises(BrokenClipError, match=r"clips-000000\.tar cannot be read: [^<>]+$"):
            read()


def test_a_missing_shard_is_named_with_its_cause(tmp_path):
    for read in (read_shard, lambda url: [count_clips(url)]):
        with pytest.raises(BrokenClipError, match=r"none\.tar cannot be read: .*No such file"):
            list(read(str(tmp_path / "none.tar")))


def test_a_failing_command_is_named(tmp_path):
    (url,) = write_shards(tmp_path, 3)
    for command in ("pipe:false", f"pipe:cat {url}; exit 3"):
        with pytest.raises(BrokenClipError, match="cannot be read"):
            list(read_shard(command))


def test_other_files_in_a_shard_do_not_count(tmp_path):
    (url,) = write_shards(tmp_path, 2)
    with tarfile.open(url, "a") as tar:
        tar.addfile(tarfile.TarInfo("README"), io.BytesIO(b""))
    assert count_clips(url) == len(list(read_shard(url))) == 2
