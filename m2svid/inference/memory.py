"""The plan by which clips go through a model, lowered step by step where memory runs out.

Nothing is estimated. A model starts with what changes its result least, whole frames and all of them at
once; where a device then runs out of memory, the next step is taken and the work done again.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import torch
from torch import nn

from m2svid.errors import UserError

log = logging.getLogger(__name__)

Stage = Literal["encode", "sample", "decode"]
T = TypeVar("T")

TILES = (1024, 768, 512, 384, 256)  # px; smaller ones see too little
DECODE_TILES = (1024, 768, 512)  # px

_UNITS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


@dataclass(frozen=True)
class Plan:
    """Sizes of the pieces in which a clip goes through a model.

    Attributes:
        window: frames that the model sees together.
        tile: side of the U-Net's tiles, px; 0 = whole frames.
        decode_chunk: frames decoded at a time.
        decode_tile: side of the tiles in which they are decoded, px; 0 = whole frames.
        offload: each network is on the device only while it runs.
        encode_chunk: frames of a view encoded at a time; 0 = all of the window.
    """

    window: int
    tile: int = 0
    decode_chunk: int = 1
    decode_tile: int = 0
    offload: bool = False
    encode_chunk: int = 0

    def __str__(self) -> str:
        size = f"tiles of {self.tile} px" if self.tile else "whole frames"
        chunk = min(self.decode_chunk, self.window)
        pieces = f" in tiles of {self.decode_tile} px" if self.decode_tile else ""
        turns = ", networks taking turns" if self.offload else ""
        encoded = f"{self.encode_chunk} encoded and " if self.encode_chunk else ""
        return (
            f"windows of {self.window} frames, {size}, "
            f"{encoded}{chunk} frame{'s' * (chunk > 1)} decoded at a time{pieces}{turns}"
        )


class ShorterWindowError(Exception):
    """The plan has a shorter window now: the caller must begin again with fewer frames."""


class MemoryPlan:
    """The plan of a model, shared by its copies on several devices, so that the smallest device decides.

    What changes the result least is lowered first. Fewer frames encoded at a time, and networks that take
    turns on the device, change nothing. While latents are made, tiles become smaller, then windows where the
    caller allows it. While frames are decoded, fewer are decoded at a time, which ends the decoder's view of
    their neighbours; in tiles only where a single frame is too large, because the decoder was made for whole
    ones: its norms and its attention then take each tile for a frame.

    Args:
        first: the plan to begin with.
        fixed: names of its attributes that stay as they are.
        windows: shorter windows to choose from, longest first; none = the window stays.

    Attributes:
        plan: the plan now.
        on_change: called with every new plan.
    """

    def __init__(
        self, first: Plan, fixed: frozenset[str] = frozenset(), windows: tuple[int, ...] = ()
    ) -> None:
        self.plan = self._first = first
        self.on_change: Callable[[Plan], None] = lambda plan: log.warning("out of memory: now %s", plan)
        self._fixed, self._windows = fixed, windows
        self._lock = threading.Lock()

    def reset(self, plan: Plan | None = None) -> None:
        """Begin again with the first plan, or with one that an earlier run has recorded."""
        self.plan = plan or self._first

    def run(self, stage: Stage, side: int, work: Callable[[Plan], T]) -> T:
        """Do some work, again and with less where memory runs out.

        Args:
            stage: what the work does.
            side: the longer side of its frames, px.
            work: takes the plan to work by.

        Raises:
            ShorterWindowError: the plan's window has become shorter.
            UserError: nothing is left to be lowered.
        """
        while True:
            plan = self.plan
            try:
                return work(plan)
            except torch.OutOfMemoryError as error:
                reason = str(error).partition(". ")[0]
            # Only here, outside of the handler, is the memory of the work free.
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()
            self._lower(plan, stage, side, reason)
            if self.plan.window < plan.window:
                raise ShorterWindowError

    def _lower(self, failed: Plan, stage: Stage, side: int, reason: str) -> None:
        with self._lock:
            if self.plan != failed:  # another device has lowered it meanwhile
                return
            lower = next(self._steps(failed, stage, side), None)
            if lower is None:
                raise UserError(
                    f"there is too little memory even with {failed} ({reason}): give a smaller --window, "
                    "--tile or --decode-chunk, --dtype float16, or a smaller film"
                )
            self.plan = lower
            self.on_change(lower)

    def _steps(self, plan: Plan, stage: Stage, side: int) -> Iterator[Plan]:
        at_once = plan.encode_chunk or plan.window
        if stage == "encode" and at_once > 1:
            yield replace(plan, encode_chunk=at_once // 2)
        if not plan.offload:
            yield replace(plan, offload=True)
        if stage != "decode":
            if "tile" not in self._fixed:
                yield from (replace(plan, tile=tile) for tile in TILES if tile < (plan.tile or side))
            if "window" not in self._fixed:
                yield from (replace(plan, window=number) for number in self._windows if number < plan.window)
            return
        chunk = min(plan.decode_chunk, plan.window)
        if "decode_chunk" not in self._fixed and chunk > 1:
            yield replace(plan, decode_chunk=chunk // 2)
        if "decode_tile" not in self._fixed:
            sides = (tile for tile in DECODE_TILES if tile < (plan.decode_tile or side))
            yield from (replace(plan, decode_tile=tile) for tile in sides)


def limit_memory(size: str, device: torch.device) -> None:
    """Let PyTorch allocate no more than this on a device, however much it has.

    The driver's own memory, some 0.5 GB, is not counted.

    Args:
        size: for instance 8G; "auto" = all of it.
        device: a GPU, unless the size is "auto".

    Raises:
        UserError: the size can't be read, or the device's memory can't be limited.
    """
    wanted = None if size == "auto" else parse_bytes(size)
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, (wanted or total) / total), device)
    elif wanted is not None:
        raise UserError(
            f"--vram {size} limits GPUs, but the models run on {device.type}: give --vram auto, and smaller "
            "--tile, --window or --decode-chunk where memory is short"
        )


def parse_bytes(text: str) -> int:
    """Read a size: "8G" is 8 000 000 000; also K, M, T, and "8GB". Raises UserError for anything else."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?\s*", text.upper())
    if match is None or not float(match[1]):
        raise UserError(f"--vram must be auto or a size such as 8G, not {text!r}")
    return round(float(match[1]) * _UNITS[match[2]])


@contextmanager
def lent(device: torch.device, *networks: nn.Module) -> Iterator[None]:
    """The networks are on a device while the context lasts, and then again where they were."""
    tensors = [t for network in networks for t in (*network.parameters(), *network.buffers())]
    homes = [tensor.data for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.data = tensor.data.to(device)
        yield
    finally:
        for tensor, home in zip(tensors, homes, strict=True):
            tensor.data = home
