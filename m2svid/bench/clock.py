"""Time and memory of work on a device."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from pathlib import Path

import torch

Moment = torch.cuda.Event | float


class Clock:
    """Read the time and the memory of a device.

    On a GPU moments are events in its queue, so that nothing waits for it until `seconds` is asked.

    Args:
        device: a GPU, or the CPU, whose memory is that of this process (Linux).
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self.cuda = self.device.type == "cuda"

    def now(self) -> Moment:
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def seconds(self, begin: Moment, end: Moment) -> float:
        """Wait for both moments, and tell the seconds between them."""
        if isinstance(begin, torch.cuda.Event):
            end.synchronize()
            return begin.elapsed_time(end) / 1e3
        return end - begin

    def time(self, work: Callable[[], object]) -> float:
        """Seconds that some work takes."""
        begin = self.now()
        work()
        return self.seconds(begin, self.now())

    def restart_peak(self) -> int:
        """Let the peak of memory begin anew at what is held now, and tell that in bytes."""
        if self.cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
            return torch.cuda.memory_allocated(self.device)
        ctypes.CDLL(None).malloc_trim(0)  # glibc keeps freed memory otherwise
        Path("/proc/self/clear_refs").write_text("5")
        return _resident("VmRSS")

    def peak(self) -> int:
        """The most bytes that were held since the peak began anew."""
        return torch.cuda.max_memory_allocated(self.device) if self.cuda else _resident("VmHWM")

    def reserved(self) -> int:
        """The most bytes that PyTorch has taken from the device since then, its reserve included."""
        return torch.cuda.max_memory_reserved(self.device) if self.cuda else _resident("VmHWM")


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024
