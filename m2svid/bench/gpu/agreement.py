"""Agreement of a device's results with those of the CPU in float32."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from m2svid.bench.gpu.setting import Numbers, Setting, calculating_in, dtype_of
from m2svid.bench.networks import make_clip
from m2svid.inference.refiner import Refiner

SIZE = (2, 64, 64)
TOLERANCE: dict[Numbers, float] = {"float32": 1e-4, "tf32": 5e-3, "float16": 5e-3, "bfloat16": 3e-2}
"""Of |out - reference| / |reference|."""


def agree(setting: Setting) -> dict[str, Any]:
    """Errors of small networks' right views by kind of numbers, and whether all are tolerable."""
    reference = _view(torch.device("cpu"), "float32")
    errors = {}
    for numbers in setting.kinds:
        errors[numbers] = relative_error(_view(setting.device, numbers), reference)
    fine = all(error <= TOLERANCE[numbers] for numbers, error in errors.items())  # NaN is not
    return {
        "agrees": fine,
        "errors": errors,
        "tolerance": {numbers: TOLERANCE[numbers] for numbers in errors},
    }


def relative_error(out: Tensor, reference: Tensor) -> float:
    """|out - reference| / |reference|."""
    return float((out.float() - reference).norm() / reference.norm())


def _view(device: torch.device, numbers: Numbers) -> Tensor:
    # random numbers differ between devices, so all is drawn on the CPU
    model = Setting(torch.device("cpu"), small=True).model("float32").to(dtype_of(numbers))
    clip = make_clip(*SIZE)
    refiner = Refiner(model, device, window=SIZE[0], overlap=0, add_noise=False)
    with calculating_in(numbers):
        return refiner(clip.left[0], clip.warped[0], clip.hole[0], fps=24.0)
