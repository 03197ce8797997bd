"""A file of the published size through import, a forward pass and export: memory, time, what changed."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch import Tensor

from m2svid.attention import Factorized
from m2svid.bench.process import measured
from m2svid.errors import UserError
from m2svid.weights.load import open_weights
from m2svid.weights.parts import Component, Part, Parts, load, tensor_shapes
from m2svid.weights.sgm import to_sgm
from m2svid.weights.verbs import export, import_

PUBLISHED: dict[Component, dict[str, Any]] = {
    "unet": {"in_channels": 13},  # the rest is its class's default
    "vae": {
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "block_out_channels": [128, 256, 512, 512],
        "layers_per_block": 2,
    },
    "image_encoder": {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "patch_size": 14,
        "projection_dim": 1024,
    },
}
SMALL: dict[Component, dict[str, Any]] = {
    "unet": {
        "in_channels": 13,
        "block_out_channels": [64, 64, 64, 64],
        "num_attention_heads": [1, 1, 1, 1],
        "cross_attention_dim": 32,
    },
    "vae": {
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "block_out_channels": [32, 32, 32, 32],
        "layers_per_block": 2,
    },
    "image_encoder": {
        "hidden_size": 1280,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 16,
        "patch_size": 14,
        "projection_dim": 32,
    },
}
NAME = "m2svid_weights.pt"


def run(folder: str | None = None, full_size: bool = True) -> dict[str, float | int | str]:
    """Import, load, run and export generated float16 weights, each step in a process of its own.

    Needs 15 GB of disk and 8 GB of memory at full size (the forward pass is in float32).

    Args:
        folder: existing folder for the files, which are removed in the end; None = the system's temporary
            one.
        full_size: 1524.9 M-parameter U-Net, ViT-H and SVD's VAE; False tries the measurement out.

    Returns:
        For each step seconds, peak memory of its process (`_gb`; file pages that the system can drop at any
        time included) and without those (`_own_gb`). The reference is `torch.load` of the same file as most
        programs call it. `changed_tensors`: how many of the file's tensors differ after import and export.
        `forward_difference`: largest difference from diffusers' own forward pass, relative to its maximum.
    """
    if folder is not None and not Path(folder).is_dir():
        raise UserError(f"--folder {folder} is no folder.")
    sizes = PUBLISHED if full_size else SMALL
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        path = Path(temporary)
        result: dict[str, float | int | str] = {}

        def step(name: str, function: Callable[..., Any], *args: Any) -> Any:
            value, took = measured(function, *args)
            result.update({f"{name}_{key}": round(number, 3) for key, number in took.items()})
            return value

        result["parameters_millions"] = step("generate", generate, path / NAME, sizes)
        result["file_gb"] = round((path / NAME).stat().st_size / 1e9, 3)
        step("reference_load", _plain_load, path / NAME)
        step("import", _import, path / NAME, path / "model")
        ours = step("forward", _forward, path / "model")
        theirs = step("reference_forward", _forward_of_diffusers, path / "model")
        step("export", _export, path / "model", path / "back.pt")
        result["changed_tensors"] = step("compare", _count_changed, path / NAME, path / "back.pt")
        result["forward_difference"] = float((ours - theirs).abs().max() / theirs.abs().max())
        result["import_memory_ratio"] = round(result["import_own_gb"] / result["reference_load_own_gb"], 3)
    return result


def generate(path: Path, sizes: dict[Component, dict[str, Any]]) -> float:
    """Write random float16 weights in the published layout, and tell their number in millions."""
    torch.manual_seed(0)
    parts = Parts(
        **{
            component: Part(
                config, {k: _random(k, shape) for k, shape in tensor_shapes(component, config).items()}
            )
            for component, config in sizes.items()
        }
    )
    torch.save({"module": {f"module.{key}": tensor for key, tensor in to_sgm(parts).items()}}, path)
    return round(sum(t.numel() for _, part in parts.items() for t in part.state.values()) / 1e6, 1)


def _random(key: str, shape: tuple[int, ...]) -> Tensor:
    n = torch.empty(shape, dtype=torch.float16).normal_()
    if len(shape) > 1:
        return n.div_(math.sqrt(math.prod(shape[1:])))
    return n.mul_(0.1).add_(1 if key.endswith("weight") else 0)


def _plain_load(path: Path) -> int:
    return len(torch.load(path, map_location="cpu", weights_only=True)["module"])


def _import(path: Path, folder: Path) -> None:
    import_(str(path), output=str(folder))


def _export(folder: Path, path: Path) -> None:
    export(str(folder), output=str(path))


def _inputs(unet: UNetSpatioTemporalConditionModel) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two frames of 64×64 pixels, with one embedding for both, as diffusers wants it."""
    torch.manual_seed(1)
    sample = torch.randn(1, 2, unet.config.in_channels, 8, 8)
    context = torch.randn(1, 1, unet.config.cross_attention_dim)
    return sample, torch.tensor([1.64]), context, torch.tensor([[8.0, 127.0, 0.02]])


@torch.no_grad()
def _forward(folder: Path) -> Tensor:
    """float32, with diffusers' epsilons."""
    part = open_weights(folder).parts.unet
    unet = load("unet", Part(part.config | {"resnet_eps": None}, part.state), dtype=torch.float32)
    sample, timestep, context, ids = _inputs(unet)
    return unet(sample, timestep, context[:, None].expand(-1, 2, -1, -1), ids, None, Factorized())


@torch.no_grad()
def _forward_of_diffusers(folder: Path) -> Tensor:
    unet = UNetSpatioTemporalConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    return unet(*_inputs(unet)).sample


def _count_changed(before: Path, after: Path) -> int:
    first, second = (torch.load(path, weights_only=True, mmap=True)["module"] for path in (before, after))
    changed = [key for key in first if key not in second or not torch.equal(first[key], second[key])]
    return len(changed) + len(second.keys() - first.keys())
