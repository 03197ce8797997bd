"""LPIPS (Zhang et al. 2018, VGG16, v0.1) as a frozen module: a metric, and a loss.

The calibrated channel weights ship with the `lpips` package. VGG16's own weights are a file of torchvision's,
which is never downloaded from here.

Shapes: N frames, C channels, H W pixels, h w features.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import vgg16

from m2svid.errors import UserError

VGG_URL = "https://download.pytorch.org/models/vgg16-397923af.pth"
LAYERS = (3, 8, 15, 22, 29)  # relu1_2, relu2_2, relu3_3, relu4_3, relu5_3 in torchvision's `features`


class Perceptual(nn.Module):
    """Distance between two frames in the features of VGG16.

    The module stays frozen, in evaluation mode and in float32, whatever its parent is set to; autocast is the
    caller's choice.

    Args:
        vgg_weights: torchvision's `vgg16-397923af.pth`; None = the copy in torch's hub cache.

    Raises:
        UserError: The file is not there, or is not VGG16's.
    """

    def __init__(self, vgg_weights: Path | None = None) -> None:
        super().__init__()
        self.features = load_vgg(vgg_weights)
        for layer, weight in enumerate(_channel_weights()):
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
            if index in LAYERS:
                # Finite gradient where every channel is 0, unlike a division by a square root.
                features.append(F.normalize(x, dim=1, eps=1e-10))
        return features


def load_vgg(path: Path | None = None) -> nn.Sequential:
    """VGG16's convolutions with the weights of a local file; see `Perceptual`."""
    path = Path(path) if path is not None else Path(torch.hub.get_dir()) / "checkpoints" / Path(VGG_URL).name
    if not path.is_file():
        raise UserError(
            f"LPIPS needs VGG16's weights, and {path} is not there: save {VGG_URL} under that name, give the "
            "file's place in `vgg_weights`, or leave LPIPS out"
        )
    with torch.device("meta"):  # no random initialisation that the file then overwrites
        features = vgg16().features[: LAYERS[-1] + 1]
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        weights = {name: state[f"features.{name}"].float() for name in features.state_dict()}
        features.load_state_dict(weights, assign=True)
    except (RuntimeError, LookupError, TypeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"{path} does not hold torchvision's VGG16 weights: get {VGG_URL}") from error
    return features


def _channel_weights() -> list[Tensor]:
    with resources.as_file(resources.files("lpips") / "weights" / "v0.1" / "vgg.pth") as path:
        state = torch.load(path, map_location="cpu", weights_only=True)
    return [state[f"lin{layer}.model.1.weight"] for layer in range(len(LAYERS))]
