"""The published implementation's numbers on a GPU, in each kind of numbers: run with `-m gpu`.

What is compared runs on the CPU, too, in bfloat16; float32 there is `test_published_file_parity`'s.
"""

from __future__ import annotations

import pytest
import torch

from m2svid.batch import StereoBatch
from m2svid.bench.gpu.agreement import relative_error
from m2svid.bench.gpu.setting import calculating_in, dtype_of
from m2svid.inference.refiner import Refiner
from m2svid.warping.view import close_view
from m2svid.weights.load import Heads, load
from tests.gpu import NEEDS_GPU
from tests.parity.rebuild import HEADS, SEEDS, inputs_and_outputs, rebuild_state

TOLERANCE = {"float32": 5e-5, "tf32": 1e-2, "float16": 1e-2, "bfloat16": 8e-2}
"""Of |ours - theirs| / |theirs| for each tensor, where theirs are the CPU's in float32.

The CPU has 3e-6 in float32, 6e-3 in float16 and 5e-2 in bfloat16, all for the latent; TF32 has float16's
fraction.
"""

PLACES = [("cpu", "bfloat16")]
PLACES += [pytest.param("cuda", numbers, marks=NEEDS_GPU) for numbers in TOLERANCE]


@pytest.fixture(scope="module", params=SEEDS)
def published(request, tmp_path_factory):
    """Path of a published file, and inputs and outputs."""
    name = "m2svid_no_full_atten_weights.pt" if "factorized" in request.param else "m2svid_weights.pt"
    path = tmp_path_factory.mktemp("published") / name
    torch.save({"module": {f"module.{k}": v for k, v in rebuild_state(request.param).items()}}, path)
    return path, inputs_and_outputs(request.param)


@pytest.mark.parametrize(("device", "numbers"), PLACES)
@torch.no_grad()
def test_every_stage(published, device, numbers):
    path, io = published
    model = load(path, heads=Heads(**HEADS), dtype=dtype_of(numbers)).to(device)
    view, hole = close_view(io["warped"], io["mask_raw"] > 0.5)
    batch = StereoBatch(io["left"][None], view[None], hole[None], fps=torch.tensor([8.0])).to(device)
    with calculating_in(numbers):
        condition = model.condition(batch, noise_aug=0.02, add_noise=False)
        z = model.sample(condition)
        left, warped, mask = condition.channels[0].split([4, 4, 1], dim=1)
        frames = model.decode(io["latent_1step"][None].to(device))[0]
        refiner = Refiner(model, add_noise=False)
        right = refiner(io["left"], io["warped"], io["mask_raw"] > 0.5, fps=8)
    ours = {
        "left_latent": left,
        "warped_latent": warped,
        "mask_latent": mask,
        "clip_embeds": condition.context[0, :, 0],
        "latent_1step": z[0],
        "frames_1step": frames,
    }
    errors = {name: relative_error(tensor.cpu(), io[name]) for name, tensor in ours.items()}
    errors["right"] = relative_error(right, (io["frames_1step"] / 2 + 0.5).clamp(0, 1))
    assert {name: error for name, error in errors.items() if not error <= TOLERANCE[numbers]} == {}
