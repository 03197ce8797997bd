"""Time and memory of a function in a process of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any


def measured(function: Callable[..., Any], *args: Any) -> tuple[Any, dict[str, float]]:
    """The function's value, and what it took in a fresh process.

    Returns:
        The value, and `seconds`, `gb` (peak memory, with pages of files that the system can drop at any time)
        and `own_gb` (peak without those).
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_watched, function, *args).result()


def _watched(function: Callable[..., Any], *args: Any) -> tuple[Any, dict[str, float]]:
    own = [0.0]

    def watch() -> None:
        while True:
            own[0] = max(own[0], _memory_gb("RssAnon"))
            time.sleep(0.02)

    threading.Thread(target=watch, daemon=True).start()
    begin = time.perf_counter()
    value = function(*args)
    seconds = time.perf_counter() - begin
    return value, {"seconds": seconds, "gb": _memory_gb("VmHWM"), "own_gb": own[0]}


def _memory_gb(entry: str) -> float:
    """An entry of this process's memory table (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(entry)) * 1024 / 1e9
