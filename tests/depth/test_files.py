"""Depth files of every kind hold the same depth."""

from __future__ import annotations

from fractions import Fraction

import av
import cv2
import numpy as np
import OpenEXR
import pytest

from m2svid.depth.files import DepthFile
from m2svid.errors import UserError

T, H, W = 3, 24, 32
FRAMES = [np.zeros((48, 64, 3), np.uint8)] * T


@pytest.fixture
def truth() -> np.ndarray:
    """Inverse depth in [0, 1], nearer below, over all of the range."""
    slope = np.linspace(0, 1, H, dtype=np.float32)[None, :, None]
    return (slope * np.linspace(0.6, 1, W)[None, None] * np.array([1, 0.9, 0.8])[:, None, None]).astype(
        np.float32
    )


def save_video(path, maps, pix_fmt):
    levels, dtype = (255, np.uint8) if pix_fmt == "gray" else (65535, np.uint16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(24), width=W, height=H, pix_fmt=pix_fmt)
        for depth in maps:
            picture = np.round(depth * levels).astype(dtype)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, pix_fmt)))
        container.mux(stream.encode(None))


def save_pictures(folder, maps, suffix, dtype):
    folder.mkdir()
    levels = 1 if dtype == np.float32 else np.iinfo(dtype).max
    for index, depth in enumerate(maps):
        cv2.imwrite(
            str(folder / f"{index:04d}{suffix}"),
            np.round(depth * levels).astype(dtype) if levels > 1 else depth,
        )


def test_every_kind_of_file_gives_the_same(tmp_path, truth):
    np.savez_compressed(tmp_path / "f32.npz", depth=truth)
    np.savez(tmp_path / "u16.npz", depth=np.round(truth * 65535).astype(np.uint16))
    save_video(tmp_path / "g8.mkv", truth, "gray")
    save_video(tmp_path / "g16.mkv", truth, "gray16le")
    save_pictures(tmp_path / "p8", truth, ".png", np.uint8)
    save_pictures(tmp_path / "p16", truth, ".png", np.uint16)
    for name, error in [
        ("f32.npz", 1e-7),
        ("u16.npz", 1e-4),
        ("g8.mkv", 3e-3),
        ("g16.mkv", 1e-4),
        ("p8", 3e-3),
        ("p16", 1e-4),
    ]:
        depth = DepthFile(tmp_path / name)
        assert (depth.num_frames, depth.size, depth.relative) == (T, (H, W), False), name
        np.testing.assert_allclose(depth(FRAMES, 0), truth, atol=error, err_msg=name)
        np.testing.assert_allclose(DepthFile(tmp_path / name)(FRAMES[:2], 1), truth[1:], atol=error)


def test_gray_video_stored_as_limited_range_yuv(tmp_path, truth):
    with av.open(str(tmp_path / "d.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=24, width=W, height=H, options={"qp": "0"})
        for depth in truth:
            gray = np.repeat(np.round(depth * 255).astype(np.uint8)[..., None], 3, -1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(gray, "rgb24")))
        container.mux(stream.encode(None))
    np.testing.assert_allclose(DepthFile(tmp_path / "d.mp4")(FRAMES, 0), truth, atol=0.01)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_one_picture_for_one_picture(tmp_path, truth, suffix):
    path = tmp_path / f"depth{suffix}"
    cv2.imwrite(str(path), np.round(truth[0] * 65535).astype(np.uint16))
    depth = DepthFile(path)
    assert (depth.num_frames, depth.size) == (1, (H, W))
    np.testing.assert_allclose(depth(FRAMES[:1], 0)[0], truth[0], atol=1e-5)


def test_big_endian_gray_video(tmp_path, truth):
    """As FFmpeg makes it of 16-bit PNGs that it only copies."""
    values = np.round(truth * 65535).astype(np.uint16)
    with av.open(str(tmp_path / "d.mov"), "w") as container:
        stream = container.add_stream("png", rate=24, width=W, height=H, pix_fmt="gray16be")
        for each in values:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(each, "gray16be")))
        container.mux(stream.encode(None))
    np.testing.assert_allclose(DepthFile(tmp_path / "d.mov")(FRAMES, 0), truth, atol=1e-5)


def save_exr(folder, truth, layers):
    folder.mkdir()
    for index, depth in enumerate(truth):
        channels = {name: make(depth) for name, make in layers.items()}
        OpenEXR.File({}, channels).write(str(folder / f"{index:04d}.exr"))
    return folder


@pytest.mark.parametrize(
    "layers",
    [
        {"Y": lambda depth: depth},
        {"RGB": lambda depth: np.repeat(depth[..., None], 3, -1)},
        {"RGB": lambda depth: np.ones((H, W, 3), np.float16), "ViewLayer.Z": lambda depth: depth},
    ],
)
def test_exr_with_one_layer_or_one_of_depth(tmp_path, truth, layers):
    depth = DepthFile(save_exr(tmp_path / "exr", 40 * truth - 3, layers))
    assert (depth.num_frames, depth.size, depth.relative) == (T, (H, W), True)
    np.testing.assert_allclose(depth(FRAMES, 0), 40 * truth - 3, rtol=1e-6)


def test_exr_that_does_not_tell_its_depth_is_refused(tmp_path, truth):
    same = dict.fromkeys(("left", "right"), lambda depth: depth)
    with pytest.raises(UserError, match=r"0000\.exr has the layers left, right: depth must be"):
        DepthFile(save_exr(tmp_path / "exr", truth, same))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "0000.exr").write_bytes(b"\x76\x2f\x31\x01 something")
    with pytest.raises(UserError, match=r"0000\.exr is not an EXR that can be read"):
        DepthFile(tmp_path / "bad")


def test_polarity_is_detected_declared_and_said(tmp_path, truth):
    np.savez(tmp_path / "near_small.npz", depth=1 - truth)
    found = DepthFile(tmp_path / "near_small.npz")
    assert "near is small (detected" in found.description
    np.testing.assert_allclose(found(FRAMES, 0), truth, atol=1e-6)
    declared = DepthFile(tmp_path / "near_small.npz", kind="inverse")
    assert "near is large (as declared)" in declared.description
    np.testing.assert_allclose(declared(FRAMES, 0), 1 - truth, atol=1e-6)


def test_metric_depth_is_inverted_and_relative(tmp_path, truth):
    np.savez(tmp_path / "metres.npz", depth=1 / (0.1 + truth))
    metric = DepthFile(tmp_path / "metres.npz", kind="metric")
    assert metric.relative
    np.testing.assert_allclose(metric(FRAMES, 0), 0.1 + truth, rtol=1e-5)


def test_any_range_is_relative(tmp_path, truth):
    np.savez(tmp_path / "wide.npz", depth=truth * 40 - 3)
    assert DepthFile(tmp_path / "wide.npz").relative
    np.savez(tmp_path / "unit.npz", depth=truth)
    assert DepthFile(tmp_path / "unit.npz", span="shot").relative


@pytest.mark.parametrize(
    ("name", "arrays", "message"),
    [
        ("flat", {"depth": np.zeros((4, 5))}, "must be T×H×W"),
        ("other", {"disparity": np.zeros((1, 4, 5))}, "not an npz with an array named depth"),
        ("nan", {"depth": np.full((3, 4, 5), np.nan, np.float32)}, "no numbers"),
    ],
)
def test_wrong_files_are_named(tmp_path, name, arrays, message):
    np.savez(tmp_path / f"{name}.npz", **arrays)
    with pytest.raises(UserError, match=message):
        DepthFile(tmp_path / f"{name}.npz", kind="inverse")(FRAMES, 0)


def test_coloured_depth_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8))
    with pytest.raises(UserError, match="coloured"):
        DepthFile(tmp_path)


def test_pictures_follow_their_numbers(tmp_path):
    for number in (1, 2, 10):
        cv2.imwrite(str(tmp_path / f"f{number}.png"), np.full((8, 8), 20 * number, np.uint8))
    maps = DepthFile(tmp_path, "inverse")(FRAMES, 0)
    np.testing.assert_allclose(maps[:, 0, 0] * 255, [20, 40, 200], rtol=1e-6)
