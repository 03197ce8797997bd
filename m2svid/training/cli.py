"""fit, validate, test and predict: Lightning's command line over our module and data."""

from __future__ import annotations

import logging
import warnings
from argparse import ArgumentError

from lightning.pytorch import Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from m2svid.data.datamodule import StereoDataModule
from m2svid.errors import UserError
from m2svid.training.module import M2SVidModule
from m2svid.training.option_hints import allowed


class TrainerCLI(LightningCLI):
    """One seed for everything, and OmegaConf's `${...}` in YAML.

    Args:
        args: verb and options, as on the command line.
    """

    def __init__(self, args: list[str]) -> None:
        # The root logger shows Lightning's messages already.
        for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).handlers.clear()
        super().__init__(
            M2SVidModule,
            StereoDataModule,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            # A run is continued in its own folder, so its config is written again.
            save_config_kwargs={"overwrite": True},
            parser_kwargs={
                "parser_mode": "omegaconf",
                "prog": "python -m m2svid",
                "exit_on_error": False,
            },
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("seed_everything", "model.seed", compute_fn=int)
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse; what is not understood ends in what would be.

        Raises:
            UserError: an unknown option, or a value that is not allowed.
        """
        try:
            self.config = parser.parse_args(args)
        except ArgumentError as error:
            groups = {"trainer": Trainer, "model": M2SVidModule, "data": StereoDataModule}
            hint = allowed(str(error), groups, linked=("seed",))
            raise UserError(f"{error}\n{hint}".strip()) from error

    def before_instantiate_classes(self) -> None:
        if self.subcommand == "predict":
            # Predictions are written to files; keeping them all would fill the memory.
            self.config["predict"]["return_predictions"] = False
        if self.subcommand != "fit":
            # The run's config.yaml stays the one that its checkpoints were trained with.
            self.save_config_callback = None
        # VAE and CLIP are frozen and stay in evaluation mode on purpose.
        warnings.filterwarnings("ignore", r"Found \d+ module\(s\) in eval mode")
