"""Anaglyphs: hand-calculated pixels."""

import numpy as np
import pytest
import torch

from m2svid.video.anaglyph import anaglyph


def flat(color: tuple[float, float, float]) -> torch.Tensor:
    return torch.tensor(color)[:, None, None].expand(3, 2, 3)


def test_anaglyph_keeps_gray_and_separates_the_eyes():
    gray = flat((0.5, 0.5, 0.5))
    torch.testing.assert_close(anaglyph(gray, gray), gray, atol=0.03, rtol=0)
    white, black = flat((1.0, 1.0, 1.0)), flat((0.0, 0.0, 0.0))
    left_only, right_only = anaglyph(white, black)[:, 0, 0], anaglyph(black, white)[:, 0, 0]
    assert left_only[0] > 0.9 and left_only[1:].max() == 0
    assert right_only[0] == 0 and right_only[1:].min() > 0.9


def test_dubois_of_a_hand_calculated_pixel():
    left, right = flat((1.0, 0.0, 0.0)), flat((0.0, 1.0, 0.0))
    linear = np.array([0.437 - 0.032, -0.062 + 0.761, 0.0])  # blue: -0.048 - 0.093 < 0
    srgb = np.where(linear > 0, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055, 0)
    np.testing.assert_allclose(anaglyph(left, right)[:, 1, 1].numpy(), srgb, atol=1e-6)


def test_color_takes_red_from_the_left():
    torch.testing.assert_close(
        anaglyph(flat((0.1, 0.2, 0.3)), flat((0.4, 0.5, 0.6)), "color"), flat((0.1, 0.5, 0.6))
    )


# brightness of the left pixel: 0.299·0.1 + 0.587·0.2 + 0.114·0.9 = 0.2499, of the right one 0.6011
@pytest.mark.parametrize(
    ("method", "pixel"),
    [
        ("half-color", (0.2499, 0.5, 0.6)),
        ("optimized", (0.7 * 0.2 + 0.3 * 0.9, 0.5, 0.6)),
        ("gray", (0.2499, 0.6011, 0.6011)),
        ("true", (0.2499, 0.0, 0.6011)),
    ],
)
def test_the_other_methods_of_a_hand_calculated_pixel(method, pixel):
    mixed = anaglyph(flat((0.1, 0.2, 0.9)), flat((0.8, 0.5, 0.6)), method)
    torch.testing.assert_close(mixed, flat(pixel))


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match="'sepia' must be one of dubois, color"):
        anaglyph(flat((0, 0, 0)), flat((0, 0, 0)), "sepia")
