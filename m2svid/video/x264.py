"""Parameters with which x264 makes the same file of the same pictures."""

from __future__ import annotations

import torch


def repeatable() -> list[str]:
    """Parameters for `x264-params` with which encoding is repeatable.

    With AVX-512, x264's macroblock tree gives other bits on every run (seen with FFmpeg 8 at 320×120 and
    64×48; not with AVX2, nor without the tree).
    """
    return ["asm=AVX2"] if torch.backends.cpu.get_cpu_capability() == "AVX512" else []
