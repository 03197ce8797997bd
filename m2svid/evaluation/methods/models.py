"""Models of M2SVid's kind: the trained one in other settings, and any weights that can be opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from m2svid.batch import StereoBatch
from m2svid.errors import UserError
from m2svid.evaluation.methods.base import Method, Trained
from m2svid.files import checksum
from m2svid.model.m2svid import M2SVid
from m2svid.model.sampler import Sampler
from m2svid.weights.load import open_model
from m2svid.weights.parts import Opened


class TrainedModel(Method):
    """The trained model with another number of steps (Table 10; Table 5, B).

    Args:
        num_steps: of the sampler; None = the recipe's.
        name: see `Method`; None = "model", or "model_N" with N steps.
    """

    own_name = "model"
    autocast = True

    def __init__(self, num_steps: int | None = None, name: str | None = None) -> None:
        super().__init__(name or (None if num_steps is None else f"{self.own_name}_{num_steps}"))
        self.steps = num_steps
        self._trained: Trained | None = None

    def prepare(self, trained: Trained, device: torch.device) -> None:
        self._trained = trained
        self.steps = trained.sampler.with_steps(self.steps).num_steps

    def predict(self, clip: StereoBatch, generator: Generator) -> Tensor:
        trained = self._trained
        trained.model.unet.eval()
        sampler = trained.sampler.with_steps(self.steps)
        return trained.model.predict(clip, sampler, trained.noise_aug, generator=generator)


class Weights(Method):
    """Any weights that `M2SVid.from_pretrained` opens: published files, folders, checkpoints of `fit`.

    They warp as M2SVid and are run as they say themselves.

    Args:
        path: file, folder, or hub id.
        name: see `Method`.
        num_steps: of the sampler; None = the weights' own.
        attention: strategy, where the weights don't tell it, see `M2SVid.from_pretrained`.
        backbone: weights of VAE and image encoder, where `path` holds a U-Net only.
        half: run in bfloat16.

    Attributes:
        model: opened by `prepare`, unless it has been set.
    """

    def __init__(
        self,
        path: str,
        name: str,
        num_steps: int | None = None,
        attention: str | None = None,
        backbone: str | None = None,
        half: bool = False,
    ) -> None:
        super().__init__(name)
        self.path = path
        self.steps = num_steps
        self._attention, self._backbone = attention, backbone
        self._dtype = torch.bfloat16 if half else torch.float32
        self._model: M2SVid | None = None

    @property
    def model(self) -> M2SVid:
        assert self._model is not None, "prepare() comes before predict()"
        return self._model

    @model.setter
    def model(self, model: M2SVid) -> None:
        self._model = model

    @property
    def sampler(self) -> Sampler:
        return self.model.usage.sampler.with_steps(self.steps)

    def check(self, frames: int | None = None) -> None:
        self._open()

    def _open(self) -> Opened:
        try:
            return open_model(self.path, self._attention, self._backbone)
        except UserError as error:
            raise UserError(f"method {self.name}: {error}") from error

    def prepare(self, trained: Trained, device: torch.device) -> None:
        if self._model is None:
            self.check()
            self._model = M2SVid.from_pretrained(
                self.path,
                device,
                self._dtype,
                attention=self._attention,
                backbone=self._backbone,
                **self._options(),
            )
        self.steps = self.sampler.num_steps

    def describe(self) -> dict[str, Any]:
        files = [path for path in (self.path, self._backbone) if path is not None and Path(path).is_file()]
        checksums = {path: checksum(Path(path)) for path in files}
        return super().describe() | {"weights": self.path, "checksums": checksums}

    def _options(self) -> dict[str, int]:
        """Further options of `from_pretrained`."""
        return {}

    def predict(self, clip: StereoBatch, generator: Generator) -> Tensor:
        return self.model.predict(clip, self.sampler, self.model.usage.noise_aug, generator=generator)
