"""The setting that all measurements of a run share."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import torch

from m2svid.bench.clock import Clock
from m2svid.bench.networks import Networks, make_model
from m2svid.model.m2svid import M2SVid

Numbers = Literal["bfloat16", "float16", "tf32", "float32"]
"""Kinds of numbers; tf32 is float32 in memory, which is rounded where matrices are multiplied."""
GB = 1e9


@dataclass(frozen=True)
class Setting:
    """Of a run.

    Attributes:
        device: what is measured.
        small: networks of a few channels and small clips.
        published: folder of the published code, or None.
        python: interpreter that runs it.
        rates: TFLOP/s of large matrix products by kind of numbers, and GB/s of a copy as `copy`, once they
            are measured.
    """

    device: torch.device
    small: bool = False
    published: Path | None = None
    python: str = sys.executable
    rates: dict[str, float] = field(default_factory=dict)

    @property
    def kinds(self) -> tuple[Numbers, ...]:
        """Kinds of numbers that the device is made for; most measurements have the first."""
        return get_args(Numbers) if self.device.type == "cuda" else ("float32", "bfloat16")

    @property
    def repeats(self) -> int:
        """Number of times that something is timed."""
        return 1 if self.small else 3

    @property
    def clock(self) -> Clock:
        return Clock(self.device)

    def model(self, numbers: Numbers, training: bool = False) -> M2SVid:
        """A random model on the device, the same each time; of training in float32."""
        torch.manual_seed(0)
        networks = Networks.make("m2svid", self.small, str(self.device), dtype_of(numbers))
        return make_model("m2svid", networks, gradient_checkpointing=training)

    def shares(self, seconds: float, tflop: float, gb: float, numbers: Numbers) -> Mapping[str, float]:
        """Shares of some seconds that the card's own rates account for.

        Args:
            seconds: that were measured.
            tflop: operations of matrix products and convolutions in them.
            gb: read and written by everything else.
            numbers: of the matrix products.
        """
        shares = {"matrix_share": tflop / self.rates[numbers], "memory_share": gb / self.rates["copy"]}
        return {name: limit / seconds for name, limit in shares.items()}


def dtype_of(numbers: Numbers) -> torch.dtype:
    """The dtype in memory."""
    return torch.float32 if numbers == "tf32" else getattr(torch, numbers)


@contextmanager
def calculating_in(numbers: Numbers) -> Iterator[None]:
    """Round matrices of float32 to TF32 while the context lasts, or don't, whatever PyTorch's default is."""
    switches = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [switch.allow_tf32 for switch in switches]
    try:
        for switch in switches:
            switch.allow_tf32 = numbers == "tf32"
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value
