"""Steadiness of depth over time, on the procedural world, whose depth is known.

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from m2svid.depth.base import DepthEstimator, DepthRequest
from m2svid.depth.files import DepthFile
from m2svid.depth.keyframes import KeyframeWindows
from m2svid.depth.normalize import PERCENTILES, bounds, normalize
from m2svid.depth.registry import open_depth
from m2svid.depth.shot import ShotDepth, to_disparity
from m2svid.files import save_arrays
from m2svid.synthetic.film import WORLD_RATE
from m2svid.synthetic.world import ProceduralWorld
from m2svid.video.shots import Shot

_FPS = 24
_OBJECTS = 12
_LARGEST = 0.05  # disparity, of the width


def run(
    depth: str | None = None,
    frames: int = 120,
    width: int = 256,
    height: int = 144,
    jitter: float = 0.1,
    seed: int = 0,
    device: str = "cpu",
) -> dict[str, float | int | str]:
    """Measure how unsteady depth is by each way from an estimator to a shot's depth, see `unsteadiness`.

    Without an estimator's weights, the truth stands for what it sees: of other scale and shift in each frame,
    or in each window, as models of single frames and of videos have it.

    Args:
        depth: an estimator to measure, too, as `--depth` of `convert` names it.
        frames: T.
        width: pixels.
        height: pixels.
        jitter: standard deviation of the scale, as a share of it, and of the shift, as a share of the range.
        seed: of the world and of the jitter.
        device: where the estimator runs.

    Returns:
        Unsteadiness in % of the depth's range, on average and at the worst place: of the truth from a file;
        of jittering single frames as they are (`frames_raw`), each normalised by itself (`frames_alone`), and
        as `convert` does it (`frames`); of jittering windows, joined as they are (`windows_joined`), and on
        one scale (`windows`); and of the estimator (`depth`).
    """
    world = ProceduralWorld(seed, height, width, frames, _OBJECTS, _LARGEST * width)
    seen, truth = [], np.empty((frames, height, width), np.float32)
    for place in track(range(frames), description="frames of the world"):
        left, _, disparity, _ = world.frame(place * WORLD_RATE / _FPS)
        seen.append(left.movedim(0, -1).numpy())
        truth[place] = disparity[0].numpy() / world.largest_disparity
    shown = [np.repeat(each[..., None], 3, -1) for each in truth]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_arrays(folder / "truth.npz", depth=np.round(truth * 65535).astype(np.uint16))
        ways = {
            "file": (DepthFile(folder / "truth.npz", "inverse"), seen),
            "frames": (_Frames(jitter, seed), shown),
            "windows_joined": (_Windows(jitter, seed, scaled=False), shown),
            "windows": (_Windows(jitter, seed, scaled=True), shown),
        }
        if depth is not None:
            ways["depth"] = (open_depth(DepthRequest(depth, torch.device(device), seed=seed)), seen)
        figures = {way: unsteadiness(_of_shot(*args, folder / way), truth) for way, args in ways.items()}
    raw = _Frames(jitter, seed)(shown, 0)
    figures["frames_raw"] = unsteadiness(raw, truth)
    figures["frames_alone"] = unsteadiness(normalize(raw, bounds(raw)), truth)
    return {
        "frames": frames,
        "size": f"{width}×{height}",
        "jitter": jitter,
        "depth": str(depth),
        **{f"{way}_percent": round(100 * float(figure.mean()), 4) for way, figure in figures.items()},
        **{f"{way}_worst_percent": round(100 * float(figure.max()), 4) for way, figure in figures.items()},
    }


def unsteadiness(depth: NDArray[np.float32], truth: NDArray[np.float32]) -> NDArray[np.float64]:
    """(T - 1,) mean absolute change of the depth's error to each frame from the one before, as a share of the
    truth's range.

    One scale and shift for the whole shot, by least squares, bring the depth to the truth first, so that a
    steady estimator of any scale has 0, however the scene moves; an error that stays in its place counts as
    nothing.

    Args:
        depth: (T, H, W).
        truth: (T, H, W).
    """
    x, y = depth.astype(np.float64), truth.astype(np.float64)
    deviation = x - x.mean()
    scale = (deviation * y).mean() / max((deviation**2).mean(), 1e-12)
    error = scale * deviation - (y - y.mean())
    low, high = np.percentile(y, PERCENTILES)
    return np.abs(np.diff(error, axis=0)).mean((1, 2)) / (high - low)


def _of_shot(
    estimator: DepthEstimator, frames: Sequence[NDArray[np.uint8] | NDArray[np.float32]], folder: Path
) -> NDArray[np.float32]:
    """(T, H, W) as `convert` has it."""
    depth = ShotDepth(estimator, Shot(0, 0, len(frames)), lambda *at: list(frames[slice(*at)]), folder)
    depth.prepare(lambda _: None)
    maps = np.concatenate([maps for _, maps in depth.maps()])
    return to_disparity(maps, *frames[0].shape[:2], 1.0)[:, 0].numpy()


class _Frames(DepthEstimator):
    """Stands for an estimator of single frames: shown the truth (H, W, 3), it gives each another scale."""

    relative = True
    name = description = "frames of the truth"

    def __init__(self, jitter: float, seed: int) -> None:
        self._jitter, self._seed = jitter, seed

    @classmethod
    def accepts(cls, name: str) -> bool:
        return False

    @classmethod
    def open(cls, request: DepthRequest) -> _Frames:
        return cls(0.0, request.seed)

    def __call__(self, frames: Sequence[NDArray[np.float32]], first: int) -> NDArray[np.float32]:
        return np.stack([self._jittered(frame[..., 0], first + at) for at, frame in enumerate(frames)])

    def _jittered(self, depth: NDArray[np.float32], number: int) -> NDArray[np.float32]:
        scale, shift = np.random.default_rng((self._seed, number)).normal((1, 0), self._jitter)
        return (scale * depth + shift).astype(np.float32)


class _Windows(KeyframeWindows):
    """Stands for a video model: shown the truth (H, W, 3), it gives each window another scale."""

    name = description = "windows of the truth"

    def __init__(self, jitter: float, seed: int, scaled: bool) -> None:
        self._jitter, self.scaled = jitter, scaled
        self._random = np.random.default_rng(seed)

    @classmethod
    def accepts(cls, name: str) -> bool:
        return False

    @classmethod
    def open(cls, request: DepthRequest) -> _Windows:
        return cls(0.0, request.seed, scaled=True)

    def prepare(self, frame: NDArray[np.float32]) -> NDArray[np.float32]:
        return frame.transpose(2, 0, 1)

    def predict(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        scale, shift = self._random.normal((1, 1), self._jitter)  # all above 0, as the model has it
        return (scale * pictures[:, 0] + shift).astype(np.float32)
