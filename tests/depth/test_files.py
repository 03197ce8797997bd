"""Depth files of every kind hold the same depth."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import OpenEXR
import pytest
import torch

from m2svid.convert.verbs import depth as write_depth
from m2svid.depth.base import DepthRequest
from m2svid.depth.files import DepthFile
from m2svid.depth.registry import open_depth
from m2svid.errors import UserError
from m2svid.video.layouts import LAYOUTS
from m2svid.video.mux import assemble
from m2svid.video.shots import Survey
from m2svid.video.write import encode, inverse_depth
from tests.convert.films import make_film

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
        ("line", {"depth": np.zeros(5)}, "must be T×H×W"),
        ("stereo", {"depth": np.zeros((3, 2, 4, 5))}, r"must be T×H×W.*\(3, 2, 4, 5\)"),
        ("words", {"depth": np.full((3, 4, 5), "far")}, "must be of floats or integers, not of <U3"),
        ("other", {"disparity": np.zeros((1, 4, 5))}, "no npz with an array named depth that can be read"),
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


def save_folder(folder, pictures, suffix=".png"):
    folder.mkdir()
    for index, each in enumerate(pictures):
        cv2.imwrite(str(folder / f"{index}{suffix}"), each)
    return folder


DISTANCE = np.array([2.0, 2.5, 4.0])[:, None, None] / (0.4 + 0.6 * np.linspace(0, 1, H)[None, :, None])
METRES = np.repeat(DISTANCE, W, axis=2)  # nearer below, 2 to 10 m


@pytest.mark.parametrize("unit", ["metres", "millimetres", "millimetre pictures", "sky"])
def test_distances_are_inverted_not_flipped(tmp_path, unit):
    """1 / z, not 1 - z, is what disparity is proportional to; 10 000 of 65535 is no far plane at 0.85."""
    path, scale, values = tmp_path / "depth.npz", 1.0, METRES.astype(np.float32)
    if unit == "metres":
        np.savez(path, depth=values)
    elif unit == "sky":
        values = values.copy()
        values[:, 0] = np.inf
        np.savez(path, depth=values)
    else:
        scale, values = 1000.0, np.round(METRES * 1000).astype(np.uint16)
        np.savez(path, depth=values)
        path = path if unit == "millimetres" else save_folder(tmp_path / "pictures", values)
    depth = DepthFile(path)
    np.testing.assert_allclose(depth(FRAMES, 0), 1 / values.astype(np.float64), rtol=1e-6)
    assert depth.relative and "distances (detected" in depth.description
    assert abs(values[0, 1, 0] - METRES[0, 1, 0] * scale) <= 0.5


def test_a_scene_that_is_only_far_keeps_its_place(tmp_path):
    """Bright is near and little of 16 bits is used: inverse depth that is meant as it is, and it is said."""
    values = np.round(6000 * np.linspace(0.5, 1, H))[None, :, None].repeat(T, 0).repeat(W, 2)
    np.savez(tmp_path / "far.npz", depth=values.astype(np.uint16))
    depth = DepthFile(tmp_path / "far.npz")
    np.testing.assert_allclose(depth(FRAMES, 0), values / 65535, rtol=1e-6)
    assert not depth.relative and "end at 9.2% of what 16 bits hold" in depth.description


def test_unmeasured_distances_are_named(tmp_path):
    values = np.round(METRES * 1000).astype(np.uint16)
    values[1, 3, 4] = 0
    np.savez(tmp_path / "sensor.npz", depth=values)
    with pytest.raises(UserError, match=r"distances that are not above 0 between frames 0 and 3: fill"):
        DepthFile(tmp_path / "sensor.npz")(FRAMES, 0)


def test_what_the_file_says_of_itself_is_believed(tmp_path, truth):
    """Also where near is above, as under a low ceiling, which would be taken for flipped."""
    path = tmp_path / "ceiling.mkv"
    encoding = inverse_depth(W, H, Fraction(24))
    ceiling = np.round(truth[:, ::-1] * 65535).astype("<u2")
    encode(([each] for each in ceiling), encoding, tmp_path / "piece.npz")
    film = Survey(tuple(range(T)), T, ())
    assemble([tmp_path / "piece.npz"], encoding, LAYOUTS["right"], 1 / encoding.rate, film, None, path)
    depth = DepthFile(path)
    assert "near is large (as the file says)" in depth.description
    np.testing.assert_allclose(depth(FRAMES, 0), truth[:, ::-1], atol=1e-4)
    assert "near is small (as declared)" in DepthFile(path, "flipped").description


@pytest.mark.parametrize(
    "layout", ["fortran", "channel", "channel last", "clip", "npy", "fortran npy", "int32"]
)
def test_other_layouts_of_arrays_give_the_same(tmp_path, truth, layout):
    path = tmp_path / ("depth.npy" if "npy" in layout else "depth.npz")
    array = np.asfortranarray(truth) if "fortran" in layout else truth
    array = {"channel": array[:, None], "channel last": array[..., None], "clip": array[None]}.get(
        layout, array
    )
    if layout == "int32":
        array = np.round(array * 1e6).astype(np.int32)
    np.save(path, array) if "npy" in layout else np.savez_compressed(path, depth=array)
    depth = DepthFile(path)
    assert (depth.num_frames, depth.size, depth.relative) == (T, (H, W), layout == "int32")
    expected = truth * 1e6 if layout == "int32" else truth
    np.testing.assert_allclose(depth(FRAMES, 0), expected, atol=1 if layout == "int32" else 1e-7)
    np.testing.assert_allclose(depth(FRAMES[:1], 2), expected[2:], atol=1 if layout == "int32" else 1e-7)


@pytest.mark.parametrize("kind", ["array", "picture"])
def test_one_map_is_that_of_a_still_camera(tmp_path, truth, kind):
    path = tmp_path / ("depth.npy" if kind == "array" else "depth.png")
    if kind == "array":
        np.save(path, truth[0])
    else:
        cv2.imwrite(str(path), np.round(truth[0] * 65535).astype(np.uint16))
    depth = DepthFile(path)
    depth.check(1000, 2 * W, 2 * H)
    np.testing.assert_allclose(depth(FRAMES, 700), np.stack([truth[0]] * T), atol=1e-4)
    assert "one map for all frames" in depth.description


def test_jpeg_pictures(tmp_path, truth):
    values = np.round(truth * 255).astype(np.uint8)
    gray = save_folder(tmp_path / "gray", values, ".jpg")
    tinted = save_folder(
        tmp_path / "tinted", np.stack([values, values, np.minimum(values, 254) + 1], -1), ".jpg"
    )
    for folder in (gray, tinted):
        np.testing.assert_allclose(DepthFile(folder)(FRAMES, 0), truth, atol=0.03)


def test_pictures_of_different_kinds_are_refused(tmp_path):
    pictures = [
        np.full((H, W), 200, np.uint8),
        np.full((H, W), 51400, np.uint16),
        np.full((H, W), 0, np.uint8),
    ]
    with pytest.raises(
        UserError, match=r"1\.png is of uint16, 0\.png of uint8: all pictures of depth must be"
    ):
        DepthFile(save_folder(tmp_path / "mixed", pictures), "inverse")(FRAMES, 0)


@pytest.mark.parametrize("fault", ["checksum", "cut", "code", "permission"])
def test_broken_arrays_are_named(tmp_path, truth, fault, monkeypatch):
    path = tmp_path / "depth.npz"
    np.savez(path, depth=truth)
    content = bytearray(path.read_bytes())
    if fault == "checksum":
        content[-len(content) // 2] ^= 255
        path.write_bytes(content)
    elif fault == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif fault == "code":
        np.savez(path, depth=np.array([{"a": 1}], object))
    else:

        def closed(*args, **more):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("zipfile.ZipFile", closed)
    with pytest.raises(UserError, match=rf"{path} is no npz .*|depth in {path} must be of floats"):
        DepthFile(path, "inverse")(FRAMES, 0)


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_broken_pictures_are_named(tmp_path, content):
    folder = save_folder(tmp_path / "pictures", [np.full((H, W), 9, np.uint8)] * 2)
    (folder / "2.png").write_bytes(content)
    with pytest.raises(UserError, match=r"2\.png (can't be read: it is empty or broken|is not a picture)"):
        DepthFile(folder, "inverse")(FRAMES, 0)


def test_the_stage_s_own_file_is_not_guessed_anew(tmp_path, truth):
    """Under a ceiling the far is below."""
    film = make_film(tmp_path / "film.mp4", T, size=(2 * W, 2 * H))
    np.savez(tmp_path / "ceiling.npz", depth=truth[:, ::-1])
    options = {"depth": str(tmp_path / "ceiling.npz"), "depth_kind": "inverse", "progress": "quiet"}
    write_depth(film, tmp_path / "depth.mkv", **options)
    again = DepthFile(tmp_path / "depth.mkv")
    assert "near is large (as the file says)" in again.description
    assert again(FRAMES, 0)[:, 0].mean() > 0.5 > again(FRAMES, 0)[:, -1].mean()


def test_a_folder_that_is_closed_to_us_is_named(tmp_path, monkeypatch):
    def closed(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", closed)
    with pytest.raises(UserError, match=rf"--depth {tmp_path} can't be read: Permission denied"):
        open_depth(DepthRequest(str(tmp_path), torch.device("cpu")))
