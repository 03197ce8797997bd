"""Our own folder: a diffusers folder (unet/, vae/, image_encoder/, scheduler/) that says what model it is."""

from __future__ import annotations

import json
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import diffusers
from diffusers import EulerDiscreteScheduler
from safetensors.torch import save_file

from m2svid.errors import UserError
from m2svid.files import whole
from m2svid.model.sampler import Sampler
from m2svid.weights.parts import Component, Part, Parts, check_part, class_name
from m2svid.weights.settings import Settings

LIBRARY = {
    "UNetSpatioTemporalConditionModel": "diffusers",
    "AutoencoderKLTemporalDecoder": "diffusers",
    "CLIPVisionModelWithProjection": "transformers",
    "SpaceToDepth": "m2svid",
    "NoImageEncoder": "m2svid",
}


def new_path(path: Path) -> AbstractContextManager[Path]:
    """A temporary path beside `path`, which takes its name when all went well and disappears otherwise.

    Raises:
        UserError: `path` exists already, or can't be written.
    """
    if path.exists():
        raise UserError(f"{path} exists already; remove it or give another output.")
    return whole(path)


def write_folder(folder: Path, parts: Parts, settings: Settings) -> None:
    """Writes a whole model; the folder appears when it is complete. Tensors keep their dtype.

    Raises:
        UserError: the folder exists, or a state does not fit its configuration.
    """
    for component, part in parts.items():
        check_part(component, component, part)
    with new_path(folder) as temporary:
        for component, part in parts.items():
            _write_part(temporary / component, component, part)
        _write_json(temporary / "scheduler" / "scheduler_config.json", _scheduler(settings.usage.sampler))
        _write_json(temporary / "model_index.json", _index(parts, settings))


def _write_part(folder: Path, component: Component, part: Part) -> None:
    name = _public_name(component, part)
    config = {key: value for key, value in part.config.items() if not key.startswith("_")}
    if LIBRARY[name] == "transformers":
        config = {"architectures": [name], "model_type": "clip_vision_model", **config}
    else:
        config = {"_class_name": name, "_diffusers_version": diffusers.__version__, **config}
    _write_json(folder / "config.json", config)
    if part.state:
        file = (
            "model.safetensors" if LIBRARY[name] == "transformers" else "diffusion_pytorch_model.safetensors"
        )
        tensors = {key: tensor.contiguous() for key, tensor in part.state.items()}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        shutil.copymode(folder / "config.json", folder / file)  # safetensors lets only the owner read


def _public_name(component: Component, part: Part) -> str:
    """The class that other programs know: ours is diffusers' U-Net with another forward."""
    name = class_name(component, part.config)
    return "UNetSpatioTemporalConditionModel" if component == "unet" else name


def _index(parts: Parts, settings: Settings) -> dict[str, Any]:
    names = {component: _public_name(component, part) for component, part in parts.items()}
    return {
        "_class_name": "M2SVid",
        "_diffusers_version": diffusers.__version__,
        **{component: [LIBRARY[name], name] for component, name in names.items()},
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "m2svid": settings.to_json(),
    }


def _scheduler(sampler: Sampler) -> dict[str, Any]:
    """The same noise levels for diffusers; our own sampler reads `model_index.json`."""
    scheduler = EulerDiscreteScheduler(
        prediction_type="v_prediction",
        use_karras_sigmas=True,
        timestep_type="continuous",
        timestep_spacing="leading",
        sigma_min=sampler.sigma_min,
        sigma_max=sampler.sigma_max,
        final_sigmas_type="zero",
    )
    return json.loads(scheduler.to_json_string())


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, default=list) + "\n")
