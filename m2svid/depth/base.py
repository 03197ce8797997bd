"""The interface of everything that gives the depth of a film.

Shapes: T frames, K of the next stretch, H W pixels of the film, h w of the depth maps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from m2svid.errors import UserError
from m2svid.inference.memory import MemoryPlan

Kind = Literal["auto", "inverse", "flipped", "metric"]
Span = Literal["auto", "shot"]


@dataclass(frozen=True)
class DepthRequest:
    """The user's options on depth; each estimator takes what concerns it.

    Attributes:
        name: file, folder, or hub id.
        device: where a model runs.
        dtype: numbers that it calculates with; None = the file's.
        seed: of its noise.
        backbone: folder or hub id of the networks that it doesn't hold itself.
        kind: meaning of a file's values.
        span: "auto" takes a file's fixed range as it is; "shot" normalises every shot.
    """

    name: str
    device: torch.device
    dtype: torch.dtype | None = None
    seed: int = 0
    backbone: str | None = None
    kind: Kind = "auto"
    span: Span = "auto"


class DepthEstimator(ABC):
    """Frames in, inverse depth out: large values are near.

    Attributes:
        relative: True where the values of a shot have no fixed scale and are normalised over it; False where
            they lie in [0, 1] and are meant as they are.
        looks: True where it looks at the frames; False where only their numbers matter.
        steady: True where the values of a shot share one scale, so that one near and far hold for all of it.
        num_frames: frames that the source has, 1 being that of all; None for one that takes any film.
        size: (h, w) of its maps, or None where it follows the film.
        chunk: frames that a call is given, but for the last of a shot.
        overlap: frames after those that a call is shown, so that stretches join smoothly.
        offload: True where its networks are on the device only while they run, so that others can be there.
        memory: plan of its model; None = it has none.
        settings: choices that change the result, apart from the user's options.
        crop: takes the part inside of black bars out of maps of whole frames, as files hold them.
        name: file or model.
        description: one line for the user.
    """

    relative: bool
    looks: bool = True
    steady: bool = False
    num_frames: int | None = None
    size: tuple[int, int] | None = None
    chunk: int = 25
    overlap: int = 0
    offload: bool = False
    memory: MemoryPlan | None = None
    settings: Mapping[str, int | str] = MappingProxyType({})
    crop: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None
    name: str
    description: str

    @classmethod
    @abstractmethod
    def accepts(cls, name: str) -> bool:
        """Return True for a file, folder or hub id of this kind."""

    @classmethod
    @abstractmethod
    def open(cls, request: DepthRequest) -> DepthEstimator:
        """Open what `accepts` has accepted. Raises UserError where it can't be had."""

    @abstractmethod
    def __call__(self, frames: Sequence[NDArray[Any]], first: int) -> NDArray[np.float32]:
        """Estimate the inverse depth (T, h, w) of frames of a shot.

        Args:
            frames: T of (H, W, 3) RGB, uint8; anything where it doesn't look at them.
            first: number of the first of them in the film; grows from call to call.

        Raises:
            UserError: the depth can't be read or does not belong to the film.
        """

    def continued(
        self,
        frames: Sequence[NDArray[Any]],
        first: int,
        ahead: Sequence[NDArray[Any]],
        before: NDArray[Any] | None,
    ) -> tuple[NDArray[np.float32], NDArray[Any] | None]:
        """Estimate a stretch of a shot after the one before it; the next needs what comes with the depth.

        Args:
            frames: see `__call__`.
            first: see `__call__`.
            ahead: K frames after them, up to `overlap`; fewer at the end of the shot.
            before: what came with the depth of the stretch before; None = it is the shot's first.
        """
        return self(frames, first), None

    def begin_shot(self) -> tuple[int, int]:
        """Settle `chunk` and `overlap` for the shot that begins, and return them."""
        return self.chunk, self.overlap

    def share_memory(self, other: DepthEstimator) -> None:
        """Follow the plan of the same estimator on another device, so that both give the same depth."""
        self.memory = other.memory

    def excerpt(self, first: int, count: int) -> None:
        """Give the depth of a part of the film: of `count` frames from number `first` on.

        Raises:
            UserError: the source has fewer frames.
        """
        raise NotImplementedError(f"{self.name} takes any film")  # called where it has `num_frames`

    def check(self, num_frames: int, width: int, height: int) -> None:
        """Raise a UserError where the depth can't belong to a film of this length and size."""
        if self.num_frames not in (None, 1, num_frames):
            raise UserError(
                f"the depth of {self.name} has {self.num_frames} frames, the film {num_frames}: "
                "they must be of the same length"
            )
        if self.size is None:
            return
        h, w = self.size
        slack = max(width / w, height / h)  # the depth's own rounding, in pixels of the film
        if abs(width * h / w - height) > slack + 0.01 * height:
            raise UserError(
                f"the depth of {self.name} is {w}×{h}, which is not the shape of the film, {width}×{height}"
            )
