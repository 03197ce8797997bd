"""Disparity of whole clips by BiDAStereo, which the paper prepared Ego4D with.

Its weights lie on a drive of the authors' (https://github.com/TomTomTommi/bidavideo); the paper used
`bidastereo_robust.pth`. Shapes: T frames, H W pixels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data_prep.steps.bidastereo_network import BiDAStereoNetwork
from data_prep.steps.disparity import DisparityRange
from data_prep.steps.raft import as_tensor, load_weights, read_weights
from data_prep.steps.stereo_matcher import Maps, Matched, in_windows, left_right_confidence
from data_prep.steps.video import Pair
from m2svid.errors import UserError

_WINDOW, _OVERLAP = 20, 10  # frames; the published windows, whose halves overlap
_LONGEST_SIDE = 768  # px; larger views are matched at half their size, as the paper did
_MULTIPLE = 32  # px
_SMALLEST = 128  # px, for the optical flow network

# Names of the original RAFT, which the weights have, -> torchvision's.
_RENAMED = [
    (r"^(fnet|cnet)\.conv1\.", r"\1.convnormrelu.0."),
    (r"^(fnet|cnet)\.norm1\.", r"\1.convnormrelu.1."),
    (r"^(fnet|cnet)\.conv2\.", r"\1.conv."),
    (r"(layer\d\.\d)\.conv(\d)\.", r"\1.convnormrelu\2.0."),
    (r"(layer\d\.\d)\.norm([12])\.", r"\1.convnormrelu\2.1."),
    (r"(layer\d\.\d)\.norm3\.", r"\1.downsample.1."),
    (r"^fnet\.", "feature_encoder."),
    (r"^cnet\.", "context_encoder."),
    (r"^update_block\.encoder\.conv(c|f)(\d)\.", r"update_block.motion_encoder.conv\1\2.0."),
    (r"^update_block\.encoder\.conv\.", "update_block.motion_encoder.conv.0."),
    (r"motion_encoder\.convc(\d)", r"motion_encoder.convcorr\1"),
    (r"motion_encoder\.convf(\d)", r"motion_encoder.convflow\1"),
    (r"^update_block\.gru\.conv([zrq])(\d)\.", r"update_block.recurrent_block.convgru\2.conv\1."),
    (r"^update_block\.mask\.0\.", "mask_predictor.convrelu.0."),
    (r"^update_block\.mask\.2\.", "mask_predictor.conv."),
]


class BiDAStereo:
    """Windows of 20 frames, which fade into each other where they overlap.

    Args:
        weights: published file.
        device: where it runs.

    Raises:
        UserError: there is no file, or it belongs to another network.
    """

    def __init__(self, weights: Path | None, device: torch.device) -> None:
        if weights is None:
            raise UserError(
                "--matcher bidastereo needs --matcher_weights: download bidastereo_robust.pth by hand from "
                "the drive that https://github.com/TomTomTommi/bidavideo names"
            )
        network = BiDAStereoNetwork()
        tensors = {own_name(name): value for name, value in read_weights(weights).items()}
        load_weights(network, tensors, weights)
        self._network, self._device = network.to(device).eval(), device

    @torch.inference_mode()
    def __call__(self, pairs: Sequence[Pair], search: DisparityRange) -> Matched:
        """Disparity from both sides; `search` is not needed."""
        left, right = (torch.stack([as_tensor(pair[eye]) for pair in pairs]) for eye in (0, 1))
        from_left = self._clip(left, right)
        # Seen in a mirror, the right view is a left view.
        from_right = self._clip(right.flip(-1), left.flip(-1))[..., ::-1]
        return Matched(from_left, left_right_confidence(from_left, from_right))

    def _clip(self, left: Tensor, right: Tensor) -> Maps:
        """(T, H, W) px of (T, 3, H, W) views in 0..255."""
        if len(left) == 1:  # the network compares neighbours
            return self._clip(left.repeat(2, 1, 1, 1), right.repeat(2, 1, 1, 1))[:1]
        return in_windows(
            lambda begin, end: self._window(left[begin:end], right[begin:end]), len(left), _WINDOW, _OVERLAP
        )

    def _window(self, left: Tensor, right: Tensor) -> Maps:
        height, width = left.shape[-2:]
        reduction = 2 if max(height, width) > _LONGEST_SIDE else 1
        size = [max(length // reduction, 1) for length in (height, width)]
        views = [self._prepared(view, size) for view in (left, right)]
        top, first = (
            (padded - length) // 2 for padded, length in zip(views[0].shape[-2:], size, strict=True)
        )
        disparity = self._network(*views)[:, top : top + size[0], first : first + size[1]].float().cpu()
        if reduction > 1:
            scale = width / size[1]
            disparity = F.interpolate(disparity[:, None], (height, width), mode="bilinear")[:, 0] * scale
        return disparity.numpy().astype(np.float32)

    def _prepared(self, views: Tensor, size: list[int]) -> Tensor:
        """In [-1, 1], of this size, padded on all sides to what the network takes."""
        views = views.to(self._device)
        if list(views.shape[-2:]) != size:
            views = F.interpolate(views, size, mode="bicubic", antialias=True).clamp(0, 255)
        padding = []
        for length in reversed(size):
            missing = -(-max(length, _SMALLEST) // _MULTIPLE) * _MULTIPLE - length
            padding += [missing // 2, missing - missing // 2]
        return F.pad(views / 127.5 - 1, padding, mode="replicate")


def own_name(name: str) -> str:
    """Name in this package of a published tensor."""
    if not name.startswith("raft.model."):
        return name
    name = name.removeprefix("raft.model.").removeprefix("module.")
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return f"raft.model.{name}"
