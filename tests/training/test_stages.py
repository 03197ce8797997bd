"""Compiled stages against the stages as they are."""

import functools

import pytest
import torch
from diffusers.models.resnet import SpatioTemporalResBlock
from lightning.pytorch import Callback

from m2svid.errors import UserError
from m2svid.model import speed
from m2svid.model.vae import SpaceToDepth
from m2svid.recipes import EndToEnd
from m2svid.training import stages
from m2svid.training.backbone import SmallRandom, StableVideoDiffusion
from m2svid.training.module import M2SVidModule
from m2svid.training.sharding import FullyShardedStrategy
from m2svid.training.stages import compile_stages
from tests.tiny_module import fit, make_module, some_batches


def losses(folder, **options):
    """Of two steps, and the names in the checkpoint."""
    noted = []

    class Noting(Callback):
        def on_train_batch_end(self, trainer, module, outputs, *args):
            noted.append(outputs["loss"].item())

    torch.manual_seed(0)
    backbone = SmallRandom(channels=(32,), context_dim=8, autoencoder=SpaceToDepth(4))
    module = M2SVidModule(
        backbone,
        EndToEnd(lpips=0),
        optimizer=functools.partial(torch.optim.SGD, lr=0.1),
        metrics=(),
        **options,
    )
    fit(module, folder, some_batches(2), callbacks=[Noting()])
    return noted, set(torch.load(folder / "step=2.ckpt", weights_only=True)["state_dict"])


def test_compiled_blocks_have_the_same_losses_and_names(tmp_path, monkeypatch):
    """Of the residual blocks, and without making machine code, as this would take a minute."""
    monkeypatch.setattr(speed, "REGIONS", (SpatioTemporalResBlock,))
    compiled = []

    def compile_regions(network):
        compiled.append(real(network, backend="aot_eager"))
        return compiled[-1]

    real = stages.compile_regions
    monkeypatch.setattr(stages, "compile_regions", compile_regions)
    expected, names = losses(tmp_path)
    assert not compiled
    made, made_names = losses(tmp_path, compile=["unet"])
    assert compiled[0] > 0
    assert made == pytest.approx(expected, rel=1e-5) and len(set(made)) == 2
    assert made_names == names


def test_what_cannot_be_compiled_is_named():
    model = make_module().model
    with pytest.raises(UserError, match="the decoder of this model has nothing to compile"):
        compile_stages(model, ["decoder"], None)
    with pytest.raises(UserError, match="FullyShardedStrategy: use DDPStrategy"):
        compile_stages(model, ["unet"], FullyShardedStrategy())


@pytest.mark.parametrize("stages", [["encoder"], "unet"])
def test_unknown_stages_are_named(stages):
    with pytest.raises(UserError, match=r"model\.compile must be a list of unet, decoder"):
        make_module(compile=stages)
    with pytest.raises(UserError, match="gradient_checkpointing must be a list of unet, decoder"):
        StableVideoDiffusion(gradient_checkpointing=stages)
