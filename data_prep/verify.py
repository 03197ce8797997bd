"""Check a folder of shards: every file is what its report says, and every clip can be read."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence

from jsonargparse import auto_cli

from data_prep.command import run_command
from data_prep.dataset import Facts
from data_prep.shard_task import checksum
from data_prep.store import Store
from m2svid.data.clips import BrokenClipError, ClipReader, RawClip, Region
from m2svid.data.sources import read_shard
from m2svid.errors import UserError
from m2svid.parser import Parser


def verify(folder: str, decode: bool = True) -> int:
    """Check all shards of a folder; 1 if something is wrong.

    Args:
        folder: path or URL of the shards.
        decode: decode every frame too; without it only files, checksums, keys and counts are checked.
    """
    store = Store(folder)
    reports = store.read_json(store.names(".json"))
    sizes = store.sizes()
    tars = {name for name in sizes if name.endswith(".tar")}
    if not reports and not tars:
        raise UserError(f"{folder} holds no shards; give the folder that -o named")
    owners: dict[str, str] = {}
    videos: dict[str, str] = {}
    problems = [
        f"{name} has no report; the command that made it will make it again"
        for name in sorted(tars - {f"{shard['shard']}.tar" for shard in reports.values()})
    ]
    for shard in reports.values():
        problems += _shard_problems(store, shard, sizes, decode)
        for clip in shard["clips"]:
            owner = owners.setdefault(clip["key"], shard["shard"])
            if owner != shard["shard"]:
                problems.append(f"clip {clip['key']} is in {owner} and in {shard['shard']}")
        if shard["clips"]:
            other = videos.setdefault(shard["video"], shard["split"])
            if other != shard["split"]:
                problems.append(
                    f"video {shard['video']} is in the splits {other} and {shard['split']}: it leaks"
                )
    clips = sum(len(shard["clips"]) for shard in reports.values())
    facts = {"shards": len(tars), "clips": clips, "decoded": decode, "problems": problems}
    sys.stdout.write(json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    return 1 if problems else 0


def _shard_problems(store: Store, shard: Facts, sizes: Mapping[str, int], decode: bool) -> Iterator[str]:
    name, tar = f"{shard['shard']}.tar", shard["tar"]
    if not shard["clips"]:
        return
    if name not in sizes:
        yield f"{name} is missing"
        return
    with store.reading(name) as path:
        if sizes[name] != tar["bytes"]:
            yield f"{name} has {sizes[name]} bytes, its report says {tar['bytes']}"
        elif checksum(path) != tar["sha256"]:
            yield f"{name} has another checksum than its report says"
        try:
            raws = list(read_shard(str(path)))
        except BrokenClipError as error:
            yield str(error)
            return
    found, told = [raw.key for raw in raws], [clip["key"] for clip in shard["clips"]]
    if found != told:
        differing = sorted(set(found) ^ set(told)) or "their order"
        yield f"{name} holds {len(found)} clips, its report {len(told)}: they differ in {differing}"
    for raw, clip in zip(raws, shard["clips"], strict=False):
        yield from _clip_problems(raw, clip, decode)


def _clip_problems(raw: RawClip, told: Facts, decode: bool) -> Iterator[str]:
    try:
        with raw.naming_errors():
            reader = ClipReader(raw)
            info = reader.info
            if [info.num_frames, info.width, info.height] != [told["frames"], told["width"], told["height"]]:
                raise ValueError("its JSON and the report tell different sizes")
            if decode:
                _decode(reader)
    except BrokenClipError as error:
        yield str(error)


def _decode(reader: ClipReader) -> None:
    info = reader.info
    everything = range(info.num_frames)
    whole = Region(0, 0, info.height, info.width)
    for name in ("left", "right") if reader.has_disparity else ("left", "right", "warped"):
        reader.video(name, everything)
    if not reader.has_disparity:
        reader.hole(everything, whole)
        return
    disparity = reader.disparity(everything, whole)
    low, high = (float(value) for value in disparity.aminmax())
    step = 1 / info.disparity_scale
    if abs(low - info.disparity_min) > step or abs(high - info.disparity_max) > step:
        told = f"{info.disparity_min:g} to {info.disparity_max:g}"
        raise ValueError(f"disparity is {low:g} to {high:g} px, its JSON says {told}")


def main(args: Sequence[str] | None = None) -> int:
    """The command line."""
    return run_command(
        "verify", lambda: auto_cli(verify, args=args, parser_class=Parser, prog="python -m data_prep.verify")
    )


if __name__ == "__main__":
    sys.exit(main())
