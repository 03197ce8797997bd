"""What a source of depth is.

Shapes: T frames, H W pixels of the film, h w of the depth maps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2svid.errors import UserError


class DepthEstimator(ABC):
    """Frames in, inverse depth out: large values are near.

    Attributes:
        relative: True where the values of a shot have no fixed scale and are to be normalised over it;
            False where they lie in [0, 1] and are meant as they are.
        num_frames: how many frames the source knows, or None for one that takes any film.
        size: (h, w) of its maps, or None where it follows the film.
        chunk: frames that a call is asked for, but for the last of a shot.
        overlap: frames after those that a call is shown, so that stretches join smoothly.
        memory: what a call leaves to the next one of the shot, for a source with an overlap; to be set to
            what it was after the stretch before, or to None for the first of a shot.
        steady: True where the values of a shot share one scale, so that one near and far hold for all of it.
        resident: bytes of weights that stay on the device between calls.
        alone: True where it takes the device during a call, gives it back, and other models must do the same.
        settings: what was chosen for it and changes the result.
        name: file or model.
        description: one line for the user.
    """

    relative: bool
    num_frames: int | None = None
    size: tuple[int, int] | None = None
    chunk: int = 25
    overlap: int = 0
    memory: NDArray[Any] | None = None
    steady: bool = False
    resident: int = 0
    alone: bool = False
    settings: Mapping[str, int | str] = MappingProxyType({})
    name: str
    description: str

    @abstractmethod
    def __call__(
        self, frames: Sequence[NDArray[Any]], first: int, ahead: Sequence[NDArray[Any]] = ()
    ) -> NDArray[np.float32]:
        """Inverse depth (T, h, w) of some frames of a shot.

        Args:
            frames: T of (H, W, 3) RGB; uint8 for those that look at them.
            first: number of the first of them in the film; grows from call to call.
            ahead: the frames after them, up to `overlap`; fewer at the end of the shot.

        Raises:
            UserError: the depth can't be read or does not belong to the film.
        """

    def check(self, num_frames: int, width: int, height: int) -> None:
        """Raises a UserError where the depth can't belong to a film of this length and size."""
        if self.num_frames is not None and self.num_frames != num_frames:
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
