"""The measures of filling on a film whose holes and errors are known."""

from __future__ import annotations

import math
from pathlib import Path

import av
import numpy as np
import pytest

from m2svid.bench.fill import run
from m2svid.errors import UserError

HEIGHT, WIDTH, SHIFT = 32, 64, 8
BOX = slice(30, 46)  # of the left view, columns; it is seen 8 px further to the left by the right eye


def film(path: Path, pictures: list[np.ndarray]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "ffv1", rate=24, width=pictures[0].shape[1], height=HEIGHT, pix_fmt="bgr0"
        )
        for picture in pictures:
            rgb = np.repeat(picture[..., None], 3, -1).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, "rgb24")))
        container.mux(stream.encode(None))
    return path


def scene() -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """Left and right views of three frames and their disparity: a box before a wall at 2 px."""
    disparity = np.full((3, HEIGHT, WIDTH), 2, np.float32)
    disparity[:, :, BOX] = SHIFT + 2
    lefts, rights = [], []
    for level in (50, 60, 50):
        left = np.full((HEIGHT, WIDTH), level)
        left[:, BOX] = 200
        right = np.full((HEIGHT, WIDTH), level)
        right[:, BOX.start - SHIFT - 2 : BOX.stop - SHIFT - 2] = 200
        right[:, BOX.stop - SHIFT - 2 : BOX.stop - 2] += 10
        right[:, WIDTH - 2 :] += 20
        lefts.append(left)
        rights.append(right)
    return lefts, rights, disparity


def psnr(difference: float) -> float:
    return pytest.approx(20 * math.log10(255 / difference), abs=1e-3)


def test_every_region_has_the_error_that_was_put_there(tmp_path):
    lefts, rights, disparity = scene()
    np.savez(tmp_path / "depth.npz", depth=disparity / 16)
    left, right = film(tmp_path / "left.mkv", lefts), film(tmp_path / "right.mkv", rights)
    found = run(left, right, depth=tmp_path / "depth.npz", max_disparity=16 / WIDTH, frames=3)
    assert found["share"] == {"hole": 8 / 64, "closed": 8 / 64, "border": 0.0312, "outside": 0.8438}
    for way in ("side_closed", "side"):
        assert (found[way]["psnr_hole"], found[way]["psnr_closed"]) == (psnr(10), psnr(10))
        assert (found[way]["psnr_border"], found[way]["psnr_outside"]) == (psnr(20), None)
        assert found[way]["flicker"] == 1  # the wall changes by 10 in both
    for way in ("smooth", "surfaces"):  # the box counts a little in the means around it
        assert found[way]["psnr_border"] == psnr(20) and found[way]["psnr_hole"] > 15
    film(tmp_path / "both.mkv", [np.hstack(pair) for pair in zip(lefts, rights, strict=True)])
    again = run(tmp_path / "both.mkv", depth=tmp_path / "depth.npz", max_disparity=16 / WIDTH, frames=3)
    assert again["side"]["psnr_border"] == found["side"]["psnr_border"]


def test_views_of_different_length_are_refused(tmp_path):
    lefts, rights, _ = scene()
    with pytest.raises(UserError, match="differ in size"):
        run(film(tmp_path / "left.mkv", lefts), film(tmp_path / "right.mkv", rights[:2]), frames=3)


def test_without_depth_the_views_are_matched(tmp_path):
    rng = np.random.default_rng(0)
    wall = rng.integers(0, 256, (64, 200)).repeat(2, 0).repeat(2, 1)[:HEIGHT]
    pictures = [np.hstack([wall[:, :256], wall[:, 4:260]])] * 2
    found = run(film(tmp_path / "both.mkv", pictures), frames=2)
    assert found["share"]["border"] == pytest.approx(4 / 256, abs=1e-3)
    assert found["side"]["psnr_outside"] > 40  # it would be 10 without the shift
