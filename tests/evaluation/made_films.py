"""Stereo films whose truth is known: a textured square before a textured wall, both moving."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.metrics.made_views import shifted, texture

NEAR, FAR = 10, 2  # disparities, px


def stereo(frames=4, height=48, width=96, seed=0) -> dict[str, np.ndarray]:
    """left, right (T, H, W, 3) uint8 and disparity (T, H, W) float32 of the left view."""
    wall, square = texture(height, width, seed, smooth=2), texture(height, width, seed + 100, smooth=2)
    views: dict[str, list[np.ndarray]] = {"left": [], "right": [], "disparity": []}
    for t in range(frames):
        inside = np.zeros((height, width), bool)
        inside[12:36, 30 + t : 60 + t] = True
        views["left"].append(np.where(inside[..., None], square, wall))
        moved = shifted(inside, NEAR)
        views["right"].append(np.where(moved[..., None], shifted(square, NEAR), shifted(wall, FAR)))
        views["disparity"].append(np.where(inside, NEAR, FAR).astype(np.float32))
    return {name: np.stack(each) for name, each in views.items()}


def save_film(path: Path, frames: np.ndarray, codec: str = "ffv1", pix_fmt: str = "bgr0") -> Path:
    """(T, H, W, 3) uint8, lossless unless another codec is named."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(8))
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
        if codec == "libx264":
            stream.options = {"crf": "1"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")))
        container.mux(stream.encode(None))
    return path
