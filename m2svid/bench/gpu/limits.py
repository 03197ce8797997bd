"""Limits of a card: rates of large matrix products and of a copy."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import torch

from m2svid.bench.gpu.setting import GB, Setting, calculating_in, dtype_of

SIDE, SMALL_SIDE = 8192, 256  # of the matrices
COPIED, SMALL_COPIED = 2**30, 2**20  # bytes
CALLS, TURNS = 10, 5


def measure_rates(setting: Setting) -> dict[str, float]:
    """TFLOP/s by kind of numbers, and GB/s of a copy (bytes read and written), which the setting keeps."""
    side = SMALL_SIDE if setting.small else SIDE
    for numbers in setting.kinds:
        with calculating_in(numbers):
            a, b = (torch.randn(side, side, device=setting.device, dtype=dtype_of(numbers)) for _ in range(2))
            out = torch.empty_like(a)
            seconds = _seconds(setting, lambda a=a, b=b, out=out: torch.mm(a, b, out=out))
        setting.rates[numbers] = 2 * side**3 / seconds / 1e12
    bytes_ = SMALL_COPIED if setting.small else COPIED
    source = torch.randint(256, (bytes_,), dtype=torch.uint8, device=setting.device)
    target = torch.empty_like(source)
    setting.rates["copy"] = 2 * bytes_ / _seconds(setting, lambda: target.copy_(source)) / GB
    return dict(setting.rates)


def _seconds(setting: Setting, work: Callable[[], object]) -> float:
    def calls() -> None:
        for _ in range(CALLS):
            work()

    calls()
    return median(setting.clock.time(calls) for _ in range(TURNS)) / CALLS
