"""The LightningModule around a small random model, and batches for it."""

from dataclasses import replace

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from m2svid.model.vae import SpaceToDepth
from m2svid.recipes import EndToEnd
from m2svid.training.backbone import SmallRandom
from m2svid.training.module import M2SVidModule
from tests.model import tiny


def make_module(seed=0, **options):
    """Weights follow from `seed`; `options` are the module's."""
    torch.manual_seed(seed)
    backbone = SmallRandom(channels=(32, 32), head_dim=16, context_dim=8, autoencoder=SpaceToDepth(4))
    given = {"recipe": EndToEnd(lpips=0.0), "metrics": ("psnr",)}
    return M2SVidModule(backbone, **(given | options))


def make_batch(keys=("made/a", "made/b"), seed=0, index=0):
    return replace(tiny.batch(B=len(keys), T=2, H=16, W=32, seed=seed), keys=tuple(keys), index=index)


def fit(module, folder, batches, steps=None, callbacks=(), ckpt_path=None, **options):
    """The trainer of a fit that saves `step=N.ckpt` after every step."""
    save = ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)
    trainer = Trainer(
        max_steps=steps or len(batches),
        accelerator="cpu",
        logger=False,
        callbacks=[*callbacks, save],
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=None), ckpt_path=ckpt_path)
    return trainer


def some_batches(number):
    """Batches of one clip."""
    return [make_batch((f"made/{i}",), seed=i, index=i) for i in range(number)]
