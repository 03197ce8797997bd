"""The seam figure on films whose seams are known."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from m2svid.bench import seam
from m2svid.errors import UserError


def gray_film(path: Path, levels: list[int]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=24, width=32, height=32, pix_fmt="gray")
        for level in levels:
            picture = np.full((32, 32), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "gray")))
        container.mux(stream.encode(None))
    return path


def test_even_motion_has_no_seam_and_a_flash_has_one(tmp_path):
    even = [10 + 2 * index for index in range(19)]
    step = [level + 6 * (index >= 8) for index, level in enumerate(even)]
    reference = gray_film(tmp_path / "reference.mkv", even)
    measured = seam.run(gray_film(tmp_path / "even.mkv", even), reference, window=8, overlap=0)
    assert measured["seam"] == 1
    # without overlap the second window is from 8 to 15, the third from 16 on: changes 8 and 2 at the borders
    measured = seam.run(gray_film(tmp_path / "step.mkv", step), reference, window=8, overlap=0)
    assert measured["seam"] == pytest.approx((8 + 2) / 2 / 2, rel=0.01)
    assert measured["control"] == 1  # borders at 8 and 16, so it looks at 4 and 12
    step = [level + 6 * (index >= 12) for index, level in enumerate(even)]
    measured = seam.run(gray_film(tmp_path / "middle.mkv", step), reference, window=8, overlap=0)
    assert measured["control"] == pytest.approx((8 + 2) / 2 / 2, rel=0.01)


def test_films_of_different_length_are_refused(tmp_path):
    with pytest.raises(UserError, match="has 18 frames"):
        seam.run(gray_film(tmp_path / "a.mkv", [5] * 18), gray_film(tmp_path / "b.mkv", [5] * 19), 8, 2)
