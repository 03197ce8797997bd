"""Methods that need no weights or next to none: the bounds between which all others lie."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Generator, Tensor

from m2svid.batch import StereoBatch
from m2svid.errors import UserError
from m2svid.evaluation.methods.base import Method, Trained
from m2svid.model.m2svid import M2SVid
from m2svid.warping.fill import fill_from_background
from m2svid.weights.load import open_model


class LeftCopied(Method):
    """The left view in place of the right one: no stereo at all."""

    own_name = "left"

    def predict(self, clip: StereoBatch, generator: Generator) -> Tensor:
        return clip.left


class Warped(Method):
    """The warped view as it is, black in its holes."""

    own_name = "warped"

    def predict(self, clip: StereoBatch, generator: Generator) -> Tensor:
        return clip.warped


class Filled(Method):
    """The warped view with holes filled from the background beside them."""

    own_name = "filled"

    def predict(self, clip: StereoBatch, generator: Generator) -> Tensor:
        return fill_from_background(clip.warped, clip.hole)


class RoundTrip(Method):
    """The true right view through an autoencoder and back: the ceiling of every latent method.

    Args:
        weights: file or folder that the autoencoder comes from, as for `Weights`; None = the trained model's.
        backbone: see `Weights`.
        name: see `Method`.
    """

    own_name = "vae"

    def __init__(
        self, weights: str | None = None, backbone: str | None = None, name: str | None = None
    ) -> None:
        super().__init__(name)
        self._weights, self._backbone = weights, backbone
        self._model: M2SVid | None = None

    def check(self, frames: int | None = None) -> None:
        if self._weights is not None:
            try:
                open_model(self._weights, "factorized", self._backbone)
            except UserError as error:
                raise UserError(f"method {self.name}: {error}") from error

    def prepare(self, trained: Trained, device: torch.device) -> None:
        self.check()
        self._model = trained.model
        if self._weights is not None:
            self._model = M2SVid.from_pretrained(
                Path(self._weights), device, attention="factorized", backbone=self._backbone
            )

    @torch.no_grad()
    def predict(self, clip: StereoBatch, generator: Generator) -> Tensor:
        right = self._model.decode(self._model.encode(clip.right))
        return (right.float() / 2 + 0.5).clamp(0, 1)


class Truth(Method):
    """The true right view: the metrics' own check."""

    own_name = "truth"

    def predict(self, clip: StereoBatch, generator: Generator) -> Tensor:
        return clip.right
