"""Work on the frames of videos side by side.

Shapes: ... any leading dimensions, C channels, H W pixels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

log = logging.getLogger(__name__)

Image = NDArray[np.uint8] | NDArray[np.float32]
Numbers = NDArray[np.float32]
Flags = NDArray[np.bool_]
Places = NDArray[np.int32]
Packed = NDArray[np.uint32]

_BLOCK = 64  # flags that the processor looks at together


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function with loops over pixels when it is first called, for any number of threads at once.

    The machine code is kept for later processes, in `NUMBA_CACHE_DIR` where that is set, beside the module or
    in the user's cache; where none of them can be written to, every process compiles it anew.
    """
    compile_cached = numba.njit(cache=True, nogil=True, error_model="numpy")
    try:
        return compile_cached(function)
    except RuntimeError as error:
        log.debug("%s is compiled by every process: %s", function.__name__, error)
        return numba.njit(nogil=True, error_model="numpy")(function)


def each_frame(work: Callable[..., None], *videos: Tensor) -> None:
    """Call `work` with a frame (C, H, W) of each video (..., C, H, W), in as many threads as torch has.

    The frames are views: what is written into them is in the videos.
    """
    inference = torch.is_inference_mode_enabled()  # of this thread alone

    def in_mode(*frames: Tensor) -> None:
        with torch.inference_mode(inference):
            work(*frames)

    frames = [video.view(-1, *video.shape[-3:]) for video in videos]
    if len(frames[0]) == 1:
        work(*(video[0] for video in frames))
        return
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(in_mode, *frames))


@compiled
def find(flags: Flags, places: Places) -> int:
    """Fill in where the flags (N,) are set, in order, and tell how many are; quick where few are."""
    count = 0
    for start in range(0, len(flags), _BLOCK):
        block = flags[start : start + _BLOCK]
        some = False
        for x in range(len(block)):
            some |= block[x]
        if some:
            for x in range(len(block)):
                places[count] = start + x
                count += block[x]
    return count
