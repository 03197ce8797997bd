"""Views out of ray-traced pictures against views traced directly."""

from functools import cache

import cv2
import numpy as np
import pytest

from data_prep.steps.equirectangular import Perspective, Sphere, focal_length, view_rays
from tests.data_prep import vr180
from tests.data_prep.vr180 import ROTATIONS, equirectangular

pinhole = cache(vr180.pinhole)  # a view is compared with pictures of several sizes
SIZE = 128  # a quarter of Stereo4D's
QUARTER = (-45, 45, -45, 45)
# Pixels over a quarter turn, as many to a pixel of the view as half spheres of 1280, 1920, 2880 and 3840 px
# have at 512 px.
WIDTHS = {160: 0.92, 241: 1.38, 361: 2.07, 481: 2.76}


def render(width, height, eye, bounds=QUARTER, **options):
    picture = equirectangular(width, height, eye, bounds, **options)
    perspective = Perspective(Sphere(*bounds, width, height), ROTATIONS[eye], (SIZE, SIZE), 60.0)
    return perspective(picture).astype(float), perspective


def displacement(view, truth):
    """Least-squares shift (x, y) of a view against the true one, px."""
    gray = truth.mean(2)
    slopes = np.stack([np.gradient(gray, axis=axis).ravel() for axis in (1, 0)], -1)
    return np.linalg.lstsq(slopes, (view - truth).mean(2).ravel(), rcond=None)[0]


@pytest.mark.parametrize("eye", [0, 1])
@pytest.mark.parametrize("width", WIDTHS)
def test_views_are_those_of_a_pinhole_camera(width, eye):
    view, perspective = render(width, width, eye, frequency=20.0)
    truth, _ = pinhole(SIZE, eye, samples=6, frequency=20.0)
    assert perspective.outside == 0
    assert Sphere(*QUARTER, width, width).detail(focal_length(SIZE, 60.0))[0] == pytest.approx(
        WIDTHS[width], abs=0.02
    )
    assert np.abs(displacement(view, truth)).max() < 0.01  # px
    assert np.sqrt(((view - truth) ** 2).mean()) < 4


@pytest.mark.parametrize("width", [361, 481])
def test_fine_pictures_do_not_alias(width):
    """A look-up without averaging turns detail that the view can't show into patterns that aren't there."""
    fine = {"frequency": 110.0}  # cycles a radian; the view shows half as many
    view, perspective = render(width, width, 0, **fine)
    truth, _ = pinhole(SIZE, 0, samples=10, **fine)
    columns, rows = Sphere(*QUARTER, width, width).pixels(view_rays(SIZE, SIZE, 60.0) @ ROTATIONS[0].T)
    picture = equirectangular(width, width, 0, QUARTER, **fine)
    plain = cv2.remap(picture, columns.astype(np.float32), rows.astype(np.float32), cv2.INTER_LINEAR)
    ours, without = (np.sqrt(((made - truth) ** 2).mean()) for made in (view, plain))
    assert perspective.samples[0] > 1 and ours < without / 2


def test_full_sphere_with_its_seam_in_the_view():
    bounds = (0, 360, -90, 90)  # the view's middle lies on the first and the last column
    view, perspective = render(640, 320, 0, bounds, frequency=10.0)
    truth, _ = pinhole(SIZE, 0, samples=4, frequency=10.0)
    assert perspective.outside == 0
    assert np.abs(displacement(view, truth)).max() < 0.02


def test_what_the_picture_does_not_cover_is_told():
    _, perspective = render(100, 100, 0, (-20, 20, -20, 20))
    assert 0.5 < perspective.outside < 0.7


def test_disparity_is_focal_length_times_baseline_over_depth():
    """Without the project: the two traced views, and what their rays say."""
    left, depth = pinhole(SIZE, 0, samples=2, frequency=8.0)
    right, _ = pinhole(SIZE, 1, samples=2, frequency=8.0)
    disparity = focal_length(SIZE, 60.0) * 0.063 / depth
    columns = (np.arange(SIZE)[None] - disparity).astype(np.float32)
    rows = np.repeat(np.arange(SIZE, dtype=np.float32)[:, None], SIZE, 1)
    moved = cv2.remap(right.astype(np.float32), columns, rows, cv2.INTER_CUBIC)
    assert np.median(np.abs(moved - left)[:, 16:-16]) < 1
