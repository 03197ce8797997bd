"""Cropping both views of a pair alike, or against each other."""

from __future__ import annotations

from data_prep.steps.video import Pair


def crop_even(pair: Pair) -> Pair:
    """Without the last row and the last column where their number is odd: 4:2:0 video has even sizes only."""
    height, width = (length - length % 2 for length in pair[0].shape[:2])
    return pair[0][:height, :width], pair[1][:height, :width]


def shift_views(pair: Pair, shift: int) -> Pair:
    """Add `shift` pixels to every disparity, as the paper does for Ego4D.

    Columns are cut off the left view's right side and the right view's left side; nothing is resampled.
    """
    if shift == 0:
        return pair
    return pair[0][:, :-shift], pair[1][:, shift:]
