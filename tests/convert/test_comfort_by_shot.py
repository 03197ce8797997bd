"""Strength and screen plane that `convert` chooses for every shot, measured in the film it makes."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from m2svid.convert.verbs import convert, refine, warp
from m2svid.errors import UserError
from tests.convert.films import make_film, read_luma

WIDTH, HEIGHT, CUT, FRAMES = 400, 48, 6, 12
AUTO = {"refine": "none", "progress": "quiet", "max_disparity": "auto", "convergence": "auto"}
HALVES = (slice(60, 140), slice(260, 340))  # columns inside of the far and of the near half


@pytest.fixture
def film(tmp_path) -> Path:
    """Two shots of noise, the first of which is twice as deep as the second."""
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=24, width=WIDTH, height=HEIGHT, pix_fmt="gray")
        for scene in (0, 1):
            noise = np.random.default_rng(scene).integers(0, 128, (HEIGHT, WIDTH)) + 120 * scene
            for _ in range(CUT):
                frame = av.VideoFrame.from_ndarray(noise.astype(np.uint8), "gray")
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def save_depth(path: Path, *halves: tuple[float, float]) -> str:
    """Depth (far half, near half) of every frame."""
    depth = np.repeat(np.float32(halves)[:, None], HEIGHT, 1)
    np.savez(path, depth=np.repeat(depth, WIDTH // 2, 2))
    return str(path)


def measured(path: Path) -> np.ndarray:
    """(T, 2) parallax of the halves in % of the width: the whole shift at which both eyes agree best."""
    luma = read_luma(path).astype(int)
    left, right = luma[:, :, :WIDTH], luma[:, :, WIDTH:]
    shifts = range(-24, 25)
    found = [
        [
            min(shifts, key=lambda s, h=half: np.abs(other[:, h.start + s : h.stop + s] - one[:, h]).mean())
            for half in HALVES
        ]
        for one, other in zip(left, right, strict=True)
    ]
    return np.array(found) * 100 / WIDTH


PIXEL = 100 / WIDTH
TV = np.array([2.0, -1.0])  # farthest and nearest


def test_every_shot_fills_the_limits_and_stays_the_same(film, tmp_path):
    shots = [(0.0, 1.0)] * CUT + [(0.3, 0.5)] * CUT
    convert(str(film), tmp_path / "o.mkv", depth=save_depth(tmp_path / "d.npz", *shots), codec="ffv1", **AUTO)
    parallax = measured(tmp_path / "o.mkv")
    assert len(np.unique(parallax[:CUT], axis=0)) == len(np.unique(parallax[CUT:], axis=0)) == 1
    np.testing.assert_allclose(parallax[0], TV, atol=PIXEL)
    # 5 % of the width at most, a fifth of it between the halves, a third of that in front of the screen
    np.testing.assert_allclose(parallax[-1], [2 / 3, -1 / 3], atol=PIXEL)


def test_depth_that_changes_in_a_shot_changes_neither_strength_nor_plane(film, tmp_path):
    near = np.linspace(0.5, 1, CUT)
    shots = [(0.0, n) for n in near] + [(0.0, 1.0)] * CUT
    convert(str(film), tmp_path / "o.mkv", depth=save_depth(tmp_path / "d.npz", *shots), codec="ffv1", **AUTO)
    parallax = measured(tmp_path / "o.mkv")[:CUT]
    assert len(np.unique(parallax[:, 0])) == 1
    np.testing.assert_allclose(parallax[:, 1], 2 - 3 * near, atol=PIXEL)


def test_relative_depth_and_another_profile(film, tmp_path):
    depth = save_depth(tmp_path / "d.npz", *[(20.0, 50.0)] * CUT, *[(3.0, 5.0)] * CUT)
    options = AUTO | {"profile": "cinema", "codec": "ffv1"}
    convert(str(film), tmp_path / "o.mkv", depth=depth, depth_kind="inverse", **options)
    np.testing.assert_allclose(measured(tmp_path / "o.mkv"), [[0.65, -0.65]] * FRAMES, atol=PIXEL)


def test_the_default_keeps_any_depth_within_tvs_limits(film, tmp_path):
    depth = save_depth(tmp_path / "d.npz", *[(0.0, 1.0)] * CUT, *[(0.7, 0.9)] * CUT)
    options = {"refine": "none", "progress": "quiet", "codec": "ffv1"}
    convert(str(film), tmp_path / "o.mkv", depth=depth, **options)
    parallax = measured(tmp_path / "o.mkv")
    np.testing.assert_allclose(parallax[0], TV, atol=PIXEL)
    np.testing.assert_allclose(parallax[-1], [-0.1, -0.7], atol=PIXEL)


def test_devices_that_share_the_shots_choose_alike(film, tmp_path):
    depth = save_depth(tmp_path / "d.npz", *[(0.0, 1.0)] * CUT, *[(0.3, 0.5)] * CUT)
    for name, devices in (("one.mp4", "cpu"), ("two.mp4", "cpu,cpu")):
        convert(str(film), tmp_path / name, depth=depth, devices=devices, **AUTO)
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()


@pytest.mark.parametrize("name", ["max_disparity", "convergence"])
def test_stages_without_depth_or_picture_ask_for_numbers(tmp_path, name):
    film = make_film(tmp_path / "film.mp4", 2)
    options = {"progress": "quiet", name: "auto"}
    with pytest.raises(UserError, match="must be numbers: auto needs depth"):
        refine(film, film, film, tmp_path / "out.mkv", refine="none", **options)
    if name == "max_disparity":
        with pytest.raises(UserError, match="auto is known to `convert` and `comfort` only"):
            warp(film, tmp_path / "warp", **options)


def test_an_angle_that_nothing_uses_is_refused(tmp_path):
    film = make_film(tmp_path / "film.mp4", 2)
    with pytest.raises(UserError, match="--fov is for --layout vr180 and spatial, and for --profile headset"):
        convert(str(film), tmp_path / "out.mp4", refine="none", fov=60.0)
    with pytest.raises(UserError, match="--layout vr180 needs --fov"):
        convert(str(film), tmp_path / "out.mp4", refine="none", layout="vr180")
