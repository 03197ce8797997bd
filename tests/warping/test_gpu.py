"""CPU and GPU give the same bits."""

import pytest
import torch

from m2svid.warping.fill import fill_from_background
from m2svid.warping.mask import close_hole, disoccluded, mask_latent
from m2svid.warping.splat import warp
from tests.gpu import NEEDS_GPU

pytestmark = list(NEEDS_GPU)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16])
def test_warp_mask_and_fill_are_identical(dtype):
    generator = torch.Generator().manual_seed(0)
    left = (torch.rand(2, 3, 3, 128, 192, generator=generator) * 255).to(dtype)
    disparity = torch.rand(2, 3, 1, 128, 192, generator=generator) * 40
    disparity[0] = disparity[0].round()
    results = []
    for device in ("cpu", "cuda"):
        warped, hole = warp(left.to(device), disparity.to(device))
        closed = close_hole(hole)
        mask = mask_latent(closed, (16, 24))
        results.append(
            (warped, hole, closed, fill_from_background(warped, closed), mask, disoccluded(mask, (8, 12)))
        )
    for cpu, cuda in zip(*results, strict=True):
        assert torch.equal(cpu, cuda.cpu())
