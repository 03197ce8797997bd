"""Depth by Video Depth Anything: as quick as an estimator of single frames, and steady over a shot.

Its Small model is of the Apache licence 2.0, Base and Large are of CC BY-NC 4.0 (as its repository says).

Shapes: H W pixels of the film, h w of the depth maps.
"""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from m2svid.depth.base import DepthRequest
from m2svid.depth.keyframes import SHARED, WINDOW, KeyframeWindows
from m2svid.depth.vda_network import PATCH, load_network
from m2svid.errors import UserError
from m2svid.video.planes import interleaved
from m2svid.weights.fetch import SUFFIXES, read_file, resolve

NAME = "video-depth-anything"
HUB_ID = "depth-anything/Video-Depth-Anything-Small"
_HUB = re.compile(r"depth-anything/(Metric-)?Video-Depth-Anything-\w+")
_FILE = "*video_depth_anything*"  # of published weights
_SHORTER_SIDE = 518  # px, of what the model sees
_WIDEST = 1.78  # sides' ratio up to which it sees that much
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LEAST = 1e-3  # of distances, before they are inverted


class VideoDepthAnything(KeyframeWindows):
    """Windows of a shot with the published weights, of any of its sizes.

    Args:
        model: file of weights (.pth, .safetensors), a folder with one, "video-depth-anything" for the Small
            model, or a hub id. What is not on this machine is downloaded, and the log says so. A name with
            "metric" is that of a model of distances.
        device: where it runs.
        dtype: numbers that it calculates with; None = float32.

    Raises:
        UserError: the model can't be had, or is another one.
    """

    @classmethod
    def accepts(cls, name: str) -> bool:
        path = Path(name)
        if path.is_dir():
            return bool(_weights(path))
        return name == NAME or _HUB.fullmatch(name) is not None or path.suffix in SUFFIXES

    @classmethod
    def open(cls, request: DepthRequest) -> VideoDepthAnything:
        return cls(request.name, request.device, request.dtype)

    def __init__(
        self, model: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
    ) -> None:
        try:
            path = resolve(HUB_ID if model == NAME else model, files=[_FILE])
        except UserError as error:
            raise UserError(f"the depth model {model} (--depth) can't be had: {error}") from error
        if path.is_dir():
            files = _weights(path)
            if len(files) != 1:
                there = ", ".join(file.name for file in files) or "none"
                raise UserError(f"--depth {path} must hold one file of {_FILE}, not {there}: name the file")
            (path,) = files
        self._device, self._dtype = torch.device(device), dtype or torch.float32
        self._network = load_network(path, read_file(path)[0]).to(device)
        self.scaled = "metric" not in path.name.lower()
        numbers = str(self._dtype).removeprefix("torch.")
        scale = "on one scale" if self.scaled else "distance, inverted"
        self.settings = {"depth_dtype": numbers}
        self.name = str(model)
        self.description = (
            f"{model} (Video Depth Anything on {self._device} in {numbers}), windows of {WINDOW} frames "
            f"sharing {SHARED}, {scale}, normalised per shot"
        )

    def prepare(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        height, width = _seen(*frame.shape[:2])
        picture = interleaved(frame).astype(np.float32) / 255
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC)
        return ((picture - np.float32(_MEAN)) / np.float32(_DEVIATION)).transpose(2, 0, 1)

    @torch.inference_mode()
    def predict(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        lower = self._dtype != torch.float32
        video = torch.from_numpy(pictures)[None].to(self._device)
        try:
            with torch.autocast(self._device.type, self._dtype if lower else None, enabled=lower):
                depth = self._network(video)[0].float().cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"--depth {self.name}: {self._device} has too little memory for {WINDOW} frames of "
                f"{pictures.shape[-1]}×{pictures.shape[-2]}; give --dtype float16, or another --depth"
            ) from error
        return depth if self.scaled else 1 / depth.clip(min=_LEAST)


def _weights(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob(_FILE) if file.suffix in SUFFIXES)


def _seen(height: int, width: int) -> tuple[int, int]:
    """(h, w) at which the model sees frames: multiples of its patches, the shorter side at least 518 px, or
    less for films wider than 16:9, so that memory stays the same."""
    ratio = max(height, width) / min(height, width)
    least = _SHORTER_SIDE
    if ratio > _WIDEST:
        least = round(int(_SHORTER_SIDE * 1.777 / ratio) / PATCH) * PATCH
    scale = least / min(height, width)
    sides = [max(round(scale * side / PATCH) * PATCH, least) for side in (height, width)]
    return sides[0], sides[1]
