"""Work on the frames of videos side by side.

Shapes: ... any leading dimensions, C channels, H W pixels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
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


def write_frame(frame: Tensor, target: Tensor) -> None:
    """Copy a frame (3, H, W) into a view of the same size, whose memory may have the channels last."""
    if target.device.type == "cpu" and target.stride(0) == 1 and target.movedim(0, -1).is_contiguous():
        cv2.merge(list(frame.numpy()), target.movedim(0, -1).numpy())  # a tenth of torch's time
    else:
        target.copy_(frame)


def interleaved_like(video: Tensor) -> Tensor:
    """An empty video like one of (..., C, H, W), in whose memory the channels of a pixel lie together."""
    return torch.empty(video.movedim(-3, -1).shape, dtype=video.dtype).movedim(-1, -3)
