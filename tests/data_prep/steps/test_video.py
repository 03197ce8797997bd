"""Halving, resizing and sharing out, against hand calculations."""

import numpy as np
import pytest

from data_prep.steps.video import resize_view, split_evenly, split_views
from m2svid.errors import UserError


def test_halves():
    frame = np.arange(2 * 4 * 3).reshape(2, 4, 3).astype(np.uint8)
    left, right = split_views(frame, "side-by-side")
    np.testing.assert_array_equal(np.concatenate([left, right], 1), frame)
    top, bottom = split_views(frame, "top-bottom")
    np.testing.assert_array_equal(np.concatenate([top, bottom], 0), frame)
    with pytest.raises(UserError, match="3 px"):
        split_views(frame[:, :3], "side-by-side")


def test_shrinking_averages_and_growing_interpolates():
    ramp = np.repeat(np.arange(0, 160, 10, dtype=np.uint8)[None, :, None], 4, 0).repeat(3, 2)
    np.testing.assert_array_equal(resize_view(ramp, (8, 2))[0, :, 0], np.arange(5, 160, 20))
    wide = resize_view(ramp, (32, 2))[0, 4:-4, 0].astype(int)
    np.testing.assert_allclose(np.diff(wide), 5, atol=1)  # INTER_AREA would give 0, 10, 0, 10 ...


def test_split_evenly_uses_every_frame():
    assert split_evenly(51, 50) == [51]
    assert split_evenly(51, 15) == [17, 17, 17]
    assert split_evenly(25, 10) == [12, 13]
    assert split_evenly(3, 100) == [3]
