"""The LightningModule around a small random model, and batches for it."""

from dataclasses import replace

import torch

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
