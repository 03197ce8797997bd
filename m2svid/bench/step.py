"""Time of a training step with each of its options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from m2svid.batch import StereoBatch
from m2svid.bench.clock import Clock
from m2svid.bench.networks import make_clip
from m2svid.data.randomness import seeded
from m2svid.model.speed import compile_regions
from m2svid.model.vae import SpaceToDepth
from m2svid.recipes import EndToEnd
from m2svid.training.backbone import SmallRandom


def run(
    frames: int = 4,
    size: int = 64,
    channels: Sequence[int] = (96, 96),
    repeats: int = 20,
    compiled: bool = False,
    device: str = "cpu",
) -> dict[str, Any]:
    """Train the quickstart's model on one batch, with one option of training after the other.

    Args:
        frames: of the clip.
        size: height and width, pixels.
        channels: of the U-Net's levels.
        repeats: timed steps with each option, after one that is not timed; the median counts.
        compiled: measure compiled blocks, too, which takes minutes before the first step.
        device: such as cpu or cuda.

    Returns:
        For a step as it is (`plain`, the reference), with the U-Net's activations recomputed, with averaged
        weights, with a fused optimizer, and with compiled blocks: seconds, their ratio to the reference, and
        the largest difference of a loss from the reference's, as a share of it.
    """
    clip = make_clip(frames, size, size, device)
    batch = replace(clip, right=clip.left.roll(4, -1))
    options = ["plain", "recomputed", "averaged", "fused", *(["compiled"] if compiled else [])]
    trainings = {option: _Training(option, channels, batch) for option in options}
    clock = Clock(device)
    for training in trainings.values():
        training.step()
    # in turns, so that a slow spell of the machine hits all alike
    times = [{name: clock.time(each.step) for name, each in trainings.items()} for _ in range(repeats)]
    seconds = {name: median(each[name] for each in times) for name in trainings}
    result: dict[str, Any] = {"torch_threads": torch.get_num_threads(), "plain_s": seconds["plain"]}
    for name in options[1:]:
        result[f"{name}_s"] = seconds[name]
        result[f"{name}_ratio"] = seconds[name] / seconds["plain"]
        result[f"{name}_loss_difference"] = trainings[name].difference(trainings["plain"])
    return result


class _Training:
    """A model that is trained on one batch, with one option.

    Attributes:
        losses: of the steps so far.
    """

    def __init__(self, option: str, channels: Sequence[int], batch: StereoBatch) -> None:
        torch.manual_seed(0)
        autoencoder = SpaceToDepth(4)
        small = SmallRandom(channels, head_dim=32, context_dim=8, autoencoder=autoencoder)
        self._model = small.build().to(batch.left.device)
        self._recipe, self._batch, self._option = EndToEnd(lpips=0), batch, option
        unet = self._model.unet.train()
        self._weights = list(unet.parameters())
        self._averages = [weight.detach().clone() for weight in self._weights]
        self._optimizer = torch.optim.AdamW(self._weights, lr=1e-3, fused=option == "fused" or None)
        self.losses: list[torch.Tensor] = []
        if option == "recomputed":
            unet.enable_gradient_checkpointing()
        if option == "compiled":
            compile_regions(unet)

    def step(self) -> None:
        random = seeded(self._batch.left.device, len(self.losses))
        loss = self._recipe(self._model, self._batch, random).total
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._weights, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        if self._option == "averaged":
            get_ema_multi_avg_fn(0.9999)(self._averages, self._weights, None)
        self.losses.append(loss.detach())

    def difference(self, reference: _Training) -> float:
        """The largest one of a loss, as a share of the reference's."""
        own, other = torch.stack(self.losses), torch.stack(reference.losses)
        return ((own - other).abs() / other).max().item()
