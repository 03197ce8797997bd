"""SVG's warp against the published steps, written with a painter's loop and OpenCV's filters."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch

from m2svid.warping.layered import warp_layered

T, H, W = 2, 12, 24


def scene(seed):
    """A near square in front of a slanted, noisy background."""
    random = torch.Generator().manual_seed(seed)
    left = torch.rand(T, 3, H, W, generator=random).double()
    disparity = torch.linspace(-2, 2, W).expand(T, 1, H, W) + 0.8 * torch.rand(T, 1, H, W, generator=random)
    disparity[:, :, 3:9, 8:15] += 5
    return left, disparity


def paint(image, shift, depth):
    """Sources from far to near, each over what is there: (H, W, 3), depth and mask of the new view."""
    seen, far = np.zeros((H, W, 3)), np.zeros((H, W))
    mask = np.zeros((H, W))
    for index in np.argsort(-depth, axis=None, kind="stable"):
        y, x = divmod(int(index), W)
        u = int(np.round(x - shift[y, x]))
        if 0 <= u < W:
            seen[y, u], far[y, u], mask[y, u] = image[y, x], depth[y, x], 1
    return seen, far, mask


def clean(image, far, mask):
    """The layers' isolated points and cracks."""
    depths = far[mask > 0]
    low, middle, high = depths.min(), np.median(depths), depths.max()
    bounds = [-np.inf, (low + middle) / 2, middle, (middle + high) / 2, high]
    g = np.exp(-(np.array([-1.0, 0, 1]) ** 2) / 2)
    bell = np.outer(g, g) / (2 * np.pi)
    result, covered = np.zeros_like(image), np.zeros((H, W))
    for near, end in reversed(list(pairwise(bounds))):
        layer = mask * ((far > near) & (far <= end))
        share = layer * cv2.filter2D(layer, -1, np.ones((3, 3)) / 9)
        layer = (share > 0.5).astype(float)
        weight = cv2.filter2D(layer, -1, bell)
        blurred = cv2.filter2D(image * layer[..., None], -1, bell) / (weight[..., None] + 1e-6)
        grown = weight > 0.2
        filled = np.where((layer > 0)[..., None] & grown[..., None], image, blurred)
        result = np.where(grown[..., None], filled, result)
        covered = np.maximum(covered, grown)
    return result, covered


@pytest.mark.parametrize("seed", range(4))
def test_the_published_steps(seed):
    left, disparity = scene(seed)
    warped, hole = warp_layered(left.float(), disparity)
    stretched = (disparity - disparity.min()) / (disparity.max() - disparity.min())
    depth = (1 / (stretched + 0.1)).double().numpy()[:, 0]
    for t in range(T):
        image = left[t].permute(1, 2, 0).numpy()
        result, covered = clean(*paint(image, disparity[t, 0].double().numpy(), depth[t]))
        assert np.array_equal(~hole[t, 0].numpy(), covered > 0)
        np.testing.assert_allclose(warped[t].permute(1, 2, 0).numpy(), result, atol=1e-5)
    assert hole.any() and not hole.all()


def test_bytes_stay_bytes_and_holes_are_black():
    left, disparity = scene(0)
    warped, hole = warp_layered((left * 255).byte(), disparity)
    assert warped.dtype == torch.uint8 and hole.dtype == torch.bool
    assert (warped.masked_select(hole.expand_as(warped)) == 0).all()


def test_a_flat_scene_moves_as_a_whole():
    left = torch.randint(0, 256, (1, 3, H, W), dtype=torch.uint8)
    warped, hole = warp_layered(left, torch.full((1, 1, H, W), 4.0))
    assert torch.equal(warped[..., : W - 4], left[..., 4:])
    assert not hole[..., : W - 4].any() and hole[..., W - 3 :].all()
