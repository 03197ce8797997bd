"""The choices that `--vram` makes for the published size."""

from __future__ import annotations

import pytest

from m2svid.bench.memory import run


def test_weights_are_those_of_the_published_file_and_choices_keep_to_their_size():
    found = run(width=640, height=360, gigabytes=(10, 80))
    # a float16 file of 2254.5 M parameters
    assert sum(found[name] for name in ("vae", "image_encoder", "unet")) == pytest.approx(4.509e9, rel=1e-3)
    assert found["10G_needed_gb"] <= 10 < found["80G_needed_gb"] <= 80
    assert "whole frames, 25 frames decoded at a time" in found["80G"]
