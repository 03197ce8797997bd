"""The models that a conversion asks for, and where they run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from m2svid.convert.makers import Conversion
from m2svid.convert.options import Options
from m2svid.convert.report import Reporter
from m2svid.convert.runner import Job
from m2svid.depth.base import DepthEstimator
from m2svid.depth.files import DepthFile
from m2svid.errors import UserError
from m2svid.inference.background import BackgroundFill, Refiner
from m2svid.video.read import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Video

if TYPE_CHECKING:
    from m2svid.model.m2svid import M2SVid

DEPTHCRAFTER = "tencent/DepthCrafter"  # on the hub


def pick_devices(names: str) -> list[torch.device]:
    """The named devices; "auto" is CUDA where there is one.

    Raises:
        UserError: there is no such device.
    """
    if names == "auto":
        return [torch.device("cuda" if torch.cuda.is_available() else "cpu")]
    devices = []
    for name in names.split(","):
        try:
            devices.append(torch.empty(0, device=name.strip()).device)
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"--devices {name} can't be used: {str(error).splitlines()[0]}") from error
    return devices


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The named one; "auto" is what a device is quick with."""
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return getattr(torch, name)


def open_depth(options: Options, device: torch.device, video: Video) -> DepthEstimator:
    """The depth file, or the model of that name, for a film."""
    given = options.depth
    path = Path(given)
    if given == DEPTHCRAFTER or _is_video_model(path):
        from m2svid.depth.depthcrafter import DepthCrafter  # takes seconds to import
        from m2svid.inference.memory import available

        return DepthCrafter(
            given,
            options.depth_backbone,
            device,
            pick_dtype(options.dtype, device),
            options.seed,
            budget=available(options.vram, device),
            size=(video.info.height, video.info.width),
        )
    local_model = (path / "config.json").exists()
    if path.exists() and not local_model:
        return DepthFile(path, options.depth_kind, options.depth_range)
    files = {".npz"} | VIDEO_SUFFIXES | IMAGE_SUFFIXES
    if not local_model and (path.suffix.lower() in files or given.startswith((".", "/", "~"))):
        raise UserError(f"--depth {path} does not exist")
    from m2svid.depth.transformers import TransformersDepth  # takes seconds to import

    return TransformersDepth(given, device)


def _is_video_model(path: Path) -> bool:
    """A folder of the architecture of Stable Video Diffusion: with all networks, or of a U-Net alone."""
    config = path / "config.json"
    unet = config.exists() and "UNetSpatioTemporal" in json.loads(config.read_text()).get("_class_name", "")
    return unet or (path / "model_index.json").exists()


def load_model(options: Options, device: torch.device) -> M2SVid | None:
    """The model that will repair the warped views on a device, still on the CPU; None where it is not asked
    for."""
    if options.refine == "none":
        return None
    from m2svid.model.m2svid import M2SVid  # takes seconds to import

    return M2SVid.from_pretrained(options.weights, dtype=pick_dtype(options.dtype, device)).eval()


def make_refiner(
    options: Options,
    model: M2SVid | None,
    device: torch.device,
    video: Video,
    depth: DepthEstimator | None = None,
) -> Refiner:
    """What fills and repairs the warped views of a film, beside what estimates its depth."""
    if model is None:
        return BackgroundFill()
    from m2svid.inference.refiner import fitted  # takes seconds to import

    return fitted(model, device, options, video.info.width, video.info.height, depth)


def run_on(devices: str, make_job: Callable[[torch.device], Job]) -> None:
    """Do a job on the named devices, which share out its shots."""
    first, *others = map(make_job, pick_devices(devices))
    first.run(others)


def make_conversion(
    video: Video, target: Path, options: Options, model: M2SVid | None, device: torch.device, report: Reporter
) -> Conversion:
    """A film's conversion on a device."""
    depth = open_depth(options, device, video)
    refiner = make_refiner(options, model, device, video, depth)
    return Conversion(video, target, options, refiner, depth, report)
