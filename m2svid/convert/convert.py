"""The verb `convert`: any film in, a stereo film out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from m2svid.convert.layouts import LAYOUTS
from m2svid.convert.options import Options
from m2svid.convert.pipeline import Conversion
from m2svid.convert.read import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Video
from m2svid.convert.refine import BackgroundFill, Refiner
from m2svid.convert.report import Reporter
from m2svid.depth.base import DepthEstimator
from m2svid.depth.files import DepthFile
from m2svid.errors import UserError

if TYPE_CHECKING:
    from m2svid.model.m2svid import M2SVid


DEPTHCRAFTER = "tencent/DepthCrafter"  # on the hub


def convert(input: str, output: Path | None = None, **options: Any) -> None:
    """Convert films into stereo films.

    Args:
        input: a film, a picture, a folder of films, a folder of pictures (one film), or a quoted glob.
        output: the stereo film, or a folder for several; if not given, it lies beside the input, with a name
            by which players recognise it.
        **options: how.

    Raises:
        UserError: a mistake; with several inputs, after all others were converted.
    """
    chosen = Options(**options)
    chosen.require_depth()
    report = Reporter(chosen.progress)
    films = find_films(input)
    several = len(films) > 1
    if several and output is not None and output.suffix:
        raise UserError(f"-o {output} names one file, but there are {len(films)} films: name a folder")
    devices = pick_devices(chosen.devices)
    models = [load_model(chosen) for _ in devices]
    failed = []
    for film in films:
        target = output_name(film, output, chosen, several)
        if several and target.exists() and not chosen.restart:
            report.say("skipped", f"{target} exists: skipped", file=str(target))
            continue
        try:
            video = Video(film, chosen.rate)
            jobs = [
                make_job(video, target, chosen, model, device, report)
                for model, device in zip(models, devices, strict=True)
            ]
            jobs[0].run(jobs[1:])
        except UserError as error:
            if not several:
                raise
            failed.append(film)
            report.say("failed", f"{film}: {error}", file=str(film))
    if failed:
        raise UserError(f"{len(failed)} of {len(films)} films failed: {', '.join(map(str, failed))}")


def make_job(
    video: Video, target: Path, options: Options, model: M2SVid | None, device: torch.device, report: Reporter
) -> Conversion:
    """A film's conversion on a device."""
    depth = open_depth(options, device, video)
    return Conversion(
        video, target, options, make_refiner(options, model, device, video, depth), depth, report
    )


def find_films(given: str) -> list[Path]:
    """Files and folders as single films: a folder holds films, or the pictures of one.

    Raises:
        UserError: nothing is found.
    """
    paths = [Path(given)] if Path(given).exists() else _glob(Path(given))
    if not paths:
        raise UserError(f"{given} does not exist")
    films: list[Path] = []
    for path in paths:
        inside = sorted(path.iterdir()) if path.is_dir() else []
        films += [file for file in inside if file.suffix.lower() in VIDEO_SUFFIXES] or [path]
    return films


def _glob(pattern: Path) -> list[Path]:
    root = Path(pattern.anchor)
    return sorted(root.glob(str(pattern.relative_to(root))))


def output_name(film: Path, output: Path | None, options: Options, several: bool) -> Path:
    """Where the stereo film of `film` goes."""
    if output is not None and not several and not output.is_dir():
        return output
    folder = film.parent if output is None else output
    suffix = ".mp4"
    if film.suffix.lower() in IMAGE_SUFFIXES:
        suffix = ".png"
    elif film.suffix.lower() == ".mkv" or options.codec == "ffv1":
        suffix = ".mkv"
    elif options.codec == "prores":
        suffix = ".mov"
    return folder / f"{film.stem}{LAYOUTS[options.layout].suffix}{suffix}"


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


def open_depth(options: Options, device: torch.device, video: Video) -> DepthEstimator:
    """The depth file, or the model of that name, for a film."""
    given = options.require_depth()
    path = Path(given)
    if given == DEPTHCRAFTER or _is_video_model(path):
        from m2svid.convert.memory import available
        from m2svid.depth.depthcrafter import DepthCrafter  # takes seconds to import

        return DepthCrafter(
            given,
            options.depth_backbone,
            device,
            getattr(torch, options.dtype),
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


def load_model(options: Options) -> M2SVid | None:
    """The model that repairs the warped views, on the CPU; None where there is to be none."""
    if options.refine == "none":
        return None
    from m2svid.model.m2svid import M2SVid  # takes seconds to import

    return M2SVid.from_pretrained(options.weights, dtype=getattr(torch, options.dtype)).eval()


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
    from m2svid.convert.refine_model import fitted  # takes seconds to import

    return fitted(model, device, options, video.info.width, video.info.height, depth)
