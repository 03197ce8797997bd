"""Training with the U-Net sharded over the processes (PyTorch's `fully_shard`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from diffusers.models.attention import FeedForward, TemporalBasicTransformerBlock
from diffusers.models.resnet import SpatioTemporalResBlock
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import DDPStrategy
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from m2svid.errors import UserError

# Modules that the U-Net calls as a whole; its spatial transformers are walked layer by layer.
UNITS = (SpatioTemporalResBlock, TemporalBasicTransformerBlock, FeedForward)


class FullyShardedStrategy(DDPStrategy):
    """Shard weights, gradients and optimizer state of the U-Net over all processes of a fit.

    For devices that don't hold all of them together. The frozen networks are small and stay whole on every
    device, and so does the U-Net while it is evaluated (`gathered`). A checkpoint is one file with whole
    tensors, the same that any other strategy writes and reads.
    """

    def setup(self, trainer: Trainer) -> None:
        """Prepare the model for `trainer`.

        Raises:
            UserError: if an averaging callback is present: it would average shards with whole weights.
        """
        for callback in trainer.callbacks:
            if isinstance(callback, WeightAveraging):
                name = type(callback).__name__
                raise UserError(f"callback {name} doesn't work with {type(self).__name__}: use DDPStrategy")
        super().setup(trainer)

    def configure_ddp(self) -> None:
        """Shard the U-Net instead of wrapping the module."""
        for tensor in self.lightning_module.parameters():
            distributed.broadcast(tensor.data, src=0)
        unet = self.lightning_module.model.unet
        mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        for unit in reversed([module for module in unet.modules() if isinstance(module, UNITS)]):
            fully_shard(unit, mesh=mesh)
        fully_shard(unet, mesh=mesh, reshard_after_forward=True)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        return whole(super().lightning_module_state_dict(), self.is_global_zero)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        return whole(super().optimizer_state(optimizer), self.is_global_zero)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            numbers = [number for group in state["param_groups"] for number in group["params"]]
            shards = {
                number: {name: like(parameter, value) for name, value in state["state"][number].items()}
                for number, parameter in zip(numbers, parameters, strict=True)
                if number in state["state"]
            }
            optimizer.load_state_dict({**state, "state": shards})


def whole(state: dict[str, Any], first: bool) -> dict[str, Any]:
    """Whole tensors in the `first` process, which writes the checkpoint; empty ones in the others."""

    def gather_shard(shard: DTensor) -> Tensor:
        tensor = shard.full_tensor()
        return tensor.cpu() if first else tensor.new_empty(0)

    return apply_to_collection(state, DTensor, gather_shard)


def like(parameter: Tensor, value: Any) -> Any:
    """`value` sharded as `parameter` is, if it has its shape."""
    if not isinstance(parameter, DTensor) or getattr(value, "shape", None) != parameter.shape:
        return value
    value = value.to(parameter.device)
    # Every process has read the file and takes its own part of it.
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)


@contextmanager
def gathered(unet: nn.Module) -> Iterator[None]:
    """Keep the whole U-Net on every device, so that processes can run it however often each of them likes.

    Every process must enter. Nothing happens where the U-Net isn't sharded.
    """
    gather(unet)
    try:
        yield
    finally:
        release(unet)


def gather(unet: nn.Module) -> None:
    """Begin what `gathered` describes."""
    for unit in _sharded(unet):
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()


def release(unet: nn.Module) -> None:
    """End what `gathered` describes."""
    for unit in _sharded(unet):
        unit.set_reshard_after_forward(True, recurse=False)
        unit.reshard()


def _sharded(unet: nn.Module) -> list[FSDPModule]:
    return [module for module in unet.modules() if isinstance(module, FSDPModule)]
