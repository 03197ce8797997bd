"""Depth by single-image models of the transformers library (Depth Anything V2 and others).

Shapes: T frames, H W pixels, h w of the depth maps.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    AutoImageProcessor,
    AutoModelForDepthEstimation,
    BaseImageProcessor,
    PreTrainedModel,
)

from m2svid.depth.base import DepthEstimator, DepthRequest
from m2svid.errors import UserError
from m2svid.weights.fetch import read_file, read_json, resolve
from m2svid.weights.mismatch import MismatchError, check_numbers

# Tensors that no depth depends on: published files of DPT and others lack them.
_UNUSED = re.compile(r"mask_token$|fusion_stage\.layers\.0\.residual_layer1\.")
# Models whose output is distance; all others give inverse depth up to scale and shift.
_METRIC = ("metric", "zoedepth", "depth_pro", "glpn")


class TransformersDepth(DepthEstimator):
    """One frame at a time; the normalisation over the shot takes care of its scale.

    Args:
        model: local folder or hub id, for instance `depth-anything/Depth-Anything-V2-Small-hf`. What is not
            on this machine is downloaded, and the log says so.
        device: where it runs.
        batch_size: frames at a time.

    Raises:
        UserError: the model can't be had, or is no depth model.
    """

    relative = True

    @classmethod
    def accepts(cls, name: str) -> bool:
        return True

    @classmethod
    def open(cls, request: DepthRequest) -> TransformersDepth:
        return cls(request.name, request.device)

    def __init__(self, model: str, device: torch.device | str = "cpu", batch_size: int = 4) -> None:
        try:
            folder = resolve(model)
        except UserError as error:
            raise UserError(
                f"the depth model {model} (--depth) can't be had: {error}. Depth may also be a file: npz, "
                "gray video or pictures"
            ) from error
        self._processor, network = _load(folder)
        self._model = network.to(device).eval()
        self.name = model
        self._device = torch.device(device)
        self._batch_size = batch_size
        self._metric = self._gives_distance(model)
        near = "distance, inverted" if self._metric else "near is large"
        self.description = f"{model} ({self._model.config.model_type}), {near}, normalised per shot"

    @torch.inference_mode()
    def __call__(self, frames: Sequence[NDArray[np.uint8]], first: int) -> NDArray[np.float32]:
        parts = [
            self._predict(frames[at : at + self._batch_size])
            for at in range(0, len(frames), self._batch_size)
        ]
        depth = np.concatenate(parts)
        return 1 / depth.clip(min=1e-3) if self._metric else depth

    def _predict(self, frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        channels = {"input_data_format": "channels_last"}  # else guessed, wrongly for 1 to 4 rows or columns
        try:
            inputs = self._processor(images=list(frames), return_tensors="pt", **channels).to(self._device)
        except ValueError as error:
            size = f"{frames[0].shape[1]}×{frames[0].shape[0]}"
            raise UserError(f"--depth {self.name} can't take pictures of {size}: {error}") from error
        return self._model(**inputs).predicted_depth.float().cpu().numpy()

    def _gives_distance(self, model: str) -> bool:
        config = self._model.config
        declared = getattr(config, "depth_estimation_type", None)
        if declared is not None:
            return declared == "metric"
        return any(word in f"{config.model_type} {Path(model).name}".lower() for word in _METRIC)


def _load(folder: Path) -> tuple[BaseImageProcessor, PreTrainedModel]:
    """Load processor and network, whose tensors must all be in the folder; code that lies there is never run.

    Raises:
        UserError: they can't be loaded, or tensors are missing or no numbers.
    """
    none = f"--depth {folder} is neither a depth file nor a depth model that can be loaded"
    if not (folder / "config.json").exists():
        raise UserError(f"{none}: it has no config.json")
    config = read_json(folder / "config.json")
    for file in sorted(folder.glob("*.safetensors")):
        check_numbers(f"--depth {file}", read_file(file)[0])
    try:
        processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=False)
        network, report = AutoModelForDepthEstimation.from_pretrained(
            folder, trust_remote_code=False, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except Exception as error:  # a library's reading of whatever a folder holds
        own = "auto_map" in config
        reason = "it brings code of its own, which is never run" if own else " ".join(str(error).split())
        raise UserError(f"{none}: {reason}") from error
    missing = [key for key in report["missing_keys"] if not _UNUSED.search(key)]
    misshapen = {key: (tuple(found), tuple(wanted)) for key, found, wanted in report["mismatched_keys"]}
    if missing or misshapen:
        raise MismatchError(f"--depth {folder}", missing, misshapen=misshapen)
    check_numbers(f"--depth {folder}", network.state_dict())
    return processor, network
