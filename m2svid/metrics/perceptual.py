"""LPIPS (Zhang et al. 2018, v0.1) as a frozen module: a metric, and a loss.

The calibrated channel weights ship with the `lpips` package. VGG16's and AlexNet's own weights are files of
torchvision's, which are never downloaded from here.

Shapes: N frames, C channels, H W pixels, h w features.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import alexnet, vgg16

from m2svid.errors import UserError

Network = Literal["vgg", "alex"]


@dataclass(frozen=True)
class _Network:
    """A network of torchvision's: its name, file, and the ReLU layers of its `features` that are compared."""

    name: str
    make: Callable[[], nn.Module]
    url: str
    layers: tuple[int, ...]


_NETWORKS: dict[Network, _Network] = {
    "vgg": _Network(
        "VGG16", vgg16, "https://download.pytorch.org/models/vgg16-397923af.pth", (3, 8, 15, 22, 29)
    ),
    "alex": _Network(
        "AlexNet", alexnet, "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth", (1, 4, 7, 9, 11)
    ),
}


class Perceptual(nn.Module):
    """Distance between two frames in the features of VGG16 or AlexNet.

    The module stays frozen, in evaluation mode and in float32, whatever its parent is set to; autocast is the
    caller's choice.

    Args:
        weights: torchvision's `vgg16-397923af.pth` or `alexnet-owt-7be5be79.pth`; None = the copy in torch's
            hub cache.
        network: "vgg" or "alex".

    Raises:
        UserError: The file is not there, or is not that network's.
    """

    def __init__(self, weights: str | Path | None = None, network: Network = "vgg") -> None:
        super().__init__()
        self.features = load_features(network, weights)
        self.layers = _NETWORKS[network].layers
        for layer, weight in enumerate(_channel_weights(network)):
            self.register_buffer(f"channels{layer}", weight)  # 1 C 1 1
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """LPIPS of each frame.

        Args:
            a, b: (B, T, 3, H, W) or (N, 3, H, W) in [-1, 1].

        Returns:
            (N,), with N = B·T.
        """
        return torch.stack([distance.mean((1, 2, 3)) for distance in self._distances(a, b)]).sum(0)

    def spatial(self, a: Tensor, b: Tensor) -> Tensor:
        """LPIPS as a map over the pixels of each frame: (N, 1, H, W); arguments as in `forward`."""
        size = a.shape[-2:]
        maps = [F.interpolate(distance, size, mode="bilinear") for distance in self._distances(a, b)]
        return torch.stack(maps).sum(0)

    def train(self, mode: bool = True) -> Perceptual:
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Perceptual:
        # Follows its parent to a device but not to half precision.
        return super()._apply(lambda tensor: tensor.to(fn(tensor).device), recurse)

    def _distances(self, a: Tensor, b: Tensor) -> list[Tensor]:
        """(N, 1, h, w) of each layer."""
        pairs = zip(self._features(a), self._features(b), strict=True)
        return [
            F.conv2d((feature_a - feature_b) ** 2, getattr(self, f"channels{layer}"))
            for layer, (feature_a, feature_b) in enumerate(pairs)
        ]

    def _features(self, video: Tensor) -> list[Tensor]:
        """(N, C, h, w) of each layer, of unit length over C."""
        x = (video.reshape(-1, *video.shape[-3:]).to(self.shift.dtype) - self.shift) / self.scale
        features = []
        for index, module in enumerate(self.features):
            x = module(x)
            if index in self.layers:
                # Finite gradient where every channel is 0, unlike a division by a square root.
                features.append(F.normalize(x, dim=1, eps=1e-10))
        return features


def load_features(network: Network, path: str | Path | None = None) -> nn.Sequential:
    """A network's convolutions with the weights of a local file; see `Perceptual`."""
    known = _NETWORKS[network]
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(known.url).name
    path = Path(path) if path is not None else cached
    if not path.is_file():
        option = "vgg_weights" if network == "vgg" else "metric_weights, as lpips_alex"
        raise UserError(
            f"LPIPS needs {known.name}'s weights, and {path} is not there: save {known.url} under that name, "
            f"give the file's place in `{option}`, or leave LPIPS out"
        )
    with torch.device("meta"):  # no random initialisation that the file then overwrites
        features = known.make().features[: known.layers[-1] + 1]
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        weights = {name: state[f"features.{name}"].float() for name in features.state_dict()}
        features.load_state_dict(weights, assign=True)
    except (RuntimeError, LookupError, TypeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{path} does not hold torchvision's {known.name} weights: get {known.url}"
        ) from error
    return features


def _channel_weights(network: Network) -> list[Tensor]:
    with resources.as_file(resources.files("lpips") / "weights" / "v0.1" / f"{network}.pth") as path:
        state = torch.load(path, map_location="cpu", weights_only=True)
    return [state[f"lin{layer}.model.1.weight"] for layer in range(len(_NETWORKS[network].layers))]
