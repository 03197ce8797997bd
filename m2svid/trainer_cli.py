"""fit, validate, test and predict: Lightning's command line over our module and data."""

from __future__ import annotations

import logging
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from m2svid.data.datamodule import StereoDataModule
from m2svid.module import M2SVidModule

log = logging.getLogger(__name__)


class TrainerCLI(LightningCLI):
    """One seed for everything, OmegaConf's `${...}` in YAML, and a log of what the run is made of."""

    def __init__(self, args: list[str]) -> None:
        super().__init__(
            M2SVidModule,
            StereoDataModule,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            # A run is continued in its own folder, so its config is written again.
            save_config_kwargs={"overwrite": True},
            parser_kwargs={"parser_mode": "omegaconf", "prog": "python -m m2svid"},
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("seed_everything", "model.seed", compute_fn=int)
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)

    def before_instantiate_classes(self) -> None:
        if self.subcommand == "predict":
            # Predictions are written to files; keeping them all would fill the memory.
            self.config["predict"]["return_predictions"] = False


def run(args: list[str]) -> Any:
    """Parse the options of one of Lightning's verbs and run it."""
    return TrainerCLI(args)
