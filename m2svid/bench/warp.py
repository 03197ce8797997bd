"""Time of warping and mask closing, against NumPy and OpenCV.

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m2svid.bench.clock import Clock
from m2svid.synthetic.world import ProceduralWorld
from m2svid.warping.mask import CLOSING_SIZE, close_hole
from m2svid.warping.splat import warp

PUBLISHED_MS = 44  # the published NumPy code, 512×512, on a machine of 2 cores; not measured here


def run(
    frames: int = 16, size: int = 512, repeats: int = 7, threads: int = 2, device: str = "cpu"
) -> dict[str, float | int | str]:
    """Warp a clip of the procedural world and close its holes.

    Args:
        frames: T.
        size: height and width, pixels.
        repeats: timed runs of each part, after one that is not timed; the median counts.
        threads: of torch and OpenCV on the CPU.
        device: of our side, such as cpu or cuda; the references always run on the CPU.

    Returns:
        Milliseconds a frame of warping (uint8 in and out) and of closing; of the same work by the NumPy
        scatter reference and by OpenCV; how many times faster we are; in how many pixels the results differ.
    """
    seen = ProceduralWorld(seed=0, height=size, width=size, num_frames=frames).render()
    left, disparity = seen.left.to(device), seen.disparity.to(device)
    hole = warp(left, disparity)[1]
    frames_np = (seen.left.movedim(1, -1).contiguous().numpy(), seen.disparity[:, 0].numpy())
    holes_np = hole[:, 0].byte().cpu().numpy()
    clock = Clock(device)
    work: dict[str, Callable[[], object]] = {
        "warp": lambda: warp(left, disparity),
        "close": lambda: close_hole(hole),
        "numpy_scatter": lambda: [numpy_scatter(*frame) for frame in zip(*frames_np, strict=True)],
        "opencv_close": lambda: [_opencv_close(mask) for mask in holes_np],
    }
    with _threads(threads):
        # in turns, so that a slow spell of the machine hits all alike
        turns = [{name: clock.time(part) for name, part in work.items()} for _ in range(repeats + 1)][1:]
    ms = {name: 1000 * median(turn[name] for turn in turns) / frames for name in work}
    return {
        "frames": frames,
        "size": size,
        "threads": threads,
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        **{f"{name}_ms": value for name, value in ms.items()},
        "published_warp_ms": PUBLISHED_MS,
        "times_faster_than_numpy_scatter": median(turn["numpy_scatter"] / turn["warp"] for turn in turns),
        "times_faster_than_opencv_close": median(turn["opencv_close"] / turn["close"] for turn in turns),
        "pixels_that_differ": _differences(left, disparity, frames_np, holes_np),
    }


def numpy_scatter(
    left: NDArray[np.uint8], disparity: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The same warp as two scatters with NumPy's indexing, where the last of several writes stays.

    Args:
        left: (H, W, 3).
        disparity: (H, W), pixels.

    Returns:
        warped: (H, W, 3).
        hole: (H, W).
    """
    height, width = disparity.shape
    rows, columns = np.indices((height, width))
    floor = np.floor(disparity)
    total, weight_sum = np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32)
    for shift, weight in ((floor, 1 - (disparity - floor)), (floor + 1, disparity - floor)):
        target = columns - shift.astype(np.int64)
        within = target >= 0
        weights, colours = np.zeros((height, width), np.float32), np.zeros((height, width, 3), np.float32)
        # Row by row from left to right: in one row the last to arrive is the nearest.
        weights[rows[within], target[within]] = weight[within]
        colours[rows[within], target[within]] = left[within]
        total += colours * weights[..., None]
        weight_sum += weights
    hole = weight_sum == 0
    return (total / (weight_sum + hole)[..., None]).astype(np.uint8), hole


def _opencv_close(hole: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return cv2.morphologyEx(hole, cv2.MORPH_CLOSE, np.ones((CLOSING_SIZE, CLOSING_SIZE), np.uint8))


def _differences(
    left: Tensor,
    disparity: Tensor,
    frames: tuple[NDArray[np.uint8], NDArray[np.float32]],
    holes: NDArray[np.uint8],
) -> int:
    warped, hole = (result.cpu().numpy() for result in warp(left, disparity))
    closed = close_hole(torch.from_numpy(hole).to(left.device)).cpu().numpy()
    wrong = 0
    for t, frame in enumerate(zip(*frames, strict=True)):
        expected, expected_hole = numpy_scatter(*frame)
        wrong += int((warped[t].transpose(1, 2, 0) != expected).any(-1).sum())
        wrong += int((hole[t, 0] != expected_hole).sum() + (closed[t, 0] != _opencv_close(holes[t])).sum())
    return wrong


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
