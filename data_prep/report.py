"""Sum up a folder of shards: what is done, what was rejected and why, hours, and the disparity histogram."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from jsonargparse import auto_cli

from data_prep.command import run_command
from data_prep.dataset import Facts
from data_prep.store import Store
from m2svid.errors import UserError
from m2svid.parser import Parser

_BAR = 40  # characters of the histogram's longest bar


def totals(reports: Iterable[Facts]) -> Facts:
    """Sum up the reports of shards: videos, shards, clips, hours, bytes, and rejected clips by reason."""
    reports = list(reports)
    clips = [clip for report in reports for clip in report["clips"]]
    videos = {report["source"] for report in reports}
    with_clips = {report["source"] for report in reports if report["clips"]}
    return {
        "videos": len(videos),
        "videos_without_clips": sorted(videos - with_clips),
        "shards": sum(bool(report["clips"]) for report in reports),
        "clips": len(clips),
        "hours": round(sum(clip["seconds"] for clip in clips) / 3600, 4),
        "bytes": sum(report["tar"]["bytes"] for report in reports),
        "rejected": dict(rejections(reports).most_common()),
    }


def rejections(reports: Iterable[Facts]) -> Counter[str]:
    """Number of rejected clips (or videos) by step and name of the reason."""
    return Counter(reason_name(line) for report in reports for line in report["rejected"])


def reason_name(line: Facts) -> str:
    """Step and name of the reason of a rejection, by which they are counted: "layout: mono"."""
    return f"{line['step']}: {line['reason'].partition(':')[0]}"


def report(folder: str, retry: str | None = None, as_json: bool = False) -> int:
    """Report on a folder of shards.

    Args:
        folder: path or URL of the shards.
        retry: have the shards made again in which something was rejected for this reason, as it is counted
            here ("read: missing"), or in this step ("read"). Their reports are deleted; the command that made
            the shards does the rest.
        as_json: print JSON instead of a table.
    """
    store = Store(folder)
    read = store.read_json(store.names(".json"))
    if not read:
        raise UserError(f"{folder} holds no reports of shards; give the folder that -o named")
    if retry is not None:
        return _retry(store, read.values(), retry)
    planned = sum(plan["shards"] for plan in store.read_json(store.names(".json", "plans")).values())
    facts: Facts = {"planned_shards": planned, "done_shards": len(read), "splits": {}}
    for split in sorted({shard["split"] for shard in read.values()}):
        chosen = [shard for shard in read.values() if shard["split"] == split]
        facts["splits"][split] = totals(chosen) | {"disparity_share": _histogram(chosen)}
    sys.stdout.write((json.dumps(facts, indent=2) if as_json else _text(facts)) + "\n")
    return 0


def _histogram(reports: Sequence[Facts]) -> dict[str, float]:
    """Share of the pixels by disparity, px."""
    counts = np.sum([shard["disparity_pixels"] for shard in reports], axis=0, dtype=float)
    if not counts.sum():
        return {}
    names = [f"{low}..{high}" for low, high in pairwise(reports[0]["disparity_edges"])]
    return dict(zip(names, (counts / counts.sum()).round(5).tolist(), strict=True))


def _text(facts: Facts) -> str:
    lines = [f"shards done: {facts['done_shards']} of {facts['planned_shards']} planned"]
    for split, found in facts["splits"].items():
        lines += [
            "",
            f"{split}: {found['clips']} clips in {found['shards']} shards of {found['videos']} videos, "
            f"{found['hours']:.2f} h, {found['bytes'] / 1e9:.2f} GB",
        ]
        lines += [f"  rejected {times:>7} × {reason}" for reason, times in found["rejected"].items()]
        if found["videos_without_clips"]:
            lines.append(f"  videos without a clip: {len(found['videos_without_clips'])}")
        shares = found["disparity_share"]
        longest = max(shares.values(), default=1)
        for name, share in shares.items():
            lines.append(f"  {name + ' px':>15} {share:7.2%} {'█' * round(_BAR * share / longest)}".rstrip())
    return "\n".join(lines)


def _retry(store: Store, reports: Iterable[Facts], reason: str) -> int:
    chosen = [
        shard
        for shard in reports
        if any(reason in (line["step"], reason_name(line)) for line in shard["rejected"])
    ]
    if not chosen:
        known = ", ".join(repr(name) for name in rejections(reports)) or "nothing"
        raise UserError(f"--retry {reason!r}: nothing was rejected for that; rejected were {known}")
    with store.locked():
        for shard in chosen:
            store.remove(f"{shard['shard']}.json")
            survey = f"surveys/{shard['source']}.json"
            if any("rejected" in found for found in store.read_json([survey]).values()):
                store.remove(survey)
    sys.stdout.write(f"{len(chosen)} shards will be made again by the command that made them\n")
    return 0


def main(args: Sequence[str] | None = None) -> int:
    """The command line."""
    return run_command(
        "report", lambda: auto_cli(report, args=args, parser_class=Parser, prog="python -m data_prep.report")
    )


if __name__ == "__main__":
    sys.exit(main())
