"""Which stretches of a film are no training clips."""

import cv2
import numpy as np
import pytest

from data_prep.steps.stretches import reject_stretch
from tests.data_prep.scenes import texture


def moving(count=6, height=120, width=200):
    wide = texture(height, width + 4 * count, 0)
    return [wide[:, 4 * index : 4 * index + width].copy() for index in range(count)]


def noisy(frames, strength=2.0):
    rng = np.random.default_rng(0)
    return [np.clip(f + rng.normal(0, strength, f.shape), 0, 255).astype(np.uint8) for f in frames]


def barred(frames, rows=0, columns=0):
    for frame in frames:
        if rows:
            frame[:rows] = frame[-rows:] = 16
        if columns:
            frame[:, :columns] = frame[:, -columns:] = 16
    return frames


def titles(ground, letters, count=6, roll=3):
    frames = [np.full((120, 200, 3), ground, np.uint8) for _ in range(count)]
    for index, frame in enumerate(frames):
        for line in range(4):
            place = (20, 30 + 30 * line - roll * index)
            cv2.putText(frame, "A FILM BY", place, cv2.FONT_HERSHEY_SIMPLEX, 0.7, (letters,) * 3, 2)
    return frames


def test_a_moving_scene_passes():
    assert reject_stretch(moving()) is None
    assert reject_stretch(noisy(moving())) is None


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (noisy([np.full((120, 200, 3), 16, np.uint8)] * 6), "black"),
        (noisy([texture(120, 200, 0)] * 6, 0.5), "still"),
        (barred(moving(), rows=14), "letterboxed: black bars above and below take 23%"),
        (barred(moving(), columns=20), "letterboxed: black bars left and right take 20%"),
        (titles(16, 235), "text"),
        (titles(235, 16), "text"),
        ([np.full((120, 200, 3), 90, np.uint8)] * 6, "text or nothing"),
    ],
)
def test_what_teaches_nothing_is_named(frames, reason):
    assert (reject_stretch(frames) or "").startswith(reason)


def test_a_dark_scene_with_a_lamp_is_not_black():
    frames = [np.clip(frame.astype(int) // 6 + 4, 0, 255).astype(np.uint8) for frame in moving()]
    for frame in frames:
        frame[40:60, 80:120] = 200
    assert reject_stretch(frames) is None


def test_one_dark_border_is_no_letterbox():
    frames = moving()
    for frame in frames:
        frame[:14] = 16  # a night sky
    assert reject_stretch(frames) is None


def test_a_frame_alone_is_not_still():
    assert reject_stretch(moving(1)) is None
