"""StereoCrafter's splatting against the published formula, source by source."""

import math

import pytest
import torch

from m2svid.warping.soft_splat import soft_splat

H, W = 4, 9


def splat_by_hand(left, disparity):
    """One frame: (3, H, W) and (H, W) float64, in plain loops over the sources."""
    colour, weights, share = torch.zeros(3, H, W).double(), torch.zeros(H, W), torch.zeros(H, W)
    weights, share = weights.double(), share.double()
    for y in range(H - 1):  # a source needs the row below, where its weight is 0
        for x in range(W):
            target = x - disparity[y, x].item()
            first = math.floor(target)
            if first < 0 or first + 1 >= W:
                continue
            near = 1.414 ** (disparity[y, x] - disparity.min()).item()
            for column, part in ((first, first + 1 - target), (first + 1, target - first)):
                colour[:, y, column] += part * near * left[:, y, x]
                weights[y, column] += part * near
                share[y, column] += part
    return colour / weights.clamp(min=1e-6), 1 - share.clamp(0, 1)


@pytest.mark.parametrize("low", [0, -4], ids=["positive", "signed"])
def test_the_published_formula(low):
    random = torch.Generator().manual_seed(low + 9)
    left = torch.rand(3, H, W, generator=random).double()
    disparity = low + 6 * torch.rand(H, W, generator=random).double()
    warped, hole = soft_splat(left, disparity[None])
    expected, expected_hole = splat_by_hand(left, disparity)
    torch.testing.assert_close(warped, expected)
    torch.testing.assert_close(hole[0], expected_hole)
    assert ((hole > 0) & (hole < 1)).any()  # soft, as StereoCrafter has it


def test_whole_shifts_move_bytes_exactly():
    left = torch.randint(0, 256, (2, 3, H, W), dtype=torch.uint8)
    warped, hole = soft_splat(left, torch.full((2, 1, H, W), 2.0))
    assert torch.equal(warped[..., :-1, : W - 3], left[..., :-1, 2 : W - 1])
    assert (hole[..., :-1, : W - 3] == 0).all()
    assert (hole[..., W - 2 :] == 1).all() and (hole[..., -1, :] == 1).all()


def test_the_nearer_of_two_weighs_more():
    """Pixels 0 (disparity 0) and 6 (disparity 6) meet: 1 against 1.414^6."""
    left = torch.zeros(3, 2, W)
    left[:, 0, 6] = 1
    disparity = torch.zeros(1, 2, W)
    disparity[0, 0, 6] = 6
    warped, _ = soft_splat(left, disparity)
    near = 1.414**6
    assert warped[0, 0, 0].item() == pytest.approx(near / (near + 1), rel=1e-6)


def test_large_disparities_stay_finite():
    warped, _ = soft_splat(torch.ones(3, 2, 1200), torch.linspace(0, 1000, 1200).expand(1, 2, 1200))
    assert warped.isfinite().all()
