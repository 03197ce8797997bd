"""The measurement of training steps at a size for tests."""

from __future__ import annotations

from m2svid.bench.step import run


def test_no_option_changes_the_losses_by_more_than_rounding():
    result = run(frames=2, size=16, channels=(32,), repeats=2)
    for option in ("recomputed", "averaged", "fused"):
        assert result[f"{option}_ratio"] == result[f"{option}_s"] / result["plain_s"]
    assert result["averaged_loss_difference"] == 0
    assert result["fused_loss_difference"] < 1e-3
    assert result["recomputed_loss_difference"] < 1e-5
