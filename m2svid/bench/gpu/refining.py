"""One-step inference: time, memory and share of the card's limits, by stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Literal

import torch
from torch import nn

from m2svid.bench.gpu.counting import Counter
from m2svid.bench.gpu.setting import GB, Numbers, Setting, calculating_in
from m2svid.bench.gpu.stages import STAGES, Stages
from m2svid.bench.networks import make_clip
from m2svid.inference.memory import limit_memory
from m2svid.inference.refiner import Refiner
from m2svid.model.speed import compile_regions

Variant = Literal["eager", "contiguous", "compiled", "holes"]
"""Eager is what `convert` does; contiguous has no channels last; of holes alone see `Refiner`'s `needed`."""
Size = tuple[int, int, int]  # T, H, W
ENOUGH_SECONDS = 12.0  # of repeats


def refine(
    setting: Setting, size: Size, numbers: Numbers, tile: int | None = None, variant: Variant = "eager"
) -> dict[str, Any]:
    """Measure a clip's way through the model, from views in the host's memory to the right view there.

    Args:
        setting: of the run.
        size: of the clip.
        numbers: of the networks.
        tile: side of the U-Net's tiles, px; None = whole frames where there is memory for them.
        variant: of the networks, or of what they are asked for.

    Returns:
        Seconds (median of the repeats, the least and the most), frames a second, peak memory (of tensors, and
        what PyTorch reserves), operations, shares of the card's limits; the same by stage, and the seconds of
        everything else; the plan by which the clip fitted; the seconds of the first run of changed networks.
    """
    clip, model = make_clip(*size), setting.model(numbers)
    views = clip.left[0], clip.warped[0], clip.hole[0]
    tiles = {} if tile is None else {"tile": tile, "tile_overlap": tile // 6 // 8 * 8}
    refiner = Refiner(model, setting.device, window=size[0], overlap=0, **tiles)
    stages = Stages(model, setting.clock)
    needed = clip.hole[0].any(0)[0] if variant == "holes" else None
    work = partial(refiner, *views, fps=24.0, needed=needed)
    with calculating_in(numbers):
        plan = None
        while plan != refiner.memory.plan:  # again where memory was too little for the first plan
            plan = refiner.memory.plan
            stages.begin()
            with Counter() as stages.counter:
                work()
        stages.counter = None
        tflop, gb = stages.tflop, stages.gb
        prepare(model, variant)
        first = setting.clock.time(work) if variant in ("contiguous", "compiled") else 0.0
        runs = _repeat(work, stages, setting)
    result = _summary(setting, size, numbers, runs, tflop, gb)
    return result | {
        "first_seconds": first,
        "reserved_gb": setting.clock.reserved() / GB,
        "plan": str(refiner.memory.plan),
    }


def prepare(model: nn.Module, variant: Variant) -> None:
    """Make a variant of networks, in place."""
    if variant == "contiguous":
        for parameter in model.parameters():
            parameter.data = parameter.data.contiguous()
    elif variant == "compiled":
        compile_regions(model)


@dataclass(frozen=True)
class _Run:
    seconds: float
    stages: dict[str, float]
    peaks: dict[str, int]


def _repeat(work: Callable[[], object], stages: Stages, setting: Setting) -> list[_Run]:
    runs: list[_Run] = []
    while len(runs) < setting.repeats and sum(run.seconds for run in runs) < ENOUGH_SECONDS:
        stages.begin()
        seconds = setting.clock.time(work)
        runs.append(_Run(seconds, stages.seconds(), stages.peaks))
    return runs


def _summary(
    setting: Setting,
    size: Size,
    numbers: Numbers,
    runs: list[_Run],
    tflop: dict[str, float],
    gb: dict[str, float],
) -> dict[str, Any]:
    seconds = median(run.seconds for run in runs)
    by_stage = {}
    for stage in STAGES:
        spent = median(run.stages[stage] for run in runs)
        by_stage[stage] = {
            "seconds": spent,
            "tflop": tflop[stage],
            "traffic_gb": gb[stage],
            "peak_gb": max(run.peaks[stage] for run in runs) / GB,
            **setting.shares(spent, tflop[stage], gb[stage], numbers),
        }
    total = sum(tflop.values())
    return {
        "size": size,
        "numbers": numbers,
        "seconds": seconds,
        "least": min(run.seconds for run in runs),
        "most": max(run.seconds for run in runs),
        "frames_per_s": size[0] / seconds,
        "peak_gb": max(stage["peak_gb"] for stage in by_stage.values()),
        "tflop": total,
        **setting.shares(seconds, total, sum(gb.values()), numbers),
        "stages": by_stage,
        "rest_seconds": seconds - sum(stage["seconds"] for stage in by_stage.values()),
    }


def within(setting: Setting, size: Size, vram: str) -> dict[str, Any]:
    """Measure a clip in float16 as `convert --vram` does it, with what memory it takes from the card.

    Args:
        setting: of the run.
        size: of the clip.
        vram: such as 8G.
    """
    torch.cuda.empty_cache()
    limit_memory(vram, setting.device)
    try:
        result = refine(setting, size, "float16")
        free, total = torch.cuda.mem_get_info(setting.device)
        return result | {"taken_gb": (total - free) / GB}
    finally:
        limit_memory("auto", setting.device)
