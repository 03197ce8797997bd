"""A made film is a film with the depth and the right view of its world."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from m2svid.depth.files import DepthFile
from m2svid.errors import UserError
from m2svid.synthetic.film import make_film
from m2svid.synthetic.world import ProceduralWorld
from m2svid.video.read import Video
from m2svid.warping.splat import warp
from tests.convert.films import read_luma, read_rgb, read_times

SIZE = {"width": 128, "height": 96}


def test_film_right_view_and_depth_belong_together(tmp_path):
    made = make_film(tmp_path, frames=4, fps="24000/1001", seed=5, **SIZE)
    files = {name: tmp_path / name for name in ("film.mp4", "right.mp4", "depth.mkv")}
    assert [made[name] for name in ("film", "right", "depth")] == [str(path) for path in files.values()]
    assert Video(files["film.mp4"]).info.rate == Fraction(24000, 1001)
    assert read_times(files["right.mp4"]) == [Fraction(1001 * index, 24000) for index in range(4)]

    disparity = torch.from_numpy(read_luma(files["depth.mkv"]) / 65535 * made["max_disparity"] * 128)
    left, right = (torch.from_numpy(read_rgb(files[name])).movedim(-1, 1) for name in list(files)[:2])
    warped, hole = warp(left, disparity[:, None].float())
    outside = (warped - right.float())[(~hole).expand_as(warped)]
    shifted = left[..., 2:].float() - right[..., :-2]
    assert outside.square().mean() < 0.5 * shifted.square().mean()


def test_time_runs_by_the_second_and_not_by_the_frame(tmp_path):
    make_film(tmp_path, frames=4, fps="24", seed=5, **SIZE)
    world = ProceduralWorld(5, 96, 128, num_frames=4, max_disparity=0.05 * 128)
    view = world.frame(1)[0].movedim(0, -1).numpy().astype(float)  # an eighth of a second: film frame 3
    error = [np.abs(frame - view).mean() for frame in read_rgb(tmp_path / "film.mp4")]
    assert error.index(min(error)) == 3 and error[3] < 0.6 * error[2]


def test_its_depth_is_taken_as_it_is(tmp_path):
    make_film(tmp_path, frames=2, **SIZE)
    depth = DepthFile(tmp_path / "depth.mkv")
    assert not depth.relative and "near is large" in depth.description
    np.testing.assert_array_equal(
        depth(read_rgb(tmp_path / "film.mp4"), 0),
        (read_luma(tmp_path / "depth.mkv") / 65535).astype(np.float32),
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [({"width": 33}, "must be even, not 33×96"), ({"frames": 0}, "--frames"), ({"fps": "0"}, "--fps")],
)
def test_what_can_t_be_made_is_refused(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        make_film(tmp_path, **SIZE | options)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "right.mp4").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"right\.mp4 exists"):
        make_film(tmp_path, **SIZE)
