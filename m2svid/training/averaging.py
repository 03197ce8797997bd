"""An exponential moving average of the trained weights (EMA)."""

from __future__ import annotations

import logging
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from m2svid.errors import UserError
from m2svid.training.sharding import like, whole

log = logging.getLogger(__name__)

CURRENT = "current_weights"
"""Entry of a checkpoint: the weights that training goes on from, where `state_dict` has the averages."""
_AVERAGES = "averages"  # entry of a checkpoint that a fit has read


class AverageWeights(Callback):
    """Validate and save averages of the trained weights.

    After step n, average = d · average + (1 - d) · weights, where d = min(decay, (1 + n) / (10 + n)): the
    random start is soon forgotten, as in the training of latent diffusion. Whatever opens a checkpoint gets
    the averages; a continued run goes on from its own weights, which are in it as well. Averages take as much
    memory as the U-Net's weights, and are sharded where these are.

    Args:
        decay: share of the average that remains after a step, 0 to 1.
    """

    def __init__(self, decay: float = 0.9999) -> None:
        if not 0 <= decay < 1:
            raise UserError(f"AverageWeights: decay={decay} must be at least 0 and less than 1")
        self.decay = decay
        self._loaded: dict[str, Tensor] = {}
        self._weights: dict[str, Tensor] = {}
        self._averages: dict[str, Tensor] = {}
        self._step = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            pl_module.averaged = self.decay

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Not before, since the weights are now on their device, and sharded if they are to be.
        trained = {name: tensor for name, tensor in pl_module.named_parameters() if tensor.requires_grad}
        self._weights = {name: tensor.detach() for name, tensor in trained.items()}
        self._averages = {
            name: like(tensor, self._loaded[name]).to(tensor.device) if self._loaded else tensor.clone()
            for name, tensor in self._weights.items()
        }
        self._loaded, self._step = {}, trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        step = trainer.global_step
        if step == self._step:  # gradients are accumulated
            return
        self._step = step
        update = get_ema_multi_avg_fn(min(self.decay, (1 + step) / (10 + step)))
        update(list(self._averages.values()), list(self._weights.values()), None)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._exchange()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, weight in self._weights.items():
            kept = weight.clone()
            weight.copy_(self._averages[name])
            self._averages[name].copy_(kept)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._weights = {}

    # --------------------------------------------------------------- checkpoints

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        state = checkpoint["state_dict"]
        checkpoint[CURRENT] = {name: state[name] for name in self._averages}
        checkpoint["state_dict"] = state | whole(self._averages, trainer.is_global_zero)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._loaded = checkpoint.pop(_AVERAGES, {})
        if not self._loaded:
            log.info("the checkpoint has no averages: they begin with its weights")


def go_on_from_current(checkpoint: dict[str, Any]) -> None:
    """Put the weights that training goes on from into a checkpoint's state dict, the averages beside it."""
    checkpoint[_AVERAGES] = checkpoint["state_dict"]
    checkpoint["state_dict"] = checkpoint["state_dict"] | checkpoint[CURRENT]
