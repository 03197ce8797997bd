"""A Lightning checkpoint of `fit`: the tensors that training changes or owns, and the model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from m2svid.errors import UserError
from m2svid.model.card import ModelCard
from m2svid.weights.mismatch import MismatchError
from m2svid.weights.parts import COMPONENTS, Component, Opened, Part, Parts, check_part

CARD = "model_card"
"""Entry of a checkpoint."""

PREFIXES: dict[Component, str] = {component: f"model.{component}." for component in COMPONENTS}
"""Of the tensors' names in a checkpoint."""


def open_checkpoint(path: Path, tensors: Mapping[str, Tensor], card: Mapping[str, Any] | None) -> Opened:
    """The networks that a checkpoint holds, by its card: the U-Net, and all that are not Stable Video
    Diffusion's.

    Args:
        path: of the checkpoint.
        tensors: its state dict.
        card: its entry `CARD`.

    Raises:
        UserError: it has no model card.
        MismatchError: the tensors are not those of its card.
    """
    if card is None:
        raise UserError(
            f"{path} is a checkpoint without a model card, so its model is unknown: continue its run "
            "with `fit --ckpt_path` and this version, whose next checkpoint has one"
        )
    model = ModelCard.from_json(card, str(path))
    rest = dict(tensors)
    parts = {}
    for component, prefix in PREFIXES.items():
        keys = [key for key in rest if key.startswith(prefix)]
        part = Part(model.networks[component], {key.removeprefix(prefix): rest.pop(key) for key in keys})
        if component == "unet" or part.own:
            check_part(str(path), component, part)
            parts[component] = part
        elif keys:
            raise MismatchError(str(path), unexpected=keys)
    if rest:
        raise MismatchError(str(path), unexpected=list(rest))
    return Opened(path, "Lightning checkpoint", Parts(**parts), model)
