"""Depth of a shot of any length by overlapping windows of a video model, on one scale.

Video Depth Anything's way (arXiv:2501.12375, long videos): a window sees two key frames before those that it
shares with the window before, of which the first is the shot's first frame. What the model says of them again
gives scale and shift of the new window, so that an error of one does not add up over the shot.

Shapes: T frames of a stretch, H W pixels of the film, h w of the depth maps.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2svid.depth.base import DepthEstimator

WINDOW = 32  # frames that the model sees together
SHARED = 10  # of them with the window before; the first two places are those of key frames
KEYS = 2
LATER_KEY = 12  # place in a window of the frame that is the next one's second key frame
_CHANNELS = 3


class KeyframeWindows(DepthEstimator):
    """Windows of 32 frames, joined where they share eight by a linear cross-fade.

    Attributes:
        scaled: False where the model's values need no alignment, because they have a unit.
    """

    relative = True
    steady = True
    chunk = WINDOW - SHARED
    overlap = SHARED
    scaled: bool = True

    @abstractmethod
    def prepare(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Give a frame (H, W, 3) as the model sees it, (3, h, w)."""

    @abstractmethod
    def predict(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """Estimate the depth (32, h, w) of a window of pictures (32, 3, h, w)."""

    def __call__(self, frames: Sequence[NDArray[np.uint8]], first: int) -> NDArray[np.float32]:
        """The depth of a shot, see `DepthEstimator`."""
        parts, before = [], None
        for start in range(0, max(len(frames) - SHARED, 1), self.chunk):
            rest = len(frames) - start
            count = rest if rest <= WINDOW else self.chunk
            stretch, ahead = frames[start : start + count], frames[start + count :][:SHARED]
            part, before = self.continued(stretch, first + start, ahead, before)
            parts.append(part)
        return np.concatenate(parts)

    def continued(
        self,
        frames: Sequence[NDArray[np.uint8]],
        first: int,
        ahead: Sequence[NDArray[np.uint8]],
        before: NDArray[Any] | None,
    ) -> tuple[NDArray[np.float32], NDArray[Any] | None]:
        """(2·3 + 2 + 10, h, w) comes with the depth: both key frames as the model sees them, their depth, and
        the depth of the frames ahead."""
        pictures = np.stack([self.prepare(frame) for frame in (*frames, *ahead)])
        pictures = np.concatenate([pictures, pictures[-1:].repeat(WINDOW - len(pictures), 0)])
        if before is None:
            depth = self.predict(pictures)
            keys, known, kept = pictures[:1], depth[:1], depth
        else:
            keys, (known, ahead_of_it) = _keys(before), np.split(before[KEYS * _CHANNELS :], [KEYS])
            pictures[:KEYS] = keys
            depth = self._on_scale(self.predict(pictures), known)
            share = np.linspace(0, 1, SHARED - KEYS, dtype=np.float32)[:, None, None]
            faded = (1 - share) * ahead_of_it[KEYS:] + share * depth[KEYS:SHARED]
            kept = np.concatenate([ahead_of_it[:KEYS], faded, depth[SHARED:]])
        if not ahead:
            return kept[: len(frames)], None
        later = pictures[LATER_KEY], depth[LATER_KEY]
        after = [*keys[0], *later[0], known[0], later[1], *depth[self.chunk :]]
        return kept[: len(frames)], np.stack(after)

    def _on_scale(self, depth: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.float32]:
        """A window's depth on the scale of the shot, by least squares over the key frames' known depth."""
        if not self.scaled:
            return depth
        x, y = depth[:KEYS].astype(np.float64), known.astype(np.float64)
        variance = x.var()
        scale = ((x - x.mean()) * (y - y.mean())).mean() / variance if variance else 1.0
        return (scale * depth + (y.mean() - scale * x.mean())).clip(min=0).astype(np.float32)


def _keys(before: NDArray[np.float32]) -> NDArray[np.float32]:
    return before[: KEYS * _CHANNELS].reshape(KEYS, _CHANNELS, *before.shape[1:])
