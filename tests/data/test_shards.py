"""What is written into shards, and what is refused."""

import json
import subprocess
import sys
import textwrap
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from m2svid.data.clips import ClipReader, RawClip, Region
from m2svid.data.shards import ClipInfo, ShardWriter, disparity_scale, encode_clip
from m2svid.data.sources import read_shard
from m2svid.errors import UserError
from tests.data.clips import make_clip, write_shards


def test_clip_comes_back(tmp_path):
    clip = make_clip(
        "a", size=(32, 96), fps=Fraction(30000, 1001), dataset="d", source="film.mp4", split="val"
    )
    with ShardWriter(tmp_path, "x") as writer:
        writer.write(clip)
    (raw,) = read_shard(str(writer.paths[0]))
    assert writer.paths == [tmp_path / "x-000000.tar"]
    assert raw.key == "a"
    assert b"crf=17.0" in raw.members["left.mp4"]  # x264 writes its options into the stream
    reader = ClipReader(raw)
    assert reader.info == ClipInfo(Fraction(30000, 1001), 96, 32, 8, "d", "film.mp4", "val", 128.0, 1.0, 4.0)
    for view in ("left", "right"):
        error = reader.video(view, [0, 7]).float() - getattr(clip, view)[[0, 7]].float()
        assert error.abs().mean() < 3
    region = Region(3, 5, 10, 20)
    assert (reader.disparity([1, 4], region) - region.of(clip.disparity[[1, 4]])).abs().max() <= 1 / 256


@pytest.mark.parametrize("largest", [0.0, 0.3, 7.9, 255.0, 512.0, 40_000.0, 65_535.0])
def test_disparity_precision(largest):
    scale = disparity_scale(largest)
    assert largest * scale <= 0xFFFF
    assert scale == 128 or 2 * scale * largest > 0xFFFF  # as fine as it can be
    assert (scale * 1024).is_integer()


def test_disparity_of_a_wide_range():
    clip = make_clip(size=(32, 96))
    clip.disparity = torch.rand(clip.disparity.shape, generator=torch.Generator().manual_seed(0)) * 3000
    reader = ClipReader(RawClip("u", "k", encode_clip(clip, 30)))
    error = reader.disparity(range(8), Region(0, 0, 32, 96)) - clip.disparity
    assert error.abs().max() <= 0.5 / reader.info.disparity_scale + 1e-3


def test_warped_view_and_hole_instead_of_disparity():
    clip = make_clip(size=(32, 96))
    hole = torch.zeros(8, 1, 32, 96, dtype=torch.bool)
    hole[:, :, 10:20, 30:40] = True
    clip = replace(clip, disparity=None, warped=clip.right, hole=hole)
    reader = ClipReader(RawClip("u", "k", encode_clip(clip, 1)))
    assert not reader.has_disparity
    assert torch.equal(reader.hole([2, 3], Region(0, 0, 32, 96)), hole[2:4])
    assert (reader.video("warped", [5]).float() - clip.right[[5]].float()).abs().mean() < 2


def test_shards_are_cut_by_clips_and_by_bytes(tmp_path):
    assert len(write_shards(tmp_path / "clips", 7, per_shard=3)) == 3
    with ShardWriter(tmp_path / "bytes", max_bytes=1) as writer:
        for key in "ab":
            writer.write(make_clip(key))
    assert len(writer.paths) == 2


def test_same_clips_same_bytes(tmp_path):
    (one,), (two,) = write_shards(tmp_path / "1", 2), write_shards(tmp_path / "2", 2)
    assert Path(one).read_bytes() == Path(two).read_bytes()


def test_an_error_leaves_only_whole_shards(tmp_path):
    with pytest.raises(RuntimeError), ShardWriter(tmp_path, max_clips=2) as writer:
        for key in "abc":
            writer.write(make_clip(key))
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["clips-000000.tar"]
    assert [clip.key for clip in read_shard(str(tmp_path / "clips-000000.tar"))] == ["a", "b"]


def test_a_killed_writer_leaves_only_whole_shards(tmp_path):
    code = f"""
        import os
        from tests.data.clips import make_clip
        from m2svid.data.shards import ShardWriter
        writer = ShardWriter({str(tmp_path)!r}, max_clips=2)
        for key in "abc":
            writer.write(make_clip(key))
        os._exit(9)
    """
    root = Path(__file__).parents[2]
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=root, timeout=60, check=False)
    assert process.returncode == 9
    assert [path.name for path in tmp_path.glob("*.tar")] == ["clips-000000.tar"]
    assert len(list(read_shard(str(tmp_path / "clips-000000.tar")))) == 2


def test_nothing_is_overwritten(tmp_path):
    write_shards(tmp_path, 1)
    with pytest.raises(UserError, match=r"clips-000000\.tar exists"):
        write_shards(tmp_path, 1)


def test_a_key_is_used_once(tmp_path):
    with ShardWriter(tmp_path) as writer:
        writer.write(make_clip("a"))
        with pytest.raises(UserError, match="'a' was written before"):
            writer.write(make_clip("a"))


@pytest.mark.parametrize(
    "change, why",
    [
        ({"key": "a.b"}, "dots"),
        ({"key": "__a"}, "underscores"),
        ({"left": torch.zeros(8, 3, 31, 48, dtype=torch.uint8)}, "even"),
        ({"left": torch.zeros(0, 3, 32, 48, dtype=torch.uint8)}, "T >= 1"),
        ({"right": torch.zeros(7, 3, 32, 48, dtype=torch.uint8)}, "right must be"),
        ({"right": torch.zeros(8, 3, 32, 48)}, "right must be"),
        ({"fps": Fraction(0)}, "frame rate"),
        ({"disparity": torch.full((8, 1, 32, 48), -1.0)}, "disparity must be finite"),
        ({"disparity": torch.full((8, 1, 32, 48), float("nan"))}, "disparity must be finite"),
        ({"disparity": torch.zeros(8, 1, 16, 48)}, "disparity must be"),
        ({"disparity": None}, "either disparity"),
    ],
)
def test_what_cannot_be_stored_is_refused(change, why):
    with pytest.raises(UserError, match=why):
        replace(make_clip("a"), **change).check()


def test_json_without_a_field():
    values = json.loads(encode_clip(make_clip(), 30)["json"])
    for name in ("fps", "width", "num_frames", "split"):
        with pytest.raises(ValueError, match=f"no field {name}"):
            ClipInfo.from_json(json.dumps({k: v for k, v in values.items() if k != name}).encode())


@pytest.mark.parametrize(
    "field, value",
    [
        ("fps", "thirty"),
        ("fps", "0/1"),
        ("fps", None),
        ("width", 3.5),
        ("num_frames", 0),
        ("disparity_scale", None),
        ("disparity_scale", "128"),
        ("disparity_scale", 0),
        ("disparity_min", "0"),
        ("disparity_max", None),
        ("disparity_max", True),
    ],
)
def test_json_that_makes_no_sense(field, value):
    values = json.loads(encode_clip(make_clip(), 30)["json"])
    with pytest.raises(ValueError, match=field):
        ClipInfo.from_json(json.dumps(values | {field: value}).encode())


def test_json_that_is_no_object():
    with pytest.raises(ValueError, match="object"):
        ClipInfo.from_json(b"[1, 2]")


@pytest.mark.parametrize(
    "changed, why",
    [
        ({"left.mp4": b"junk"}, "no readable video"),
        ({"right.mp4": None}, "no member right.mp4"),
        ({"json": None}, "no member json"),
        ({"json": b"{"}, "property name"),
        ({"disparity.zip": b"junk"}, "not a zip file"),
        ({"left.mp4": encode_clip(make_clip(frames=6), 30)["left.mp4"]}, "6 frames, its JSON says 8"),
        (
            {"left.mp4": encode_clip(make_clip(size=(32, 80)), 30)["left.mp4"]},
            "80×32 px, its JSON says 48×32",
        ),
        ({"disparity.zip": encode_clip(make_clip(size=(30, 48)), 30)["disparity.zip"]}, "48×30 px"),
    ],
)
def test_broken_clips_name_shard_key_and_cause(changed, why):
    members = {k: v for k, v in (encode_clip(make_clip(), 30) | changed).items() if v is not None}
    raw = RawClip("s.tar", "k", members)
    with (
        pytest.raises(UserError, match=rf"s\.tar: clip k: .*{why}"),
        raw.naming_errors(),
    ):
        reader = ClipReader(raw)
        for view in ("left", "right"):
            reader.video(view, [0, 5])
        reader.disparity([0], Region(0, 0, 32, 48))
