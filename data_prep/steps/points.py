"""Points that two views have in common, by SIFT or by a learned matcher, behind one protocol.

Shapes: H W pixels of a view, N matches. Coordinates are pixels x, y; pixel centres are whole numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_prep.steps.video import Pair, gray
from m2svid.errors import UserError

log = logging.getLogger(__name__)

EFFICIENT_LOFTR = "zju-community/efficientloftr"  # on the hub, 64 MB, Apache-2.0
LOFTR_FILES = {"outdoor": "loftr_outdoor.ckpt", "indoor_new": "loftr_indoor_ds_new.ckpt"}

_RATIO = 0.8  # D. Lowe's ratio test, IJCV 2004
# At the published 1400 × 1400 the table of all matches takes 3.75 GB; at 840 px an eighth of that.
_LONGEST_SIDE = 840  # px that a learned matcher sees
_MULTIPLE = 32  # px


@dataclass(frozen=True)
class Matches:
    """Corresponding points.

    Attributes:
        left: (N, 2) float64.
        right: (N, 2) float64.
    """

    left: NDArray[np.float64]
    right: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.left)

    def __getitem__(self, chosen: NDArray[np.bool_]) -> Matches:
        return Matches(self.left[chosen], self.right[chosen])

    @property
    def disparity(self) -> NDArray[np.float64]:
        """(N,) px, by how much a point is farther left in the right view."""
        return self.left[:, 0] - self.right[:, 0]

    @property
    def vertical(self) -> NDArray[np.float64]:
        """(N,) px, by how much a point is lower in the right view."""
        return self.right[:, 1] - self.left[:, 1]

    @classmethod
    def of(cls, left: Sequence[Sequence[float]], right: Sequence[Sequence[float]]) -> Matches:
        return cls(*(np.array(points, np.float64).reshape(-1, 2) for points in (left, right)))

    @classmethod
    def join(cls, parts: Sequence[Matches]) -> Matches:
        return cls(*(np.concatenate([getattr(part, eye) for part in parts]) for eye in ("left", "right")))


class PointMatcher(Protocol):
    """Find the points that two views have in common.

    Attributes:
        name: of the method and its weights.
    """

    name: str

    def __call__(self, pair: Pair) -> Matches:
        """The matches of two views of (H, W, 3) uint8; mismatches are among them."""
        ...


class Sift:
    """OpenCV's SIFT with the ratio test: no weights, no GPU.

    Args:
        features: looked for in a view.
    """

    def __init__(self, features: int = 2000) -> None:
        self.name = "sift"
        self._features = features

    def __call__(self, pair: Pair) -> Matches:
        sift = cv2.SIFT_create(self._features)
        (left, left_features), (right, right_features) = (
            sift.detectAndCompute(gray(view), None) for view in pair
        )
        if len(left) < 2 or len(right) < 2:
            return Matches.of([], [])
        candidates = cv2.BFMatcher().knnMatch(left_features, right_features, 2)
        best = [first for first, second in candidates if first.distance < _RATIO * second.distance]
        return Matches.of([left[m.queryIdx].pt for m in best], [right[m.trainIdx].pt for m in best])


class EfficientLoFTR:
    """Dense matches by Efficient LoFTR (Wang et al., CVPR 2024) of the transformers library.

    Args:
        model: folder or hub id.
        device: where it runs.

    Raises:
        UserError: the model can't be had.
    """

    def __init__(self, model: str = EFFICIENT_LOFTR, device: torch.device | str = "cpu") -> None:
        from transformers import EfficientLoFTRForKeypointMatching  # takes seconds to import

        from m2svid.weights.fetch import resolve

        try:
            network = EfficientLoFTRForKeypointMatching.from_pretrained(resolve(model))
        except (OSError, ValueError) as error:
            raise UserError(
                f"{model} is no Efficient LoFTR that can be loaded ({_sentence(error)})"
            ) from error
        self.name = f"efficientloftr ({model})"
        self._device = torch.device(device)
        self._network = network.to(device).eval()

    @torch.inference_mode()
    def __call__(self, pair: Pair) -> Matches:
        views = [_reduced(view) for view in pair]
        pixels = torch.stack(views)[None].to(self._device).expand(-1, -1, 3, -1, -1)
        left, right = self._points(pixels)
        return _enlarged(left, right, tuple(views[0].shape[-2:]), pair[0].shape[:2])

    def _points(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 2) px each, of (1, 2, 3, h, w) views.

        The library's own `forward` pairs the k-th cell of one list with the k-th of another one that is
        sorted differently (transformers 5.23): it compares wrong cells wherever the views are moved against
        each other. And its post-processing rounds to whole pixels. Hence its parts are put together here.
        """
        network = self._network
        coarse, *finer = network.efficientloftr(pixels).feature_maps
        columns, scale = coarse.shape[-1], pixels.shape[-2] / coarse.shape[-2]
        _, scores, indices = network._coarse_matching(coarse, scale)
        seen_left = (indices[0, 1] > -1) & (
            scores[0, 1] > 0
        )  # over the left view's cells: the right one's cell
        cells = torch.stack([seen_left.nonzero().squeeze(-1), indices[0, 1][seen_left]])  # (2, N)
        corners = torch.stack([cells % columns, cells // columns], dim=-1) * scale
        fine = network.refinement_layer(coarse / network.config.hidden_size**0.5, finer)
        chosen = (features[:, index] for features, index in zip(fine, cells, strict=True))
        left, right = network._fine_matching(*chosen, corners[None], 1.0)[0].cpu()
        return left, right


class LoFTR:
    """Dense matches by LoFTR (Sun et al., CVPR 2021) of the kornia library, which the paper rectified with.

    Args:
        kind: "outdoor" or "indoor_new".
        folder: with kornia's file of these weights (`LOFTR_FILES`); None takes kornia's own copy, which is
            downloaded where it is not on this machine.
        device: where it runs.

    Raises:
        UserError: kornia is not installed, or the file can't be had.
    """

    def __init__(self, kind: str, folder: Path | None = None, device: torch.device | str = "cpu") -> None:
        self.name = f"loftr ({kind})"
        self._device = torch.device(device)
        self._network = _load_loftr(kind, folder).to(device).eval()

    @torch.inference_mode()
    def __call__(self, pair: Pair) -> Matches:
        left, right = (_reduced(view)[None].to(self._device) for view in pair)
        found = self._network({"image0": left, "image1": right})
        points = (found[name].cpu() for name in ("keypoints0", "keypoints1"))
        return _enlarged(*points, tuple(left.shape[-2:]), pair[0].shape[:2])


def _load_loftr(kind: str, folder: Path | None) -> torch.nn.Module:
    try:
        from kornia.feature import LoFTR as Network
        from kornia.feature.loftr.loftr import default_cfg
    except ImportError as error:
        raise UserError("the matcher loftr needs another package: pip install 'm2svid[loftr]'") from error
    if folder is None:
        log.info("LoFTR (%s) is taken from kornia, which downloads what is not on this machine", kind)
        try:
            return Network(pretrained=kind)
        except OSError as error:
            raise UserError(
                f"LoFTR's weights can't be downloaded ({_sentence(error)}); put {LOFTR_FILES[kind]} into a "
                "folder and give loftr:FOLDER"
            ) from error
    path = folder / LOFTR_FILES[kind]
    if not path.is_file():
        raise UserError(
            f"{path} does not exist: the matcher loftr looks for {' and '.join(LOFTR_FILES.values())}"
        )
    # Weights of the newer training expect positions without a mistake of the older ones.
    coarse = default_cfg["coarse"] | {"temp_bug_fix": kind == "indoor_new"}
    network = Network(pretrained=None, config=default_cfg | {"coarse": coarse})
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
    except (RuntimeError, KeyError, TypeError) as error:
        raise UserError(f"{path} does not hold LoFTR's weights ({_sentence(error)})") from error
    return network


def open_matchers(spec: str, device: torch.device | str = "cpu") -> list[PointMatcher]:
    """The matchers of an option's value, of which the one that finds the most inliers is to be taken.

    Args:
        spec: "sift"; "efficientloftr" or "efficientloftr:FOLDER_OR_ID"; "loftr" or "loftr:FOLDER", which
            stands for the outdoor and the indoor weights.
        device: where networks run.

    Raises:
        UserError: another value, or a matcher that can't be had.
    """
    kind, _, where = spec.partition(":")
    if kind == "sift" and not where:
        return [Sift()]
    if kind == "efficientloftr":
        return [EfficientLoFTR(where or EFFICIENT_LOFTR, device)]
    if kind == "loftr":
        return [LoFTR(name, Path(where) if where else None, device) for name in LOFTR_FILES]
    raise UserError(
        "a point matcher is sift, efficientloftr, efficientloftr:FOLDER_OR_ID, loftr or loftr:FOLDER, not "
        f"{spec!r}"
    )


def _reduced(view: NDArray[np.uint8]) -> Tensor:
    """(1, h, w) in [0, 1], gray, of a size that a learned matcher takes."""
    height, width = view.shape[:2]
    scale = min(1.0, _LONGEST_SIDE / max(height, width))
    size = [max(1, round(side * scale / _MULTIPLE)) * _MULTIPLE for side in (width, height)]
    return torch.from_numpy(cv2.resize(gray(view), size, interpolation=cv2.INTER_AREA))[None].float() / 255


def _enlarged(left: Tensor, right: Tensor, seen: tuple[int, int], size: tuple[int, int]) -> Matches:
    """Matches in the pixels of views of (height, width) `size`, found in views of `seen`."""
    scale = np.array(size[::-1]) / np.array(seen[::-1])
    return Matches(*((points.double().numpy() + 0.5) * scale - 0.5 for points in (left, right)))


def _sentence(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
