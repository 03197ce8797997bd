"""Made stereo pairs with known disparity, rendered by hand: no warp or matcher of the project is used."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

HEIGHT, WIDTH = 96, 192
BOX = (slice(28, 72), slice(80, 130))  # rows and columns of the near box in the left view


def texture(height, width, seed):
    """Smooth coloured noise that matches at one place only."""
    noise = np.random.default_rng(seed).uniform(0, 255, (height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 1.2)
    return np.clip((smooth - 127.5) * 3.5 + 127.5, 0, 255).astype(np.uint8)


def pair(far=4, near=14, seed=0, offset=0):
    """(left, right, disparity): a near box before a far wall; `offset` moves the right view down."""
    wall, box = texture(HEIGHT, WIDTH + 64, seed), texture(HEIGHT, WIDTH, seed + 1)
    left, right = wall[:, 32 : 32 + WIDTH].copy(), wall[:, 32 + far : 32 + far + WIDTH].copy()
    disparity = np.full((HEIGHT, WIDTH), far, np.float32)
    rows, columns = BOX
    left[BOX] = box[BOX] // 2
    right[rows, columns.start - near : columns.stop - near] = box[BOX] // 2
    disparity[BOX] = near
    return left, np.roll(right, offset, axis=0), disparity


def video(path: Path, pairs, layout="side-by-side", fps=Fraction(10), container=None):
    """Encodes pairs of (H, W, 3) views losslessly, in one frame."""
    axis = 1 if layout == "side-by-side" else 0
    with av.open(str(path), "w", options=container or {}) as file:
        stream = None
        for left, right in pairs:
            frame = np.concatenate([left, right], axis)
            if stream is None:
                stream = file.add_stream("libx264rgb", rate=fps, options={"crf": "0"})
                stream.height, stream.width, stream.pix_fmt = *frame.shape[:2], "rgb24"
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        file.mux(stream.encode())
    return path


def stereo(path: Path, frames=12, swap=False, **options):
    """A video of `pair`, its near box changing its depth a little."""
    views = [pair(near=14 + index % 3, **options)[:2] for index in range(frames)]
    return video(path, [view[::-1] for view in views] if swap else views)
