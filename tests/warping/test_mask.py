"""Hole masks against OpenCV, and against bilinear weights worked out by hand."""

import cv2
import numpy as np
import pytest
import torch

from m2svid.warping.mask import blacken, close_hole, dilate, disoccluded, mask_latent


def random_hole(seed, height=40, width=53):
    rng = np.random.default_rng(seed)
    hole = rng.random((height, width)) < [0.003, 0.05, 0.5][seed % 3]
    hole[:, -rng.integers(1, 7) :] = True  # as the right border of a warped view
    return hole


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", [1, 3, 5, 11])
def test_equals_opencv(seed, size):
    hole = random_hole(seed)
    kernel = np.ones((size, size), np.uint8)
    ours = torch.from_numpy(hole)[None, None]
    closed = cv2.morphologyEx(hole.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    np.testing.assert_array_equal(close_hole(ours, size)[0, 0].numpy(), closed > 0)
    np.testing.assert_array_equal(
        dilate(ours, size)[0, 0].numpy(), cv2.dilate(hole.astype(np.uint8), kernel) > 0
    )


def test_a_frame_smaller_than_the_window():
    hole = torch.zeros(1, 4, 3, dtype=torch.bool)
    hole[0, 0, 0] = True
    assert dilate(hole, 11).all()
    assert close_hole(hole, 11).all()  # every window within the frame holds the dilated hole
    assert not close_hole(torch.zeros_like(hole)).any()


def test_refuses_what_is_no_mask():
    with pytest.raises(ValueError, match="bool"):
        dilate(torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match="odd"):
        dilate(torch.zeros(1, 4, 4, dtype=torch.bool), 4)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_blacken(dtype):
    video = torch.ones(2, 3, 3, 2, 2, dtype=dtype)
    hole = torch.zeros(2, 3, 1, 2, 2, dtype=torch.bool)
    hole[1, 2, 0, 0, 1] = True
    black = blacken(video, hole)
    assert black.dtype == dtype
    assert black[1, 2, :, 0, 1].tolist() == [0, 0, 0]
    assert black.sum() == video.sum() - 3


def test_mask_latent_reads_the_two_middle_pixels_of_each_block():
    """Bilinear by 1/8 without antialiasing is the mean of the 4 pixels around the block's centre."""
    hole = torch.zeros(1, 1, 1, 16, 24, dtype=torch.bool)
    hole[0, 0, 0, 2, 10] = True  # dilated: rows 1..3, columns 9..11; of block (0, 1) the pixels (3, 11) count
    hole[0, 0, 0, 12, 20] = True  # dilated: rows 11..13, columns 19..21: all 4 middle pixels of block (1, 2)
    expected = torch.tensor([[-1, -1 + 2 / 4, -1], [-1, -1, 1]])
    assert torch.equal(mask_latent(hole, (2, 3))[0, 0, 0], expected)


def test_replaced_frames_have_no_hole():
    hole = torch.ones(2, 3, 1, 16, 16, dtype=torch.bool)
    replaced = torch.tensor([[True, False, False], [False, False, True]])
    mask = mask_latent(hole, (2, 2), replaced)
    assert mask.shape == (2, 3, 1, 2, 2)
    assert torch.equal(mask == -1, replaced[..., None, None, None].expand_as(mask))
    assert (mask[1, 0] == 1).all()


def test_disoccluded_tokens_are_those_above_zero():
    mask = torch.tensor([[-1.0, -1, 1, 1], [-1, -1, 1, 1], [1, -1, 1, -1], [-1, 1, -1, 1]])[None, None, None]
    assert disoccluded(mask, (4, 4))[0, 0].tolist() == (mask > 0).flatten().tolist()
    # Halved, each token is the mean of 2×2: -1, 1, 0, 0; and 0 is not above 0.
    assert disoccluded(mask, (2, 2))[0, 0].tolist() == [False, True, False, False]
    assert disoccluded(mask, (1, 4)).shape == (1, 1, 4)
