"""The loader's benchmark runs and adds up."""

import pytest

from m2svid.bench.loader import run


def test_loader(tmp_path):
    result = run(clips=2, samples=6, workers=1, size=96, folder=str(tmp_path))
    assert len(list(tmp_path.glob("*.tar"))) == 2
    shares = [value for name, value in result.items() if name.startswith("share_")]
    assert sum(shares) == pytest.approx(1, abs=0.01)
    ratio = result["loader_s_per_sample"] / result["decord_alone_s_per_sample"]
    assert result["ratio_to_decord_alone"] == pytest.approx(ratio)
    assert result["samples_per_s_with_1_workers"] > 0
