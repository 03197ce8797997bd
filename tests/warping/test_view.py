"""The chain warp, close, blacken against its steps with another library's closing."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from m2svid.warping.splat import warp
from m2svid.warping.view import close_view, warp_view


def scene() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(3)
    left = torch.randint(1, 256, (2, 3, 40, 64), generator=g, dtype=torch.uint8)
    disparity = torch.ones(2, 1, 40, 64)
    disparity[:, :, 10:30, 20:40] = 9.0
    disparity[1, :, 12:14, 50:52] = 6.0
    return left, disparity


def test_the_warped_view_is_black_in_the_closed_holes_and_the_splat_elsewhere():
    left, disparity = scene()
    warped, hole = warp_view(left, disparity)
    for frame in range(2):
        splatted, raw = warp(left[frame], disparity[frame])
        closed = cv2.morphologyEx(
            raw[0].numpy().astype(np.uint8), cv2.MORPH_CLOSE, np.ones((11, 11), np.uint8)
        )
        assert raw.any() and (frame == 0 or (closed > 0).sum() > raw.sum())
        np.testing.assert_array_equal(hole[frame, 0].numpy(), closed > 0)
        np.testing.assert_array_equal(warped[frame].numpy(), splatted.numpy() * (closed == 0))


def test_a_view_of_any_arrangement_in_memory_is_warped_alike():
    left, disparity = scene()
    expected, holes = warp_view(left, disparity)
    for arranged in (left.contiguous(memory_format=torch.channels_last), left.expand(2, 2, -1, -1, -1)):
        warped, hole = warp_view(arranged, disparity.expand(*arranged.shape[:-3], -1, -1, -1))
        assert torch.equal(warped, expected.expand_as(warped)) and torch.equal(hole, holes.expand_as(hole))


def test_closing_a_view_twice_changes_nothing():
    once = close_view(*warp(*scene()))
    for first, second in zip(once, close_view(*once), strict=True):
        assert torch.equal(first, second)
