"""The model card: everything that is known about a model beside its tensors.

Checkpoints of `fit` and folders of weights hold it, as plain JSON, and every loader reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

from m2svid.described import Description
from m2svid.errors import UserError
from m2svid.model.sampler import Sampler


@dataclass(frozen=True)
class Usage:
    """Settings for running a model; the defaults are M2SVid's (REFERENCE §2, 3, 6).

    Attributes:
        sampler: turns the denoiser into latents.
        noise_aug: noise level of the conditioning views.
        window: frames that the model takes at a time.
        overlap: frames that windows over a longer video share. The later window gets them as made by the
            earlier one, in place of the warped ones.
        mark_known: whether the mask says that they are known right frames (-1 all over, paper, Appendix E);
            otherwise it stays as it is.
    """

    sampler: Sampler = field(default_factory=Sampler)
    noise_aug: float = 0.02
    window: int = 25
    overlap: int = 3
    mark_known: bool = True

    def __post_init__(self) -> None:
        for name, kind, least in (("window", int, 1), ("overlap", int, 0), ("noise_aug", float, 0)):
            value = getattr(self, name)
            if type(value) not in {int, kind} or value < least:
                raise UserError(f"{name}={value!r} must be a number of at least {least}")
        if self.overlap >= self.window:
            raise UserError(f"overlap={self.overlap} must be smaller than window={self.window}")


@dataclass(frozen=True)
class ModelCard:
    """The description of a model and of how it is run.

    Attributes:
        conditioning: of the U-Net, by class path and arguments.
        attention: strategy, by class path and arguments; None = the weights can't tell.
        usage: how it is run.
        networks: configuration of `unet`, `vae` and `image_encoder`: the library's `config.json`, or class
            path and arguments of a class of the project or of a researcher. Empty in a folder of weights,
            where each stands in its own `config.json`.
        backbone: `path` and `variant` of the weights that Stable Video Diffusion's frozen networks come from;
            None = they are with the model, or it has none.
        step: optimizer steps of training; None = unknown.
        averaged: decay of the moving average over the steps that the weights are; None = they are no average.
        version: of the project, when the card was written.
    """

    conditioning: Description
    attention: Description | None = None
    usage: Usage = field(default_factory=Usage)
    networks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    backbone: Mapping[str, str | None] | None = None
    step: int | None = None
    averaged: float | None = None
    version: str = field(default_factory=lambda: version("m2svid"))

    def to_json(self) -> dict[str, Any]:
        """Dicts, lists, numbers and text."""
        usage = vars(self.usage) | {"sampler": dict(vars(self.usage.sampler))}
        return json.loads(json.dumps({**vars(self), "usage": usage}))

    @classmethod
    def from_json(cls, content: Mapping[str, Any], source: str) -> ModelCard:
        """Inverse of `to_json`.

        Raises:
            UserError: an entry is missing, unknown or wrong; it names `source`.
        """
        try:
            usage = dict(content["usage"])
            usage["sampler"] = Sampler(**usage["sampler"])
            return replace(cls(**content), usage=Usage(**usage))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"the model card in {source} is not of this version ({error})") from error
