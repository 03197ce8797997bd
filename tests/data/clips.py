"""Small clips for the data tests."""

from fractions import Fraction

import torch
from webdataset import TarWriter

from m2svid.data.shards import Clip, ShardWriter
from m2svid.data.sources import read_shard


def make_clip(key="clip", frames=8, size=(32, 48), fps=Fraction(30), seed=0, **options):
    """A ramp that gets lighter with time, in a colour of its own; disparity grows downwards."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    colour = torch.randint(40, 180, (3, 1, 1), generator=generator)
    ramp = torch.linspace(0, 40, width).expand(height, width)
    left = torch.stack([(colour + ramp + t % 8).byte() for t in range(frames)])
    disparity = torch.linspace(1, 4, height)[:, None].expand(frames, 1, height, width).contiguous()
    return Clip(key, left, left.roll(-2, -1), fps, disparity, **options)


def write_shards(folder, clips, per_shard=3, prefix="clips", **options):
    """Shards of small clips named 000, 001, ...; returns their paths as strings."""
    with ShardWriter(folder, prefix, max_clips=per_shard) as writer:
        for index in range(clips):
            writer.write(make_clip(f"{index:03d}", seed=index, **options))
    return [str(path) for path in writer.paths]


def break_clip(path, key, member, data=b"broken"):
    """Replaces a member of one clip in a shard."""
    clips = list(read_shard(path))
    with TarWriter(str(path), encoder=False) as tar:
        for clip in clips:
            changed = {member: data} if clip.key == key else {}
            tar.write({"__key__": clip.key, **clip.members, **changed})
