"""Checkpoints: written whole, before every validation, and when the run is told to stop."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from pathlib import Path
from pickle import UnpicklingError
from types import FrameType
from typing import Any

import torch
from lightning.fabric.utilities.cloud_io import _is_local_file_protocol
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.plugins.io import TorchCheckpointIO

from m2svid.batch import StereoBatch
from m2svid.errors import UserError
from m2svid.files import whole
from m2svid.training.runs import LAST

log = logging.getLogger(__name__)


class WholeCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its target and rename it; Lightning's own way needs room in TMPDIR too."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if not _is_local_file_protocol(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with (
            whole(Path(path), "the checkpoint before it is kept") as temporary,
            temporary.open("wb") as file,
        ):
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # of closing the archive, after the disk was full
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise

    def load_checkpoint(self, path: Any, *args: Any, **options: Any) -> dict[str, Any]:
        try:
            return super().load_checkpoint(path, *args, **options)
        except (RuntimeError, UnpicklingError, EOFError, KeyError) as error:
            raise UserError(f"{path} is no checkpoint that fit has written, or it is damaged") from error


class Checkpoints(ModelCheckpoint):
    """Save `step=N.ckpt`, and `last.ckpt` as a link to the newest one.

    Saved are every n-th step, the last one, and each one after which the model is validated; when the run is
    told to stop (SIGTERM, Ctrl-C, under Slurm also SIGUSR1 or SIGUSR2, which requeue the job), the step that
    is at work. Training continues from each of them as if it had not been interrupted.

    Args:
        every_n_train_steps: optimizer steps between two checkpoints.
        save_top_k: 1 keeps the newest checkpoint, -1 keeps all.
        dirpath: folder; None = `checkpoints` in the run's folder.
    """

    def __init__(
        self, every_n_train_steps: int = 1000, save_top_k: int = 1, dirpath: str | None = None
    ) -> None:
        super().__init__(
            dirpath,
            "{step}",
            every_n_train_steps=every_n_train_steps,
            save_top_k=save_top_k,
            enable_version_counter=False,
        )
        self._signal: int | None = None

    @property
    def state_key(self) -> str:
        return "Checkpoints"  # for Lightning, every_n_train_steps would be a part of it

    # -------------------------------------------------------------------- saving

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: StereoBatch, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return  # no checkpoint holds the gradients of half a step
        told = trainer.strategy.reduce_boolean_decision(self._signal is not None, all=False)
        if told or trainer.global_step == trainer.max_steps or _validates_now(trainer):
            if not self._should_skip_saving_checkpoint(trainer):
                self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))
        else:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if told:
            self._stop(trainer)

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        super()._save_checkpoint(trainer, filepath)
        if trainer.is_global_zero:
            link(Path(filepath), Path(filepath).with_name(LAST))

    # ------------------------------------------------------------------ resuming

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let the learning rate schedule have the length that the configuration gives it now."""
        for state in checkpoint.get("lr_schedulers", ()):
            for name in ("total_steps", "_schedule_phases"):  # of OneCycleLR
                state.pop(name, None)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._signal = signal.SIGTERM if trainer.received_sigterm else None
        self._listen(trainer)
        loop = trainer.fit_loop.epoch_loop
        if trainer.ckpt_path is not None and loop.restarting and _validates_now(trainer):
            # The checkpoint was written before the validation, which Lightning takes for done.
            log.info("validating at step %d, which is later than the checkpoint", trainer.global_step)
            trainer.validating = True
            loop.val_loop.restarting = False
            loop.val_loop.run()
            trainer.training = True

    # ------------------------------------------------------------------ stopping

    def _listen(self, trainer: Trainer) -> None:
        """Note signals instead of Lightning's handlers; the trainer restores the handlers from before."""
        if threading.current_thread() is not threading.main_thread():
            return
        launcher = trainer.strategy.launcher

        def note(signum: int, frame: FrameType | None) -> None:
            if self._signal is not None and signum == signal.SIGINT:
                raise KeyboardInterrupt  # the second Ctrl-C doesn't wait for the step
            if self._signal is None:
                log.info("%s: the run saves after this step and stops", signal.Signals(signum).name)
                self._signal = signum
                if launcher is not None:
                    launcher.kill(signal.SIGTERM)  # to the processes that this one has started

        for signum in (signal.SIGTERM, signal.SIGINT, *_requeue_signals(trainer)):
            signal.signal(signum, note)

    def on_validation_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        if self._signal is not None:
            self._stop(trainer)  # everything is saved, and the validation is repeated

    def _stop(self, trainer: Trainer) -> None:
        """End the process with the status that shells give to a signal."""
        signum = self._signal or signal.SIGTERM
        if trainer.is_global_zero:
            log.info("saved at step %d; --ckpt_path last continues the run", trainer.global_step)
            if signum in _requeue_signals(trainer):
                _requeue()
        raise SystemExit(128 + signum)


def _validates_now(trainer: Trainer) -> bool:
    """True if the model is validated after the batch that has just been trained on."""
    loop = trainer.fit_loop
    return trainer.enable_validation and loop.epoch_loop._should_check_val_fx(loop._data_fetcher)


def link(file: Path, name: Path) -> None:
    """Let `name` be another name of `file`, at every moment of either this file or the one before.

    A hard link, as it outlives the file's first name; a symbolic link for folders, and where the file system
    has no hard links.
    """
    temporary = name.with_name(f".{name.name}.unfinished")
    temporary.unlink(missing_ok=True)
    try:
        os.link(file, temporary)
    except OSError:
        temporary.symlink_to(file.name)
    temporary.replace(name)
    temporary.unlink(missing_ok=True)  # rename leaves it where both are names of one file


def _requeue_signals(trainer: Trainer) -> tuple[int, ...]:
    environment = trainer._accelerator_connector.cluster_environment
    if isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
        return signal.SIGUSR1, signal.SIGUSR2
    return ()


def _requeue() -> None:
    """Put this Slurm job, or this task of an array of jobs, back into the queue."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]
    try:
        subprocess.run(["scontrol", "requeue", job], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        log.error("job %s is not requeued: %s", job, error)
