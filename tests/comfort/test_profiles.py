"""Limits by hand, and the closed form against a search."""

import math

import numpy as np
import pytest

from m2svid.comfort.profiles import LARGEST, Placement, keep, open_profile
from m2svid.errors import UserError


def parallax(placement, inverse_depth):
    return (placement.convergence - inverse_depth) * placement.max_disparity


def test_angles_by_hand():
    """A screen of width 2 at distance d: 33° is 2·atan(1/d), a parallax of 3 % is 0.06 there."""
    tv = open_profile("tv")
    distance = 1 / math.tan(math.radians(16.5))
    assert tv.degrees(3) == pytest.approx(math.degrees(math.atan(0.06 / distance)))
    assert tv.degrees(3) == pytest.approx(1, abs=0.02)  # the rule of one degree
    assert tv.degrees(-1) == -tv.degrees(1)


@pytest.mark.parametrize("fov", [40.0, 60.0, 90.0])
def test_a_headset_keeps_the_angles_of_tv(fov):
    tv, headset = open_profile("tv"), open_profile("headset", fov)
    for name in ("near", "far", "nearest", "farthest", "range"):
        assert headset.degrees(getattr(headset, name)) == pytest.approx(tv.degrees(getattr(tv, name)))
    assert open_profile("headset") == open_profile("headset", 60)
    assert headset.far < tv.far


@pytest.mark.parametrize("name", ["tv", "cinema", "headset"])
@pytest.mark.parametrize("seed", range(4))
def test_no_other_placement_is_stronger(name, seed):
    profile = open_profile(name)
    far, near = np.sort(np.random.default_rng(seed).random(2))
    strengths, planes = np.meshgrid(np.linspace(0.01, LARGEST, 500), np.linspace(0, 1, 2001))
    kept = (planes - near) * strengths >= profile.near - 1e-9
    kept &= (planes - far) * strengths <= profile.far + 1e-9
    best = keep(profile, far, near)
    assert best.max_disparity == pytest.approx(strengths[kept].max(), abs=0.02)
    assert parallax(best, near) >= profile.near - 1e-9
    assert parallax(best, far) <= profile.far + 1e-9


@pytest.mark.parametrize("plane", [0.0, 0.3, 1.0])
def test_the_strength_for_a_given_plane(plane):
    profile = open_profile("tv")
    far, near = 0.1, 0.9
    kept = [
        m
        for m in np.linspace(0, LARGEST, 5001)
        if (plane - near) * m >= profile.near and (plane - far) * m <= profile.far
    ]
    assert keep(profile, far, near, convergence=plane).max_disparity == pytest.approx(max(kept), abs=0.002)


def test_the_plane_for_a_given_strength():
    """Within the limits where that is possible, else beyond both by the same factor."""
    profile = open_profile("tv")
    weak, strong = keep(profile, 0.2, 0.7, max_disparity=3.0), keep(profile, 0.0, 1.0, max_disparity=5.0)
    assert profile.near <= parallax(weak, 0.7) < parallax(weak, 0.2) <= profile.far
    assert parallax(strong, 1.0) / profile.near == pytest.approx(5 / 3)
    assert parallax(strong, 0.0) / profile.far == pytest.approx(5 / 3)


def test_flat_depth_lies_on_the_screen():
    assert keep(open_profile("tv"), 0.4, 0.4) == Placement(LARGEST, 0.4)


def test_an_angle_that_is_none_is_refused():
    with pytest.raises(UserError, match="--fov must be between 0 and 180 degrees, not 180"):
        open_profile("headset", 180.0)
