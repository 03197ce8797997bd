"""The full-size import: nothing changes, and memory stays far below a 16 GB machine."""

from __future__ import annotations

import pytest

from m2svid.bench.weights import run


def check(result):
    assert result["changed_tensors"] == 0
    assert result["forward_difference"] < 2e-5


@pytest.mark.slow
def test_small():
    check(run(full_size=False))


@pytest.mark.slow
def test_full_size():
    result = run()
    check(result)
    assert result["parameters_millions"] > 2200
    assert max(result["import_gb"], result["export_gb"]) < 12
