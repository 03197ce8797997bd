"""A method: one row of a table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from m2svid.batch import StereoBatch
from m2svid.evaluation.methods.warps import ClosedNearest, Warp
from m2svid.model.m2svid import M2SVid
from m2svid.model.sampler import Sampler


@dataclass(frozen=True)
class Trained:
    """The model that a run trains, as it is evaluated.

    Attributes:
        model: in evaluation mode.
        sampler: of the recipe.
        noise_aug: level of the conditioning noise.
    """

    model: M2SVid
    sampler: Sampler
    noise_aug: float


class Method(ABC):
    """Make right views that are measured beside the trained model's.

    Args:
        name: of the method in tables and file names; None = its own.

    Attributes:
        name: unique in an evaluation.
        warp: how it warps the left view.
        steps: of its sampler; None = it has none.
        licence: what its licence forbids, for the table's notes; empty = nothing.
        autocast: whether it runs in the precision of the run; otherwise in that of its weights.
    """

    warp: Warp = ClosedNearest()
    steps: int | None = None
    licence: str = ""
    autocast: bool = False
    own_name: str

    def __init__(self, name: str | None = None) -> None:
        self.name = self.own_name if name is None else name

    def check(self, frames: int | None = None) -> None:
        """See whether `prepare` and `predict` would fail, without loading what is large.

        Args:
            frames: of the clips, if known.

        Raises:
            UserError: weights are missing or don't fit, or clips are too long.
        """
        del frames

    def prepare(self, trained: Trained, device: torch.device) -> None:
        """Load what `predict` needs; called before the first clip of an evaluation.

        Raises:
            UserError: weights are missing or don't fit.
        """
        del trained, device

    @abstractmethod
    def predict(self, clip: StereoBatch, generator: Generator) -> Tensor:
        """The right view of a clip.

        Args:
            clip: a batch of one, float in [0, 1]; its warped view and hole come from `warp`.
            generator: of everything random, on the clip's device.

        Returns:
            (1, T, 3, H, W) in [0, 1].
        """

    def describe(self) -> dict[str, Any]:
        """The entry for the method in the results."""
        return {
            "class": f"{type(self).__module__}.{type(self).__qualname__}",
            "warp": self.warp.name,
            "steps": self.steps,
            "licence": self.licence,
        }
