"""The speeds of a conversion are all there."""

from __future__ import annotations

from m2svid.bench.convert import run


def test_every_stage_has_a_speed():
    found = run(frames=4, width=64, height=48, disparity=4)
    stages = ("read", "depth_from_file", "warp", "fill", "write", "convert", "decode_and_encode")
    assert all(found[f"{stage}_frames_per_s"] > 0 for stage in stages)
    assert (found["frames"], found["width"], found["height"]) == (4, 64, 48)
