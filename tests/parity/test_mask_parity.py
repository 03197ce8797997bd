"""Closing and dilation equal the published ones."""

from pathlib import Path

import numpy as np
import torch

from m2svid.warping.mask import close_hole, dilate

FIXTURE = Path(__file__).parent / "fixtures" / "mask.npz"


def test_closed_and_dilated_masks_are_identical():
    with np.load(FIXTURE) as fixture:
        hole, closed, closed_dilated = (
            torch.from_numpy(fixture[name]) for name in ("hole", "closed", "closed_dilated")
        )
    assert torch.equal(close_hole(hole), closed)
    assert torch.equal(dilate(closed), closed_dilated)
