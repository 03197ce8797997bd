"""The LightningModule: steps, logging, optimizer. No maths."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal, NoReturn

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Generator, Tensor, nn
from torch.distributed.tensor import DTensor

from m2svid.attention import AttentionStrategy
from m2svid.batch import StereoBatch
from m2svid.data.randomness import seeded
from m2svid.errors import UserError
from m2svid.evaluation.evaluation import Evaluation
from m2svid.evaluation.methods import Method, Trained
from m2svid.evaluation.protocol import Protocol
from m2svid.metrics.stereo import MetricName
from m2svid.model.card import ModelCard
from m2svid.model.conditioning import Conditioning, InputName
from m2svid.recipes import EndToEnd, Loss, Recipe
from m2svid.training.averaging import CURRENT, go_on_from_current
from m2svid.training.backbone import Backbone
from m2svid.training.sharding import gather, release
from m2svid.training.stages import Stage, check_stages, compile_stages
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
        backbone: source of the networks: Stable Video Diffusion, or small random ones.
        recipe: turns a batch into a loss.
        conditioning: inputs of the U-Net after the noisy latent: a list of names in this order, or a class
            of your own; None = those that the backbone's weights were made for, else left, warped, mask.
        attention: which tokens the spatial attention of disoccluded tokens sees; None = the strategy that the
            backbone's weights were made for, else `Disoccluded`.
        optimizer: makes the optimizer of the U-Net's parameters.
        lr_scheduler: makes the learning rate schedule, stepped every training step; None keeps it constant.
        noise_aug: noise level of the conditioning videos in evaluation; 0 evaluates without.
        metrics: what validation and test measure.
        methods: measured beside the model, by class path: those of `m2svid.evaluation.methods`, or your own.
        protocol: how they are compared; the paper's by default.
        vgg_weights: file of torchvision's VGG16 weights for the LPIPS metric; None = in torch hub's cache.
        metric_weights: weights of other metrics by name: fvd takes StyleGAN-V's `i3d_torchscript.pt`,
            lpips_alex torchvision's AlexNet (not given = torch hub's cache), clip_consistency a folder such
            as Stable Video Diffusion's `image_encoder`.
        films: `test` keeps every method's clips as lossless films beside the results, for `report` to show.
        init_unet: Lightning checkpoint whose U-Net weights training or evaluation starts from (unlike
            `--ckpt_path`, which also restores optimizer, step and data position).
        compile: parts of the model that `torch.compile` makes code of when training begins, "unet" and
            "decoder"; every size of clips is compiled when it first appears.
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
        methods: list[Method] | None = None,
        protocol: Protocol = Protocol(),  # noqa: B008 (frozen)
        vgg_weights: str | None = None,
        metric_weights: dict[str, str] | None = None,
        films: bool = False,
        init_unet: str | None = None,
        compile: Sequence[Stage] = (),
        seed: int = 0,
    ) -> None:
        super().__init__()
        if noise_aug < 0:
            raise UserError(f"model.noise_aug is a noise level and can't be negative, got {noise_aug}")
        self.recipe = recipe if recipe is not None else EndToEnd()
        self.evaluation = Evaluation(metrics, methods or (), protocol, vgg_weights, metric_weights)
        if conditioning is not None and not isinstance(conditioning, Conditioning):
            conditioning = Conditioning(conditioning)
        self.model = backbone.build(conditioning, attention)
        self.model.requires_grad_(False).eval()
        self.model.unet.requires_grad_(True).train()
        self.make_optimizer = optimizer
        self.make_lr_scheduler = lr_scheduler
        self.noise_aug = noise_aug
        self.films = films
        self.compiled = check_stages("model.compile", compile)
        self.seed = seed
        self.averaged: float | None = None  # decay of `AverageWeights`
        self._loaded_step = 0
        self._losses: list[tuple[tuple[str, ...], Loss]] = []  # since the last optimizer step
        self.register_state_dict_post_hook(_keep)
        self.register_load_state_dict_post_hook(_ignore_others)
        self._made_as = backbone.card  # the weights' card
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
        self._read_card(checkpoint, path)
        averaged = ", averaged" if self._made_as is not None and self._made_as.averaged else ""
        log.info("U-Net weights from %s (step %s%s)", path, checkpoint.get("global_step"), averaged)

    # ------------------------------------------------------------------ training

    def configure_optimizers(self) -> dict[str, Any]:
        try:
            optimizer = self.make_optimizer(self.model.unet.parameters())
        except ValueError as error:
            raise UserError(f"model.optimizer: {error}") from error
        if self.make_lr_scheduler is None:
            return {"optimizer": optimizer}
        scheduler = {"scheduler": self.make_lr_scheduler(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def on_fit_start(self) -> None:
        if self.compiled:
            compile_stages(self.model, self.compiled, self.trainer.strategy)
        # also refuses now, not at the first checkpoint, what a card can't name
        self._say_overruled(self._card())
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
        return seeded(self.device, self.seed, self.global_rank, index)

    def training_step(self, batch: StereoBatch, batch_idx: int) -> Tensor:
        if not self.model.unet.training:
            self.model.unet.train()
        loss = self.recipe(self.model, batch, self._generator(batch.index))
        size = len(batch.keys)
        self.log("train/loss", loss.total, prog_bar=True, batch_size=size)
        self.log_dict({f"train/loss_{name}": part for name, part in loss.parts.items()}, batch_size=size)
        parts = {name: part.detach() for name, part in loss.parts.items()}
        self._losses.append((batch.keys, Loss(loss.total.detach(), parts)))
        return loss.total

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log the gradient's norm before it is clipped.

        Raises:
            UserError: in every process, if a loss or the gradient isn't finite in one of them; the weights
                stay as they are.
        """
        losses, self._losses = self._losses, []
        broken = ~torch.stack([loss.total for _, loss in losses]).isfinite()
        anywhere = self.trainer.strategy.reduce(broken.any().float(), reduce_op="sum") > 0
        if anywhere:
            self._stop([losses[i] for i in broken.nonzero().flatten().tolist()])
        norm = gradient_norm(self.model.unet)
        # A gradient scaler leaves out steps whose gradient overflows, then uses a smaller scale.
        if not norm.isfinite() and getattr(self.trainer.precision_plugin, "scaler", None) is None:
            self._stop(losses, "gradient")
        self.log("train/grad_norm", norm)

    def _stop(self, losses: list[tuple[tuple[str, ...], Loss]], what: str = "loss") -> NoReturn:
        found = "; ".join(
            f"clips {', '.join(keys)}: {', '.join(f'{k} {v.item():.4g}' for k, v in loss.parts.items())}"
            for keys, loss in losses
        )
        raise UserError(
            f"the {what} of step {self.global_step + 1} isn't finite ({found or 'in another process'}): the "
            "weights and the last checkpoint are those from before; go on with a lower "
            "model.optimizer.init_args.lr, or with trainer.precision bf16-mixed or 32-true"
        )

    # ---------------------------------------------------------------- evaluation

    @torch.no_grad()
    def predict(self, batch: StereoBatch) -> Tensor:
        """The right view of a batch, (B, T, 3, H, W) in [0, 1], with the recipe's sampler.

        The noise of a clip follows from the seed and the clip's key, whatever process or batch it is in.
        """
        self.model.unet.eval()
        noise = [seeded(self.device, self.seed, *key.encode()) for key in batch.keys]
        return self.model.predict(
            batch, sampler=self.recipe.sampler, noise_aug=self.noise_aug, generator=noise
        )

    def on_validation_start(self) -> None:
        gather(self.model.unet)  # processes evaluate different numbers of clips

    def on_validation_end(self) -> None:
        release(self.model.unet)

    def on_validation_epoch_start(self) -> None:
        if self.trainer.state.fn == "validate":
            self._say_overruled(self._card(), ("conditioning", "attention", "usage"))
        self._start_evaluation(self.trainer.val_dataloaders)

    def on_test_epoch_start(self) -> None:
        self._say_overruled(self._card(), ("conditioning", "attention", "usage"))
        films = self._log_folder / "films" if self.films else None
        self._start_evaluation(self.trainer.test_dataloaders, films)

    def _start_evaluation(self, loaders: Any, films: Path | None = None) -> None:
        datasets = [
            loader.dataset.dataset.name for loader in (loaders if isinstance(loaders, list) else [loaders])
        ]
        trained = Trained(self.model, self.recipe.sampler, self.noise_aug)
        self.evaluation.start(datasets, self.device, trained, self.seed, films)

    @property
    def _log_folder(self) -> Path:
        return Path(self.trainer.log_dir or self.trainer.default_root_dir)

    def validation_step(self, batch: StereoBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        batch = self.evaluation.protocol.apply(batch)
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
        values = self.evaluation.finish(self._log_folder, f"{stage}_step{self.step}")
        # All processes have the same values; `sync_dist` says so.
        self.log_dict({f"{stage}/{name}": value for name, value in values.items()}, sync_dist=True)
        if self.step != self.global_step:
            self.log("step", float(self.step), sync_dist=True)  # where the loggers put the values

    @property
    def step(self) -> int:
        """Optimizer steps behind the weights.

        `validate` and `test` restore the weights of a checkpoint, but leave Lightning's `global_step` at 0.
        """
        return self.global_step or self._loaded_step

    def on_predict_epoch_start(self) -> None:
        self._say_overruled(self._card(), ("conditioning", "attention", "usage"))

    def predict_step(self, batch: StereoBatch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        return self.predict(batch)

    # --------------------------------------------------------------- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[CARD] = self._card(checkpoint["global_step"]).to_json()

    def _card(self, step: int | None = None) -> ModelCard:
        """Of the model as it is evaluated: with the recipe's sampler."""
        card = self.model.card(step)
        usage = replace(card.usage, sampler=self.recipe.sampler, noise_aug=self.noise_aug)
        return replace(card, usage=usage, averaged=self.averaged)

    def _say_overruled(self, card: ModelCard, names: Sequence[str] = ("conditioning", "attention")) -> None:
        """Log what the configuration changes of a model whose weights say how they were made."""
        for name in names:
            made, now = getattr(self._made_as, name, None), getattr(card, name)
            if made is not None and made != now:
                log.warning("%s: the weights were made with %s, the configuration says %s", name, made, now)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._loaded_step = checkpoint["global_step"]
        if CURRENT in checkpoint and self._trainer is not None and self._trainer.state.fn == "fit":
            go_on_from_current(checkpoint)
        self._read_card(checkpoint, "the checkpoint")

    def _read_card(self, checkpoint: dict[str, Any], source: str) -> None:
        if CARD in checkpoint:
            self._made_as = ModelCard.from_json(checkpoint[CARD], source)

    def load_state_dict(self, state_dict: dict[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load the trained parameters.

        Raises:
            MismatchError: keys or shapes differ from this model's.
        """
        source = "the checkpoint (is it of the same backbone and conditioning?)"
        check(source, shapes_of(self.state_dict()), shapes_of(state_dict))
        return super().load_state_dict(state_dict, strict=False, assign=assign)


def gradient_norm(unet: nn.Module) -> Tensor:
    """L2 norm of the whole gradient, a scalar; the same in every process, sharded or not."""
    norm = torch.nn.utils.get_total_norm([p.grad for p in unet.parameters() if p.grad is not None])
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def _is_kept(module: M2SVidModule, key: str) -> bool:
    """Of the trained parameters, and those of frozen networks that come from no backbone's weights."""
    return key.startswith(tuple(PREFIXES[name] for name in module.model.kept))


def _keep(module: M2SVidModule, state: dict[str, Any], prefix: str, local_metadata: Any) -> None:
    """Leave only what a checkpoint holds in a state dict, also in that of a module around this one."""
    del local_metadata
    for key in list(state):
        if key.startswith(prefix) and not _is_kept(module, key.removeprefix(prefix)):
            del state[key]


def _ignore_others(module: M2SVidModule, incompatible: Any) -> None:
    """Don't report as missing what checkpoints never hold."""
    kept = {PREFIXES[name] for name in module.model.kept}
    missing = incompatible.missing_keys
    missing[:] = [key for key in missing if any(prefix in key for prefix in kept)]
