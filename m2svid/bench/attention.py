"""Time and memory of full attention at disoccluded tokens, against factorized attention.

Shapes: B clips (1), T frames, h w latent size, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Literal

import torch
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor

from m2svid.attention import AttentionStrategy, Disoccluded, Factorized, Selection
from m2svid.attention.base import over_frames, project_out
from m2svid.bench.clock import Clock
from m2svid.model.conditioning import Conditioning
from m2svid.model.unet import ConditionedUNet
from m2svid.model.vae import SpaceToDepth
from m2svid.training.backbone import SmallRandom


class Recomputed(Disoccluded):
    """The same result in two passes: the whole block factorized, then again for the disoccluded tokens."""

    def __call__(
        self, block: BasicTransformerBlock, x: Tensor, context: Tensor, selection: Selection | None
    ) -> Tensor:
        out = Factorized()(block, x, context, None)
        if selection is None:
            return out
        tokens = selection.gather(x)  # (B, M, C)
        tokens = tokens + _over_frames(block.attn1, block.norm1(tokens), x)
        tokens = tokens + _over_frames(block.attn2, block.norm2(tokens), context)
        return selection.replace(out, tokens + block.ff(block.norm3(tokens)))


def run(
    frames: int = 16,
    height: int = 256,
    width: int = 256,
    channels: Sequence[int] = (64, 128, 256, 256),
    layers: int = 2,
    holes: float = 0.05,
    repeats: int = 3,
    device: str = "cpu",
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
) -> dict[str, float | int | str]:
    """One forward pass of the U-Net with each strategy.

    Full size is `--channels [320,640,1280,1280]`, on a GPU.

    Args:
        frames: T.
        height: pixels; the U-Net sees an eighth.
        width: pixels; the U-Net sees an eighth.
        channels: of the U-Net's levels.
        layers: residual blocks a level.
        holes: share of disoccluded tokens.
        repeats: timed passes of each strategy, after one that is not timed; the median counts.
        device: such as cpu or cuda.
        dtype: of weights and activations.

    Returns:
        For factorized attention (the reference), for `disoccluded`, and for `recomputed`, which computes the
        disoccluded tokens twice: seconds and peak memory beyond what was held before, and the ratios to the
        reference.
    """
    torch.manual_seed(0)
    clock = Clock(device)
    unet = _unet(channels, layers).to(device).eval()
    {"float32": unet.float, "bfloat16": unet.bfloat16, "float16": unet.half}[dtype]()
    inputs = _inputs(unet, frames, (height // 8, width // 8), holes)
    strategies: dict[str, AttentionStrategy] = {
        "factorized": Factorized(),
        "disoccluded": Disoccluded(),
        "recomputed": Recomputed(),
    }
    passes = {name: _forward(unet, inputs, strategy) for name, strategy in strategies.items()}
    for forward in passes.values():
        forward()
    # in turns, so that a slow spell of the machine hits all alike
    times = [{name: clock.time(forward) for name, forward in passes.items()} for _ in range(repeats)]
    result: dict[str, float | int | str] = {
        "frames": frames,
        "height": height,
        "width": width,
        "channels": ",".join(map(str, channels)),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "dtype": dtype,
        "disoccluded_share": round(float((inputs["mask"] > 0).float().mean()), 4),
    }
    for name, forward in passes.items():
        result[f"{name}_s"] = median(turn[name] for turn in times)
        result[f"{name}_peak_mib"] = _peak_mib(forward, clock)
    for name in ("disoccluded", "recomputed"):
        result[f"{name}_time_ratio"] = median(turn[name] / turn["factorized"] for turn in times)
        result[f"{name}_memory_ratio"] = float(result[f"{name}_peak_mib"]) / float(
            result["factorized_peak_mib"]
        )
    return result


def _over_frames(attn: torch.nn.Module, query: Tensor, source: Tensor) -> Tensor:
    return project_out(attn, over_frames(attn, attn.to_q(query), source))


def _unet(channels: Sequence[int], layers: int) -> ConditionedUNet:
    # latents of 3 channels, so that first and last convolution weigh as little as in SVD, which has 4
    backbone = SmallRandom(channels, layers, head_dim=64, context_dim=1024, autoencoder=SpaceToDepth(1))
    return backbone.build(Conditioning(), Factorized()).unet


def _inputs(unet: ConditionedUNet, T: int, size: tuple[int, int], holes: float) -> dict[str, Tensor]:
    """Random input with a square hole in each frame that moves: the same share of holes at every level."""
    h, w = size
    like = next(unet.parameters())
    mask = like.new_full((1, T, 1, h, w), -1.0, dtype=torch.float32)
    tall, wide = round(h * holes**0.5), round(w * holes**0.5)
    for frame in range(T):
        left = (w - wide) * frame // max(T - 1, 1)
        mask[:, frame, :, (h - tall) // 2 : (h + tall) // 2, left : left + wide] = 1
    return {
        "sample": torch.randn(1, T, unet.config.in_channels, h, w).to(like),
        "timestep": like.new_ones(1, dtype=torch.float32),
        "context": torch.randn(1, T, 1, unet.config.cross_attention_dim).to(like),
        "added_time_ids": like.new_ones(1, 3, dtype=torch.float32),
        "mask": mask,
    }


def _forward(
    unet: ConditionedUNet, inputs: dict[str, Tensor], strategy: AttentionStrategy
) -> Callable[[], None]:
    def forward() -> None:
        with torch.inference_mode():
            unet(**inputs, attention=strategy)

    return forward


def _peak_mib(function: Callable[[], None], clock: Clock) -> float:
    """Peak memory above the level before the call."""
    before = clock.restart_peak()
    function()
    return (clock.peak() - before) / 2**20
