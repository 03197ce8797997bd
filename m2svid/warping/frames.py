"""Work on the frames of videos side by side.

Shapes: ... any leading dimensions, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import cv2
import torch
from torch import Tensor

_BAND = 1 << 17  # px


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


def bands(height: int, width: int) -> list[slice]:
    """The rows of a frame in parts whose temporaries stay in a processor's cache."""
    rows = max(2, _BAND // width // 2 * 2)
    return [slice(first, min(first + rows, height)) for first in range(0, height, rows)]


def write_frame(frame: Tensor, target: Tensor) -> None:
    """Copy a frame (3, H, W) into a view of the same size, whose memory may have the channels last."""
    if target.device.type == "cpu" and target.stride(0) == 1 and target.movedim(0, -1).is_contiguous():
        cv2.merge(list(frame.numpy()), target.movedim(0, -1).numpy())  # a tenth of torch's time
    else:
        target.copy_(frame)


def interleaved_like(video: Tensor) -> Tensor:
    """An empty video like one of (..., C, H, W), in whose memory the channels of a pixel lie together."""
    return torch.empty(video.movedim(-3, -1).shape, dtype=video.dtype).movedim(-1, -3)
