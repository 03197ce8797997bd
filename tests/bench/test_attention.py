"""The attention measurement at a size for tests."""

from __future__ import annotations

from m2svid.bench.attention import run


def test_reports_both_ratios():
    result = run(frames=2, height=64, width=64, channels=(64,), layers=1, holes=0.25, repeats=1)
    assert result["disoccluded_share"] == 0.25
    for name in ("disoccluded", "recomputed"):
        assert result[f"{name}_time_ratio"] > 0
        assert result[f"{name}_s"] > 0
