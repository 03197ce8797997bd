"""The speeds of a conversion are all there."""

from __future__ import annotations

import pytest

from m2svid.attention import Disoccluded
from m2svid.bench.convert import run
from m2svid.model.conditioning import Conditioning
from m2svid.training.backbone import SmallRandom
from tests.convert.films import make_film
from tests.tiny_run import forks


@pytest.fixture(autouse=True)
def quick_processes(monkeypatch):
    """A stage that is measured in a fresh process has its imports done before."""
    monkeypatch.setattr("m2svid.bench.process.get_context", lambda method: forks())


def test_every_stage_has_a_speed():
    found = run(frames=4, width=64, height=48, disparity=4, repeats=2)
    stages = ("read", "depth_from_file", "warp", "fill", "write", "convert", "left_twice", "same_pictures")
    assert all(found[f"{stage}_frames_per_s"] > 0 for stage in stages)
    for name in ("left_twice", "same_pictures"):
        least, middle, most = (found[f"{name}_ratio{end}"] for end in ("_from", "", "_to"))
        assert middle == pytest.approx((least + most) / 2, abs=0.002)  # the median of two
    assert (found["frames"], found["width"], found["height"]) == (4, 64, 48)


def test_a_film_of_ones_own_is_measured_and_nothing_is_written_beside_it(tmp_path):
    film = make_film(tmp_path / "film.mkv", 5, (63, 47), codec="ffv1", pix_fmt="yuv422p10le", sound=1)
    found = run(frames=100, width=8, film=film, disparity=4)
    assert (found["film"], found["frames"], found["width"], found["height"]) == ("film.mkv", 5, 63, 47)
    assert found["left_twice_ratio"] > 0 and list(tmp_path.iterdir()) == [film]


def test_the_model_and_a_longer_film_are_measured_when_asked_for(tmp_path):
    model = SmallRandom((32,)).build(Conditioning(["left", "warped", "mask"]), Disoccluded())
    model.save_pretrained(tmp_path / "model")
    found = run(
        frames=4, width=64, height=48, long_frames=6, weights=tmp_path / "model", window=3, disparity=4
    )
    assert found["refine_frames_per_s"] > 0 and found["refine_peak_gb"] > found["refine_device_gb"] == 0
    assert found["long_frames"] == 6 and found["convert_peak_gb"] > 0.1
    difference = (found["long_convert_peak_gb"] - found["convert_peak_gb"]) * 1e3
    assert abs(found["growth_mb"] - difference) <= 1.01  # both were rounded
