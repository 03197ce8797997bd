"""Disparity by RAFT, the optical flow network of torchvision, as Stereo4D's authors used one.

Shapes: T frames, H W pixels.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.optical_flow import Raft_Large_Weights, raft_large

from data_prep.steps.disparity import DisparityRange
from data_prep.steps.stereo_matcher import Matched, left_right_confidence
from data_prep.steps.video import Pair
from m2svid.errors import UserError

log = logging.getLogger(__name__)

_MULTIPLE = 8  # px
_SMALLEST = 128  # px: below it, the network's coarsest level has no extent
_UPDATES = 12


class Raft:
    """One pair at a time, from left to right and from right to left; signs are free.

    Args:
        weights: torchvision's file of `raft_large`; None takes its own copy, which is downloaded where it is
            not on this machine.
        device: where it runs.

    Raises:
        UserError: the weights can't be had.
    """

    def __init__(self, weights: Path | None, device: torch.device) -> None:
        self._device = device
        self._network = _load(weights).to(device).eval()

    @torch.inference_mode()
    def __call__(self, pairs: Sequence[Pair], search: DisparityRange) -> Matched:
        """Disparity, and how far rows are apart; `search` is not needed."""
        flows = [self._both_ways(pair) for pair in pairs]
        to_right, to_left = (torch.stack(direction).numpy() for direction in zip(*flows, strict=True))
        disparity = -to_right[:, 0]
        confidence = left_right_confidence(disparity, to_left[:, 0])
        matched = Matched(disparity, confidence)
        rows = np.abs(to_right[:, 1])[matched.consistent]
        return Matched(disparity, confidence, float(np.quantile(rows, 0.75)) if rows.size else None)

    def _both_ways(self, pair: Pair) -> tuple[Tensor, Tensor]:
        """(2, H, W) flow each, px, from the left to the right view and back."""
        left, right = (as_tensor(view).to(self._device)[None] / 127.5 - 1 for view in pair)
        height, width = left.shape[-2:]
        bottom, end = (-length % _MULTIPLE + max(0, _SMALLEST - length) for length in (height, width))
        bottom, end = bottom + -(height + bottom) % _MULTIPLE, end + -(width + end) % _MULTIPLE
        left, right = (F.pad(view, (0, end, 0, bottom), mode="replicate") for view in (left, right))
        flow = [
            self._network(*views, num_flow_updates=_UPDATES)[-1][0, :, :height, :width].cpu()
            for views in ((left, right), (right, left))
        ]
        return flow[0], flow[1]


def as_tensor(view: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 -> (3, H, W) float in 0..255."""
    return torch.from_numpy(np.ascontiguousarray(view)).permute(2, 0, 1).float()


def _load(weights: Path | None) -> torch.nn.Module:
    if weights is None:
        log.info("RAFT's weights are taken from torchvision, which downloads what is not on this machine")
        try:
            return raft_large(weights=Raft_Large_Weights.DEFAULT, progress=False)
        except OSError as error:
            raise UserError(
                f"RAFT's weights can't be downloaded ({error}); give their file by --matcher_weights"
            ) from error
    network = raft_large(weights=None)
    load_weights(network, read_weights(weights), weights)
    return network


def read_weights(path: Path) -> dict[str, Tensor]:
    """A file's tensors by name; wrappers such as `model` and prefixes such as `module.` are taken off.

    Raises:
        UserError: it is missing or no such file.
    """
    if not path.is_file():
        raise UserError(f"--matcher_weights {path} does not exist")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, UnpicklingError, struct.error, EOFError, OSError, ValueError, KeyError) as error:
        raise UserError(f"--matcher_weights {path} is not a file of PyTorch weights") from error
    for wrapper in ("model", "state_dict"):
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"--matcher_weights {path} holds no tensors by name")
    return {name.removeprefix("module."): value for name, value in found.items()}


def load_weights(network: torch.nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Fill a network; a UserError names the first tensor that does not fit."""
    own = network.state_dict()
    missing, unknown = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    sizes = [name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape]
    for names, what in ((missing, "lacks"), (unknown, "has an unknown"), (sizes, "has another size of")):
        if names:
            others = f" and {len(names) - 1} others" if len(names) > 1 else ""
            raise UserError(
                f"--matcher_weights {path} {what} {names[0]}{others}: it belongs to another network"
            )
    network.load_state_dict(tensors)
