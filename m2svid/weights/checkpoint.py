"""The model of a training run, from the `config.yaml` that `fit` writes."""

from __future__ import annotations

from pathlib import Path

import yaml
from jsonargparse import ArgumentParser

from m2svid.attention import AttentionStrategy, Disoccluded
from m2svid.errors import UserError
from m2svid.model.conditioning import Conditioning
from m2svid.model.usage import Usage
from m2svid.recipes import EndToEnd, Recipe
from m2svid.training.backbone import Backbone
from m2svid.weights.load import disassemble
from m2svid.weights.opening import Opened

PARTS = {"backbone": Backbone, "attention": AttentionStrategy, "recipe": Recipe}


def open_run(config: Path) -> Opened:
    """The model that the run started from, with the sampler that its recipe is evaluated with.

    Raises:
        UserError: the file is no config of `fit`.
    """
    content = yaml.safe_load(config.read_text())
    if not isinstance(content, dict) or "backbone" not in content.get("model", {}):
        raise UserError(f"{config} is no config of fit: it has no model.backbone.")
    model = content["model"]
    parser = ArgumentParser(exit_on_error=False)
    for name, kind in PARTS.items():
        parser.add_argument(f"--{name}", type=kind | None)
    made = parser.instantiate(parser.parse_object({name: model.get(name) for name in PARTS}))
    conditioning = Conditioning(model.get("conditioning", ("left", "warped", "mask")))
    built = made.backbone.build(conditioning, made.attention or Disoccluded())
    built.usage = Usage(sampler=(made.recipe or EndToEnd()).sampler, noise_aug=model.get("noise_aug", 0.02))
    parts, settings = disassemble(built)
    return Opened(config, "Lightning checkpoint", parts, settings)
