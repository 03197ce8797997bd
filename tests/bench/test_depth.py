"""How unsteady depth is: a figure by hand, and what windows on one scale take away."""

from __future__ import annotations

import numpy as np

from m2svid.bench.depth import run, unsteadiness


def test_figure_by_hand():
    """Errors of +e and -e in turn, as much to the one side as to the other, of a range of 1."""
    truth = np.tile(np.linspace(0, 1, 400), (6, 20, 1)).astype(np.float32)
    signs = np.tile([1, -1], 3)[:, None, None] * np.tile([1, -1], 200)
    assert unsteadiness(5 * truth + 3, truth).max() < 1e-6
    np.testing.assert_allclose(unsteadiness(truth + 0.01 * signs, truth), 0.02 / 0.98, rtol=0.01)
    assert unsteadiness(truth + 0.01 * signs[:1], truth).max() < 1e-6  # an error that stays


def test_one_scale_for_a_shot_takes_jitter_away():
    figures = run(frames=60, width=48, height=28)
    assert figures["file_percent"] < 0.01
    assert figures["windows_percent"] < 0.01 < 0.1 < figures["windows_joined_percent"]
    assert figures["windows_worst_percent"] < figures["windows_joined_worst_percent"] / 100
    assert figures["frames_percent"] < 0.1 < 10 < figures["frames_raw_percent"]
    assert figures["frames_percent"] < figures["frames_alone_percent"]
