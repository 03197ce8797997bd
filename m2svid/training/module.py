"""The LightningModule: steps, logging, optimizer. No maths."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Generator, Tensor

from m2svid.attention import AttentionStrategy
from m2svid.batch import StereoBatch
from m2svid.errors import UserError
from m2svid.evaluation.evaluation import BaselineName, Evaluation
from m2svid.metrics.stereo import MetricName
from m2svid.model.card import ModelCard
from m2svid.model.conditioning import Conditioning, InputName
from m2svid.recipes import EndToEnd, Recipe
from m2svid.training.backbone import Backbone
from m2svid.weights.checkpoint import CARD, PREFIXES
from m2svid.weights.mismatch import check
from m2svid.weights.parts import shapes_of

log = logging.getLogger(__name__)


def adamw(parameters: Any) -> torch.optim.Optimizer:
    """The paper's optimizer: AdamW, learning rate 2e-6 (Appendix C)."""
    return torch.optim.AdamW(parameters, lr=2e-6)


class M2SVidModule(LightningModule):
    """M2SVid in training and evaluation.

    Args:
        backbone: where the networks come from: Stable Video Diffusion, or small random ones.
        recipe: how a batch becomes a loss.
        conditioning: what the U-Net sees beside the noisy latent: a list of names in this order, or a class
            of your own; None = what the backbone's weights were made for, else left, warped, mask.
        attention: which tokens the spatial attention of disoccluded tokens sees; None = the strategy that the
            backbone's weights were made for, else `Disoccluded`.
        optimizer: makes the optimizer of the U-Net's parameters.
        lr_scheduler: makes the learning rate schedule, stepped every training step; None keeps it constant.
        noise_aug: noise level of the conditioning videos in evaluation; 0 evaluates without.
        metrics: what validation and test measure.
        baselines: views that need no model and are measured beside it: `warped` as it is, and `filled` from
            the background side.
        vgg_weights: file of torchvision's VGG16 weights for the LPIPS metric; None = in torch hub's cache.
        metric_weights: weights of other metrics by name: fvd takes StyleGAN-V's `i3d_torchscript.pt`,
            clip_consistency a folder such as Stable Video Diffusion's `image_encoder`.
        init_unet: Lightning checkpoint whose U-Net weights training or evaluation starts from (unlike
            `--ckpt_path`, which also restores optimizer, step and data position).
        seed: seeds everything random in a step, together with rank and batch; the command line sets it to
            `seed_everything`.
    """

    def __init__(
        self,
        backbone: Backbone,
        recipe: Recipe | None = None,
        conditioning: Conditioning | Sequence[InputName] | None = None,
        attention: AttentionStrategy | None = None,
        optimizer: OptimizerCallable = adamw,
        lr_scheduler: LRSchedulerCallable | None = None,
        noise_aug: float = 0.02,
        metrics: Sequence[MetricName] = ("psnr", "ms_ssim", "lpips"),
        baselines: Sequence[BaselineName] = (),
        vgg_weights: str | None = None,
        metric_weights: dict[str, str] | None = None,
        init_unet: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if noise_aug < 0:
            raise UserError(f"model.noise_aug is a noise level and can't be negative, got {noise_aug}")
        self.recipe = recipe if recipe is not None else EndToEnd()
        self.evaluation = Evaluation(metrics, baselines, vgg_weights, metric_weights)
        if conditioning is not None and not isinstance(conditioning, Conditioning):
            conditioning = Conditioning(conditioning)
        self.model = backbone.build(conditioning, attention)
        self.model.requires_grad_(False).eval()
        self.model.unet.requires_grad_(True).train()
        self.make_optimizer = optimizer
        self.make_lr_scheduler = lr_scheduler
        self.noise_aug = noise_aug
        self.seed = seed
        self._loaded_step = 0
        if init_unet is not None:
            self._init_unet(init_unet)

    def _init_unet(self, path: str) -> None:
        if not Path(path).is_file():
            raise UserError(f"model.init_unet: there is no file {path}")
        try:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            state = checkpoint["state_dict"]
        except (RuntimeError, UnpicklingError, EOFError, KeyError, TypeError) as error:
            raise UserError(f"model.init_unet: {path} is no checkpoint that `fit` has written") from error
        self.load_state_dict(state)
        log.info("U-Net weights from %s (step %s)", path, checkpoint.get("global_step"))

    # ------------------------------------------------------------------ training

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = self.make_optimizer(self.model.unet.parameters())
        if self.make_lr_scheduler is None:
            return {"optimizer": optimizer}
        scheduler = {"scheduler": self.make_lr_scheduler(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def on_fit_start(self) -> None:
        trained = sum(p.numel() for p in self.parameters() if p.requires_grad)
        frozen = sum(p.numel() for p in self.parameters() if not p.requires_grad)
        log.info("training %.1f M parameters (the U-Net); %.1f M are frozen", trained / 1e6, frozen / 1e6)
        log.info(
            "recipe %s, attention %s, conditioning %s",
            type(self.recipe).__name__,
            type(self.model.attention).__name__,
            ", ".join(self.model.conditioning.inputs),
        )

    def _generator(self, index: int) -> Generator:
        """All randomness of a step depends on seed, rank and batch alone, so that resuming repeats it."""
        return _seeded(self.device, self.seed, self.global_rank, index)

    def training_step(self, batch: StereoBatch, batch_idx: int) -> Tensor:
        self.model.unet.train()
        loss = self.recipe(self.model, batch, self._generator(batch.index))
        size = len(batch.keys)
        self.log("train/loss", loss.total, prog_bar=True, batch_size=size)
        self.log_dict({f"train/loss_{name}": part for name, part in loss.parts.items()}, batch_size=size)
        return loss.total

    # ---------------------------------------------------------------- evaluation

    @torch.no_grad()
    def predict(self, batch: StereoBatch) -> Tensor:
        """The right view of a batch, (B, T, 3, H, W) in [0, 1], with the recipe's sampler.

        The noise of a clip follows from the seed and the clip's key, whatever process or batch it is in.
        """
        self.model.unet.eval()
        noise = [_seeded(self.device, self.seed, *key.encode()) for key in batch.keys]
        return self.model.predict(
            batch, sampler=self.recipe.sampler, noise_aug=self.noise_aug, generator=noise
        )

    def on_validation_epoch_start(self) -> None:
        self.evaluation.start(self._dataset_names(self.trainer.val_dataloaders), self.device)

    def on_test_epoch_start(self) -> None:
        self.evaluation.start(self._dataset_names(self.trainer.test_dataloaders), self.device)

    @staticmethod
    def _dataset_names(loaders: Any) -> list[str]:
        return [
            loader.dataset.dataset.name for loader in (loaders if isinstance(loaders, list) else [loaders])
        ]

    def validation_step(self, batch: StereoBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.evaluation.update(dataloader_idx, self.predict(batch), batch)

    def test_step(self, batch: StereoBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.validation_step(batch, batch_idx, dataloader_idx)

    def on_validation_epoch_end(self) -> None:
        self._finish_evaluation("val")

    def on_test_epoch_end(self) -> None:
        self._finish_evaluation("test")

    def _finish_evaluation(self, stage: Literal["val", "test"]) -> None:
        if self.trainer.sanity_checking:
            return
        folder = Path(self.trainer.log_dir or self.trainer.default_root_dir)
        # validate and test restore the weights of a checkpoint, but leave the trainer's step at 0.
        step = self.global_step or self._loaded_step
        values = self.evaluation.finish(folder, f"{stage}_step{step}")
        self.log_dict({f"{stage}/{name}": value for name, value in values.items()})

    def predict_step(self, batch: StereoBatch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        return self.predict(batch)

    # --------------------------------------------------------------- checkpoints

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The trained parameters, and those of frozen networks that come from no backbone's weights."""
        state = super().state_dict(*args, **kwargs)
        kept = tuple(PREFIXES[name] for name in self.model.kept)
        return {key: value for key, value in state.items() if key.startswith(kept)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[CARD] = self._card(checkpoint["global_step"]).to_json()

    def _card(self, step: int | None = None) -> ModelCard:
        """Of the model as it is evaluated: with the recipe's sampler."""
        card = self.model.card(step)
        usage = replace(card.usage, sampler=self.recipe.sampler, noise_aug=self.noise_aug)
        return replace(card, usage=usage)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._loaded_step = checkpoint["global_step"]

    def load_state_dict(self, state_dict: dict[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load the trained parameters.

        Raises:
            MismatchError: keys or shapes differ from this model's.
        """
        source = "the checkpoint (is it of the same backbone and conditioning?)"
        check(source, shapes_of(self.state_dict()), shapes_of(state_dict))
        return super().load_state_dict(state_dict, strict=False, assign=assign)


def _seeded(device: torch.device, *words: int) -> Generator:
    mixed = 0
    for word in words:
        mixed = (mixed * 0x9E3779B97F4A7C15 + word + 1) % 2**63
    return Generator(device=device).manual_seed(mixed)
