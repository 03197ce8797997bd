"""Runs that can't be mixed up: names, folders, and what is refused in a folder that holds a run."""

import shutil

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.nn import Parameter
from torch.optim import SGD

from m2svid.cli import main
from m2svid.training.checkpoints import Checkpoints
from m2svid.training.cli import TrainerCLI
from m2svid.training.predictions import PredictionWriter
from m2svid.training.runs import differences, told
from tests.test_cli import refused
from tests.tiny_run import CONFIGS, LAST, QUICKSTART, RUN

SIZE = "frames: 1, height: 8, width: 8"
BASE = ("--config", str(CONFIGS / "quickstart.yaml"))


@pytest.fixture
def built(tmp_path, monkeypatch):
    """The command line with everything made and nothing run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(TrainerCLI, "_run_subcommand", lambda cli, verb: None)
    return lambda *words: TrainerCLI(list(words))


@pytest.fixture
def in_fitted(fitted, monkeypatch):
    monkeypatch.chdir(fitted.folder)


def test_differences_are_named_with_both_values():
    recipe = {"class_path": "a.A", "init_args": {"x": 1}}
    old = {"lr": 1e-6, "buckets": [1], "recipe": recipe, "deep": {"a": 1, "b": None}, "same": {"c": [1]}}
    new = {
        "lr": 2e-6,
        "buckets": [1, 2],
        "recipe": {"class_path": "b.B", "init_args": {}},
        "same": {"c": [1]},
    }
    new["deep"] = {"a": 1, "b": "text"}
    changed = differences(old, new)
    assert changed == {
        "buckets": ([1], [1, 2]),
        "deep.b": (None, "text"),
        "lr": (1e-6, 2e-6),
        "recipe": ("a.A", "b.B"),  # and not x, which b.B doesn't have
    }
    assert told(changed) == "buckets: [1] -> [1, 2], deep.b: null -> text, lr: 1.0e-06 -> 2.0e-06 and 1 more"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            "fit --model.noise_aug 0.5",
            "holds a run of another configuration, model.noise_aug: 0.02 -> 0.5: ",
        ),
        ("fit", "runs/quickstart holds this run already: continue it by --ckpt_path last"),
        (
            "fit --ckpt_path last --model.optimizer.init_args.lr 0.5",
            "runs/quickstart continues as it began, but model.optimizer.init_args.lr: 0.001 -> 0.5",
        ),
        ("fit --ckpt_path last --seed_everything 3", "continues as it began, but seed_everything: 0 -> 3"),
        (
            "validate --model.noise_aug 0.5",
            "was trained otherwise, model.noise_aug: 0.02 -> 0.5",
        ),
        ("test --ckpt_path other.ckpt", "other.ckpt is no checkpoint of runs/quickstart"),
    ],
)
def test_two_runs_are_never_mixed_in_a_folder(words, sentence, in_fitted, capsys, tmp_path):
    verb, *options = words.split()
    if "other.ckpt" in options:
        options[-1] = str(shutil.copy(LAST, tmp_path / "other.ckpt"))
    before = (RUN / "config.yaml").read_bytes()
    assert sentence in refused([verb, *QUICKSTART, *options], capsys)
    assert (RUN / "config.yaml").read_bytes() == before


def test_a_run_that_is_not_there_is_named(built, tmp_path, capsys):
    for name in ("trained", "begun"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        shutil.copy(CONFIGS / "quickstart.yaml", tmp_path / "runs" / name / "config.yaml")
    sentence = refused(["validate", "--run", "trian"], capsys)
    assert sentence.endswith("there is no runs/trian/config.yaml; trained runs here: begun, trained")
    assert "runs/begun has no checkpoint" in refused(["predict", "--run", "begun"], capsys)


def test_an_interrupted_run_may_change_what_training_does_not_depend_on(fitted, built, monkeypatch, caplog):
    monkeypatch.chdir(fitted.folder)
    cli = built(
        "fit", "--run", RUN.name, "--ckpt_path", "last", "--trainer.max_steps", "20", "--data.num_workers=0"
    )
    assert "continues with data.num_workers: 1 -> 0, trainer.max_steps: 8 -> 20" in caplog.text
    assert cli.config_init.fit.ckpt_path == str(LAST)
    assert cli.model.make_lr_scheduler(SGD([Parameter(torch.zeros(1))], 0.1)).total_steps == 20


def test_everything_lies_in_the_runs_folder(built):
    cli = built("fit", *BASE, "--config", str(CONFIGS / "recipe" / "latent.yaml"))
    folder = "runs/quickstart+latent"
    assert cli.trainer.default_root_dir.endswith(folder)
    assert cli.trainer.log_dir.rstrip("/") == folder
    (checkpoints,) = cli.trainer.checkpoint_callbacks
    assert isinstance(checkpoints, Checkpoints) and checkpoints.dirpath == f"{folder}/checkpoints"
    callbacks = built("predict", *BASE).trainer.callbacks
    (writer,) = [callback for callback in callbacks if isinstance(callback, PredictionWriter)]
    assert writer.folder == "runs/quickstart/predictions"


def test_what_the_user_places_stays_there(built, tmp_path):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("""
trainer:
  default_root_dir: elsewhere
  logger: {class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: tables}}
  callbacks:
    - {class_path: lightning.pytorch.callbacks.ModelCheckpoint, init_args: {dirpath: best, monitor: val/psnr}}
""")
    cli = built("fit", *BASE, "--config", str(overlay))
    assert isinstance(cli.trainer.logger, CSVLogger) and cli.trainer.logger.save_dir == "tables"
    assert cli.trainer.default_root_dir.endswith("elsewhere")
    own, *others = cli.trainer.checkpoint_callbacks
    assert type(own) is ModelCheckpoint and own.dirpath == str(tmp_path / "best")
    (last,) = others  # the run can be continued all the same
    assert last.dirpath == "runs/quickstart+overlay/checkpoints"


def test_one_seed_for_everything(built):
    cli = built("fit", *BASE, "--seed_everything", "7")
    assert cli.model.seed == cli.datamodule.seed == 7


@pytest.mark.parametrize(("devices", "accumulated"), [(1, 6), (2, 3), (3, 2)])
def test_the_global_batch_is_kept_whatever_the_devices(built, devices, accumulated):
    several = ["--trainer.strategy", "ddp", "--trainer.devices", str(devices)]
    cli = built("fit", *BASE, "--global_batch", "6", *several)
    assert cli.trainer.accumulate_grad_batches == accumulated


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--trainer.strategy", "ddp", "--trainer.devices", "4"],
            "6 can't be shared out to 4 devices with batches of 1",
        ),
        (
            [
                "--data.buckets",
                "[{frames: 1, height: 8, width: 8, batch_size: 2}, {frames: 1, height: 8, width: 8}]",
            ],
            "--global_batch 6 needs one batch_size in all data.buckets, not 1, 2",
        ),
    ],
)
def test_a_global_batch_that_cannot_be_kept_is_refused(built, options, sentence, capsys):
    assert sentence in refused(["fit", *BASE, "--global_batch", "6", *options], capsys)


def test_a_schedule_ends_with_the_training(built):
    cli = built("fit", *BASE, "--trainer.max_steps", "600")
    schedule = cli.model.make_lr_scheduler(SGD([Parameter(torch.zeros(1))], 0.1))
    assert schedule.total_steps == 600


def test_the_configuration_is_in_the_folder_and_in_the_logger(fitted):
    config = yaml.safe_load((fitted.folder / RUN / "config.yaml").read_text())
    assert config["run"] == RUN.name
    assert config["trainer"]["max_steps"] == 8
    assert config["model"]["lr_scheduler"]["init_args"]["total_steps"] is None  # so that it can be continued


def test_overview_of_help_needs_no_run(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--help"])
    assert stopped.value.code == 0
    assert "--global_batch" in capsys.readouterr().out
