"""The virtual left view and its holes, against loops, true occlusion, and the procedural world's right
eye."""

import numpy as np
import pytest
import torch

from data_prep.steps.virtual_view import sharpen_edges, virtual_views
from m2svid.synthetic.world import ProceduralWorld
from m2svid.warping.mask import close_hole


def by_hand(right, disparity):
    """Left view, its gaps, and what is lost, of one row by a z-buffer; the nearest pixel wins."""
    width = len(right)
    left, depth = [None] * width, [-1.0] * width
    for x in range(width):
        at = x + round(disparity[x])
        if at < width and disparity[x] > depth[at]:
            left[at], depth[at] = right[x], disparity[x]
    lost = []
    for x in range(width):
        at = x + round(disparity[x])
        lost.append(at >= width or depth[at] - disparity[x] >= 1)
    return left, lost


def test_a_row_by_hand():
    """A near pair of pixels (3 px) before a far ground (1 px)."""
    right = torch.arange(1, 9, dtype=torch.uint8).expand(1, 3, 1, 8)
    disparity = torch.tensor([1, 1, 3, 3, 1, 1, 1, 1.0]).view(1, 1, 1, 8)
    views = virtual_views(right, disparity)
    assert views.left_gap.flatten().nonzero().flatten().tolist() == [0, 3, 4]
    # Gaps take the background to their left; at the picture's border, what is to their right.
    assert views.left[0, 0, 0].tolist() == [1, 1, 2, 2, 2, 3, 4, 7]
    # Pixels 5 and 6 (values) are covered by 3 and 4; 8 leaves the picture. The closing joins what is near.
    assert views.hole.flatten()[[4, 5, 7]].all()
    assert not views.warped[0, 0, 0][views.hole.flatten()].any()
    assert torch.equal(views.warped[0, 0, 0][~views.hole.flatten()], right[0, 0, 0][~views.hole.flatten()])


def test_random_rows_equal_a_loop():
    rng = np.random.default_rng(0)
    right = rng.integers(1, 255, (20, 40)).astype(np.uint8)
    disparity = rng.uniform(0, 8, (20, 40)).astype(np.float32)
    views = virtual_views(
        torch.from_numpy(right)[:, None, None].expand(-1, 3, 1, -1),
        torch.from_numpy(disparity)[:, None, None],
    )
    for row in range(20):
        left, lost = by_hand(right[row], disparity[row])
        assert views.left_gap[row, 0, 0].tolist() == [colour is None for colour in left]
        known = [x for x, colour in enumerate(left) if colour is not None]
        assert views.left[row, 0, 0][known].tolist() == [left[x] for x in known]
        assert torch.equal(views.hole[row, 0], close_hole(torch.tensor([lost])))


def test_lost_pixels_are_the_true_disocclusion():
    """Layers of whole disparities: a pixel of the right view is a hole exactly if the left eye does not see
    it."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        disparity = np.zeros((1, 64), int)
        for near in sorted(rng.integers(1, 12, 5)):  # later ones are nearer
            begin = rng.integers(0, 60)
            disparity[0, begin : begin + rng.integers(2, 20)] = near
        # The left eye sees, at each of its columns, the nearest thing there.
        unseen = [
            x + disparity[0, x] >= 64
            or any(
                y + disparity[0, y] == x + disparity[0, x] and disparity[0, y] > disparity[0, x]
                for y in range(64)
            )
            for x in range(64)
        ]
        right = torch.zeros(1, 3, 1, 64, dtype=torch.uint8)
        views = virtual_views(right, torch.from_numpy(disparity).float()[None, None])
        assert torch.equal(views.hole[0, 0], close_hole(torch.tensor([unseen])))


def test_a_slanted_surface_is_no_hole():
    """Its disparity falls by 0.4 px a column: the left eye sees it narrower, but sees all of it."""
    disparity = (30 - 0.4 * torch.arange(40.0)).clamp(min=0).expand(1, 1, 30, 40)
    views = virtual_views(torch.zeros(1, 3, 30, 40, dtype=torch.uint8), disparity)
    leaves = torch.arange(40) + disparity[0, 0, 0].round() >= 40
    assert leaves.sum() == 24 and torch.equal(views.hole[0, 0, 0], leaves)


def test_holes_are_those_of_the_world():
    """The world tells what the left eye does not see, and the right eye's disparities."""
    shares = []
    for seed in range(3):
        world = ProceduralWorld(seed, 96, 160, 1, 8)
        _, right, _, hole = world.frame(0)
        disparity = world.trace(0, world.eye(0).right).disparity
        found = virtual_views(right[None], disparity[None, None]).hole
        truth = close_hole(hole[None])
        shares.append(float((found & truth).sum() / (found | truth).sum()))
    assert min(shares) > 0.8


def test_blurred_edges_become_steps():
    step = np.where(np.arange(60) < 30, 20.0, 4.0).astype(np.float32)
    blurred = np.convolve(np.pad(step, 4, "edge"), np.ones(9) / 9, "valid").astype(np.float32)
    sharp = sharpen_edges(np.tile(blurred, (20, 1)))
    assert set(np.unique(sharp.round(3))) <= {20.0, 4.0, *np.unique(blurred[[25, 34]].round(3))}
    change = np.abs(np.diff(sharp[10]))
    assert (change > 1).sum() == 1 and 27 <= int(change.argmax()) <= 32
    slope = np.tile(np.linspace(10, 20, 60, dtype=np.float32), (20, 1))
    np.testing.assert_array_equal(sharpen_edges(slope), slope)


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_flat_depth_is_left_alone(value):
    flat = np.full((8, 9), value, np.float32)
    np.testing.assert_array_equal(sharpen_edges(flat), flat)
