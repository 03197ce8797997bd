"""fit, validate, test and predict: Lightning's command line over our module and data."""

from __future__ import annotations

import logging
import sys
import warnings
from argparse import ArgumentError
from itertools import pairwise
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import BasePredictionWriter, ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException

from m2svid.errors import UserError
from m2svid.training.callbacks import RunRecord
from m2svid.training.checkpoints import Checkpoints, WholeCheckpointIO
from m2svid.training.datamodule import StereoDataModule
from m2svid.training.module import M2SVidModule
from m2svid.training.option_hints import allowed, reason
from m2svid.training.predictions import PredictionWriter
from m2svid.training.runs import Run, runs


class TrainerCLI(LightningCLI):
    """Lightning's command line with named runs, one seed for everything, and OmegaConf's `${...}` in YAML.

    Args:
        args: verb and options, as on the command line.
    """

    run: Run

    def __init__(self, args: list[str]) -> None:
        # The root logger shows Lightning's messages already.
        for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).handlers.clear()
        # VAE and CLIP are frozen and stay in evaluation mode on purpose.
        warnings.filterwarnings("ignore", r"Found \d+ module\(s\) in eval mode")
        self._verb = args[0]
        super().__init__(
            M2SVidModule,
            StereoDataModule,
            save_config_callback=None,  # RunRecord writes it
            seed_everything_default=0,
            auto_configure_optimizers=False,
            parser_kwargs={
                "parser_mode": "omegaconf",
                "prog": "python -m m2svid",
                "exit_on_error": False,
            },
            args=args,
        )

    def subcommands(self) -> dict[str, set[str]]:
        """The given verb alone: the parsers of the other three would take nearly as long as all else."""
        return {self._verb: super().subcommands()[self._verb]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--run",
            type=str | None,
            help="Name of the run; its folder is runs/NAME. By default the names of the --config files, "
            "joined by +. validate, test, predict and a continued fit find a trained run by it, without a "
            "--config.",
        )
        parser.add_argument(
            "--global_batch",
            type=int | None,
            help="Clips in an optimizer step over all devices, however many: sets "
            "trainer.accumulate_grad_batches.",
        )
        parser.link_arguments("seed_everything", "model.seed", compute_fn=int)
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)

    # ------------------------------------------------------------------- parsing

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the options, after those of the run that they name.

        Raises:
            UserError: an unknown option, or a value that is not allowed.
        """
        verb, *words = args
        name, files = _values(words, "--run"), _values(words, "--config", "-c")
        if name and not (verb == "fit" and files):
            named = Run(name[-1])
            if named.exists:
                files.insert(0, str(named.config))
                words = ["--config", str(named.config), *words]
            elif not files:
                trained = ", ".join(runs()) or "none"
                raise UserError(f"there is no {named.config}; trained runs here: {trained}")
        self.config = self._parse(parser, [verb, *words])
        self.run = Run(self.config[verb].run, files)
        self.config[verb].run = self.run.name

    def _parse(self, parser: LightningArgumentParser, words: list[str]) -> Namespace:
        try:
            return parser.parse_args(words)
        except ArgumentError as error:
            groups = {"trainer": Trainer, "model": M2SVidModule, "data": StereoDataModule}
            hint = allowed(str(error), groups, linked=("seed",))
            raise UserError(f"{reason(str(error))}\n{hint}".strip()) from error

    def _parse_ckpt_path(self) -> None:
        """Read no options from the checkpoint, where Lightning looks for them: it holds none."""

    def _written(self, config: Namespace) -> str:
        """The configuration as config.yaml has it."""
        options = config[self.subcommand].clone()
        options.pop("config", None)
        options.ckpt_path = None
        return self._parser(self.subcommand).dump(options, skip_unset=False)

    # ------------------------------------------------------------- instantiation

    def before_instantiate_classes(self) -> None:
        verb, options = self.subcommand, self.config[self.subcommand]
        self._text = self._written(self.config)
        options.ckpt_path = checkpoint = self.run.find_checkpoint(verb, options.ckpt_path)
        if self.run.exists:
            old_config = self._parse(self.parser, [verb, "--config", str(self.run.config)])
            old, new = (yaml.safe_load(text) for text in (self._written(old_config), self._text))
            if verb == "fit":
                self.run.check_fit(old, new, checkpoint)
            else:
                self.run.check_evaluation(verb, old, new, checkpoint)
        if checkpoint is not None:
            options.model.init_unet = None  # the checkpoint's weights replace it
        if verb == "predict":
            options.return_predictions = False  # they are written; all of them would fill the memory
        _end_schedule(options)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Instantiate the trainer; it writes into the run's folder, unless told otherwise."""
        given = self._get(self.config_init, "trainer")
        folder = str(self.run.folder)
        callbacks = given.callbacks if isinstance(given.callbacks, list) else [given.callbacks]
        callbacks = [callback for callback in callbacks if callback is not None]
        if given.enable_checkpointing is not False and not _some(Checkpoints, callbacks):
            callbacks.append(Checkpoints())
        if self.subcommand == "fit":
            callbacks.insert(0, RunRecord(self.run, self._text))
        if self.subcommand == "predict" and not _some(BasePredictionWriter, callbacks):
            callbacks.append(PredictionWriter())
        for callback in callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(self.run.checkpoints)
            if isinstance(callback, PredictionWriter) and callback.folder is None:
                callback.folder = f"{folder}/predictions"
        logger = given.logger
        if logger is None or logger is True:
            logger = TensorBoardLogger(folder, name="", version="", default_hp_metric=False)
        plugins = given.plugins if isinstance(given.plugins, list) else [given.plugins]
        plugins = [plugin for plugin in plugins if plugin is not None]
        if not _some(CheckpointIO, plugins):
            plugins.append(WholeCheckpointIO())
        placed = {
            "default_root_dir": given.default_root_dir
            or folder,  # not where Slurm's checkpoints of others lie
            "logger": logger,
            "callbacks": callbacks,
            "plugins": plugins,
        }
        trainer = super().instantiate_trainer(**placed, **kwargs)
        self._accumulate(trainer)
        return trainer

    def _accumulate(self, trainer: Trainer) -> None:
        """Set how many batches go into a step, so that `--global_batch` is kept."""
        wanted = self._get(self.config, "global_batch")
        if wanted is None:
            return
        if trainer.accumulate_grad_batches != 1:
            raise UserError(
                f"--global_batch {wanted} sets trainer.accumulate_grad_batches: leave one of the two out "
                "(--global_batch null)"
            )
        sizes = {bucket.batch_size for bucket in self.datamodule.schedule.buckets}
        if len(sizes) > 1:
            raise UserError(
                f"--global_batch {wanted} needs one batch_size in all data.buckets, not "
                f"{', '.join(map(str, sorted(sizes)))}; or set trainer.accumulate_grad_batches"
            )
        devices, clips = trainer.num_devices * trainer.num_nodes, sizes.pop()
        if wanted % (devices * clips):
            raise UserError(
                f"--global_batch {wanted} can't be shared out to {devices} devices with batches of {clips}: "
                "it must be a multiple of their product"
            )
        trainer.accumulate_grad_batches = wanted // (devices * clips)

    # ------------------------------------------------------------------- running

    def _check_evaluation(self) -> None:
        clip = self.datamodule.eval_clip
        self.model.evaluation.check(clip.frames, clip.size)

    before_fit = before_validate = before_test = _check_evaluation

    def _run_subcommand(self, subcommand: str) -> None:
        """Run the verb; if it is told to stop, end with the status that shells give to the signal."""
        try:
            super()._run_subcommand(subcommand)
        except SIGTERMException:
            sys.exit(143)
        except SystemExit as stopped:
            if isinstance(stopped.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise


def _values(words: list[str], *names: str) -> list[str]:
    """Values of an option on the command line: `--name value` and `--name=value`."""
    values = []
    for word, following in pairwise([*words, ""]):
        option, equals, value = word.partition("=")
        if option in names:
            values.append(value if equals else following)
    return values


def _some(kind: type, objects: list[Any]) -> bool:
    return any(isinstance(item, kind) for item in objects)


def _end_schedule(options: Namespace) -> None:
    """Let a OneCycleLR without `total_steps` end with the training.

    Raises:
        UserError: it ends before, where it would fail.
    """
    schedule = options.model.get("lr_scheduler")
    if schedule is None or not schedule.class_path.endswith(".OneCycleLR"):
        return
    given, steps = schedule.init_args, options.trainer.max_steps
    if given.total_steps is None and given.epochs is None:
        given.total_steps = steps
    if given.total_steps is not None and (given.total_steps < steps or given.total_steps == -1):
        raise UserError(
            f"model.lr_scheduler ends after total_steps={given.total_steps}, trainer.max_steps={steps}: "
            "set max_steps and leave total_steps out, which then follows it"
        )
