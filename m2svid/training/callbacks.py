"""Logging of the configuration, speed, memory, losses and pictures."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import distributed
from torch.utils.tensorboard import SummaryWriter

from m2svid.batch import StereoBatch
from m2svid.files import whole
from m2svid.sheets.draw import encode_gif, error_map, film_strip, strip
from m2svid.training.module import M2SVidModule
from m2svid.training.runs import Run
from m2svid.training.sharding import gathered
from m2svid.video.anaglyph import anaglyph


class RunRecord(Callback):
    """Write the configuration into the run's folder and its loggers, when training really begins.

    A run that fails before its first batch leaves the folder free. A continued run whose options changed
    keeps its earlier configuration as `config_to_stepN.yaml`.

    Args:
        run: which.
        text: its configuration as YAML.
    """

    def __init__(self, run: Run, text: str) -> None:
        self.run = run
        self.text = text

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                quoted = "".join(f"    {line}\n" for line in self.text.splitlines())  # code, in Markdown
                logger.experiment.add_text("config", quoted, trainer.global_step)
            else:
                logger.log_hyperparams(yaml.safe_load(self.text))
        config = self.run.config
        if config.is_file() and config.read_text() != self.text:
            config.replace(config.with_name(f"config_to_step{trainer.global_step}.yaml"))
        with whole(config) as temporary:
            temporary.write_text(self.text)


class StepClock:
    """Signal once after every n-th optimizer step.

    Several batches pass before a step where gradients are accumulated.

    Args:
        steps: optimizer steps between two times.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.last = 0

    def due(self, step: int) -> bool:
        """True if `step` optimizer steps have just been reached and are a multiple of n."""
        reached = step != self.last
        self.last = step
        return reached and step % self.steps == 0


class _IntervalLog(Callback):
    """Collect sums over the batches, and log values made of those of all processes.

    The interval is the trainer's `log_every_n_steps`.
    """

    def __init__(self) -> None:
        self._clock = StepClock(1)
        self._sums: dict[str, float | torch.Tensor] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._clock = StepClock(trainer.log_every_n_steps)
        self._clock.last = trainer.global_step
        self._sums = {}

    def _add(self, **amounts: float | torch.Tensor) -> None:
        for name, amount in amounts.items():
            self._sums[name] = self._sums.get(name, 0.0) + amount

    def _log_if_due(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._clock.due(trainer.global_step):
            return
        values = self.values(_sum_over_processes(self._sums), pl_module)
        self._sums = {}
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)

    def values(self, sums: dict[str, float], pl_module: LightningModule) -> dict[str, float]:
        """The values to log, from the sums over the interval and all processes."""
        raise NotImplementedError


def _sum_over_processes(sums: dict[str, float | torch.Tensor]) -> dict[str, float]:
    own = {name: float(amount) for name, amount in sums.items()}
    if not (distributed.is_available() and distributed.is_initialized()):
        return own
    everybody: list[dict[str, float]] = [{}] * distributed.get_world_size()
    distributed.all_gather_object(everybody, own)
    names = sorted({name for each in everybody for name in each})
    return {name: sum(each.get(name, 0.0) for each in everybody) for name in names}


class Throughput(_IntervalLog):
    """Log samples/s and frames/s of all processes, the share of time they wait for data, clips left out.

    Also the peak memory of the first process in GB: the device's on CUDA, the resident set on a CPU.
    """

    def __init__(self) -> None:
        super().__init__()
        self._begin = self._batch_end = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._begin = self._batch_end = time.perf_counter()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: StereoBatch, batch_idx: int
    ) -> None:
        self._add(waited=time.perf_counter() - self._batch_end)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: StereoBatch, batch_idx: int
    ) -> None:
        self._batch_end = now = time.perf_counter()
        clips = len(batch.keys)
        self._add(samples=clips, frames=clips * batch.num_frames, skipped=batch.skipped)
        self._add(elapsed=now - self._begin)
        self._begin = now
        self._log_if_due(trainer, pl_module)

    def values(self, sums: dict[str, float], pl_module: LightningModule) -> dict[str, float]:
        seconds = sums["elapsed"] / pl_module.trainer.world_size
        return {
            "speed/samples_per_s": sums["samples"] / seconds,
            "speed/frames_per_s": sums["frames"] / seconds,
            "speed/data_wait_share": sums["waited"] / sums["elapsed"],
            "speed/peak_memory_gb": peak_memory_gb(pl_module.device),
            "data/skipped_clips": sums["skipped"],
        }


class LossBreakdown(_IntervalLog):
    """Log the mean loss by bucket and by dataset, over the batches of all processes.

    A batch counts for a dataset if all its clips belong to it.
    """

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: StereoBatch, batch_idx: int
    ) -> None:
        T, _, H, W = batch.left.shape[1:]
        names = [f"loss_by_bucket/{T}x{H}x{W}"]
        datasets = {key.split("/")[0] for key in batch.keys}
        if len(datasets) == 1:
            names.append(f"loss_by_dataset/{datasets.pop()}")
        loss = outputs["loss"] * trainer.accumulate_grad_batches  # which Lightning has divided it by
        for name in names:
            self._add(**{name: loss, f"batches {name}": 1})
        self._log_if_due(trainer, pl_module)

    def values(self, sums: dict[str, float], pl_module: LightningModule) -> dict[str, float]:
        names = [name for name in sums if not name.startswith("batches ")]
        return {name: sums[name] / sums[f"batches {name}"] for name in names}


def peak_memory_gb(device: torch.device) -> float:
    """Peak memory so far in GB: allocated on a CUDA device, resident in this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


class Pictures(Callback):
    """Show in TensorBoard the model's inputs and output for the first clip of a batch.

    A strip left | warped | mask | generated | truth over time, the same as a film, an error map and an
    anaglyph; the film is an animated GIF. Pixels of a prediction that aren't finite are black.

    Args:
        every_n_steps: optimizer steps between two pictures; validation shows its first batch each time.
        frames: rows of the strip, spread evenly over the clip.
    """

    def __init__(self, every_n_steps: int = 500, frames: int = 4) -> None:
        self.every_n_steps = every_n_steps
        self.frames = frames
        self._clock = StepClock(every_n_steps)

    def on_train_start(self, trainer: Trainer, pl_module: M2SVidModule) -> None:
        self._clock.last = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: M2SVidModule, outputs: Any, batch: StereoBatch, batch_idx: int
    ) -> None:
        if self._clock.due(trainer.global_step) and _writers(trainer):
            with gathered(pl_module.model.unet):
                self._show(trainer, pl_module, batch, "train", trainer.global_step)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: M2SVidModule,
        outputs: Any,
        batch: StereoBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if batch_idx == 0 and not trainer.sanity_checking:
            tag = f"val/{batch.keys[0].split('/')[0]}"
            self._show(trainer, pl_module, batch, tag, pl_module.step)

    def _show(
        self, trainer: Trainer, pl_module: M2SVidModule, batch: StereoBatch, tag: str, step: int
    ) -> None:
        writers = _writers(trainer)
        if not trainer.is_global_zero or not writers:
            return
        clip = batch.clip(0)
        with trainer.precision_plugin.forward_context():
            generated = pl_module.predict(clip)[0].float().nan_to_num(0).cpu()
        left, warped, hole = clip.left[0].cpu(), clip.warped[0].cpu(), clip.hole[0].cpu()
        truth = None if clip.right is None else clip.right[0].cpu()
        pictures = {
            "strip": strip(left, warped, hole, generated, truth, rows=self.frames),
            "anaglyph": anaglyph(left[0], generated[0]),
        }
        if truth is not None:
            pictures["error"] = error_map(generated[0], truth[0])
        columns = [left, warped, hole, generated] + ([] if truth is None else [truth])
        film = encode_gif(film_strip(columns), clip.fps[0].item())
        for writer in writers:
            for name, picture in pictures.items():
                writer.add_image(f"{tag}/{name}", picture, step)
            # TensorBoard plays a GIF; add_video would need moviepy to make one.
            image = Summary.Image(encoded_image_string=film, colorspace=3)
            summary = Summary(value=[Summary.Value(tag=f"{tag}/film", image=image)])
            writer.file_writer.add_summary(summary, step)


def _writers(trainer: Trainer) -> list[SummaryWriter]:
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
