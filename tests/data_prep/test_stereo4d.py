"""Stereo4D from annotations and videos to shards, on a ray-traced scene."""

import json
import re
import tarfile
from fractions import Fraction

import numpy as np
import pytest

from data_prep import driver
from data_prep.steps.annotations import read_annotations
from data_prep.steps.video import gray
from data_prep.stereo4d import Stereo4D
from m2svid.data.clips import ClipReader, Region
from m2svid.data.sources import read_shard
from tests.data_prep.scenes import texture
from tests.data_prep.vr180 import BASELINE, FAR, NEAR, ROTATIONS, annotation, equirectangular, film, pinhole

SIZE = 128
BOUNDS = (-60, 60, -60, 60)
VIDEO = "aB3_-xyz890"  # an id may hold these
NTSC = Fraction(30000, 1001)
FOCAL = SIZE / 2 / np.tan(np.radians(30))


@pytest.fixture(scope="module")
def eyes():
    """The scene in 240×240 px an eye, 1.03 raw pixels for one of a 128 px view."""
    return [equirectangular(240, 240, eye, BOUNDS, frequency=14.0) for eye in (0, 1)]


def brightness(index):
    return 0.3 + 0.02 * index


def dimmed(picture, index):
    """Frames tell their number by their brightness."""
    return (picture * brightness(index)).round().astype(np.uint8)


def raw_video(path, eyes, fps=NTSC, axis=1, frames=35):
    return film(path, [dimmed(np.concatenate(eyes, axis), index) for index in range(frames)], fps)


def stamps(first, count, step):
    return [round((first + index) * step) for index in range(count)]


def run(folder, *words):
    call = [str(folder / "npz"), "--videos", str(folder / "raw"), "-o", str(folder / "out"), "--workers", "0"]
    return driver.main(Stereo4D, [*call, "--size", f"[{SIZE},{SIZE}]", *words])


def report(folder, split="train", video=VIDEO):
    return json.loads((folder / "out" / f"{split}-{video}-000.json").read_text())


def clips(folder):
    return [
        ClipReader(raw) for shard in sorted((folder / "out").glob("*.tar")) for raw in read_shard(str(shard))
    ]


def measured_brightness(frame, truth):
    return float((gray(frame.permute(1, 2, 0).numpy()).astype(float)).mean() / truth)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "raw").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("fps", "step", "axis", "rate"),
    [
        (NTSC, 33366.7, 1, NTSC),
        (Fraction(60), 16666.7, 0, Fraction(60)),
        (Fraction(60), 33333.3, 1, Fraction(30)),  # every second frame
    ],
)
def test_clips_are_the_views_of_a_pinhole_camera(folder, eyes, fps, step, axis, rate):
    raw_video(folder / "raw" / f"{VIDEO}.mp4", eyes, fps, axis)
    stride = round(fps / rate)
    for first, count in ((3, 6), (12, 4)):
        annotation(folder / "npz", VIDEO, stamps(first, count, step), BOUNDS)
    assert run(folder, "--crf", "4") == 0
    made = clips(folder)
    assert [(clip.info.fps, clip.info.num_frames) for clip in made] == [(rate, 6), (rate, 4)]
    assert (made[0].info.width, made[0].info.height, made[0].info.dataset) == (SIZE, SIZE, "stereo4d")
    truth = {eye: pinhole(SIZE, eye, samples=2, frequency=14.0) for eye in (0, 1)}
    means = {eye: gray(truth[eye][0].round().astype(np.uint8)).mean() for eye in (0, 1)}
    for clip, first in zip(made, (3, 12), strict=True):
        for index in range(clip.info.num_frames):
            shown = (first + index) * stride
            for eye, name in enumerate(("left", "right")):
                frame = clip.video(name, [index])[0]
                number = (measured_brightness(frame, means[eye]) - brightness(0)) / 0.02
                assert abs(number - shown) < 0.5  # no other frame is nearer
        view = made[0].video("left", [0])[0].permute(1, 2, 0).numpy().astype(float)
        wanted = truth[0][0] * brightness(3 * stride)
        assert np.abs(gray(view.astype(np.uint8)) - gray(wanted.astype(np.uint8)).astype(float)).mean() < 4
    disparity = made[0].disparity([0], Region(0, 0, SIZE, SIZE))[0, 0].numpy()
    for depth in (NEAR, FAR):
        there = truth[0][1] == depth
        assert np.median(disparity[there]) == pytest.approx(FOCAL * BASELINE / depth, abs=0.3)


def test_finished_pairs_in_folders_and_tars_keep_their_true_rate(folder):
    views = [pinhole(SIZE, eye, frequency=14.0)[0] for eye in (0, 1)]
    names = [f"{VIDEO}_{round(first * 33366.7)}" for first in (0, 50)]
    for name in names:
        for eye, view in zip(("left", "right"), views, strict=True):
            film(
                folder / "raw" / f"{name}-{eye}_rectified.mp4",
                [dimmed(view, i) for i in range(8)],
                Fraction(30),
            )
    with tarfile.open(folder / "raw" / "part.tar", "w") as tar:
        for eye in ("left", "right"):
            path = folder / "raw" / f"{names[1]}-{eye}_rectified.mp4"
            tar.add(path, f"videos/{path.name}")
            path.unlink()
    for first in (0, 50):
        annotation(folder / "npz", VIDEO, stamps(first, 8, 33366.7))
    annotation(folder / "npz", VIDEO, stamps(100, 8, 33366.7))  # nothing of it is there
    assert run(folder) == 0
    assert [(clip.info.fps, clip.info.num_frames) for clip in clips(folder)] == [(NTSC, 8)] * 2
    (missing,) = report(folder)["rejected"]
    assert missing["reason"].startswith("missing: ") and missing["step"] == "read"


def rejected(folder):
    return {line["key"]: f"{line['step']}: {line['reason']}" for line in report(folder)["rejected"]}


def test_wrong_downloads_are_rejected_by_name(folder):
    """Videos that a downloader delivers in place of the VR180 video, without an error."""
    same = ROTATIONS[[0, 0]]  # a swapped pair with two rotations isn't row-aligned either
    annotation(folder / "npz", VIDEO, stamps(2, 6, 33366.7), BOUNDS, same)
    eyes = [equirectangular(240, 240, eye, BOUNDS, same, frequency=14.0) for eye in (1, 0)]
    mono = texture(240, 480, 0)
    for name, picture, reason in (
        ("mono", mono, "layout: no stereo: "),
        ("small", np.concatenate([eye[::3, ::3] for eye in eyes], 1), "layout: too small: "),
        ("swapped", np.concatenate(eyes, 1), "layout: swapped eyes: "),
        ("missing", None, "read: missing: "),
    ):
        path = folder / "raw" / f"{VIDEO}.mp4"
        path.unlink(missing_ok=True)
        if picture is not None:
            film(path, [dimmed(picture, index) for index in range(12)])
        assert run(folder, "-o", str(folder / "out"), "--overwrite") == 1
        assert rejected(folder)[VIDEO].startswith(reason), name
        for found in (folder / "out").rglob("*.json"):
            found.unlink()


def test_wrong_annotations_are_rejected_one_by_one(folder, eyes):
    raw_video(folder / "raw" / f"title [{VIDEO}].mp4", eyes)
    annotation(folder / "npz", VIDEO, stamps(1, 4, 33366.7), BOUNDS)
    annotation(folder / "npz", VIDEO, stamps(5, 4, 33366.7), BOUNDS, fov_bounds=None)
    annotation(folder / "npz", VIDEO, stamps(9, 4, 33366.7), BOUNDS, rectified2rig=np.eye(3))
    annotation(folder / "npz", VIDEO, stamps(13, 4, 25000), BOUNDS)
    annotation(folder / "npz", VIDEO, stamps(33, 8, 33366.7), BOUNDS)
    (folder / "npz" / f"{VIDEO}_99.npz").write_bytes(b"no zip")
    assert run(folder) == 0
    assert len(report(folder)["clips"]) == 1
    found = {key.rpartition("_")[2]: reason for key, reason in rejected(folder).items()}
    expected = {
        str(stamps(5, 1, 33366.7)[0]): "annotation: unreadable: .*no field fov_bounds",
        str(stamps(9, 1, 33366.7)[0]): r"annotation: unreadable: .*rectified2rig has the shape \(3, 3\)",
        str(stamps(13, 1, 25000)[0]): "annotation: another rate: ",
        str(stamps(33, 1, 33366.7)[0]): "read: no frame: none within half a frame",
        "99": "annotation: unreadable: ",
    }
    assert found.keys() == expected.keys()
    for key, pattern in expected.items():
        assert re.match(pattern, found[key]), found[key]


def test_held_out_videos_never_reach_training_shards(folder, eyes):
    ids = [VIDEO, "01234567890", "abcdefghijk"]
    for name in ids:
        raw_video(folder / "raw" / f"{name}.mp4", eyes, frames=10)
        annotation(folder / "npz", name, stamps(1, 4, 33366.7), BOUNDS)
    (folder / "test.json").write_text(json.dumps([f"{VIDEO}-clip12", "abcdefghijk_123456"]))
    held = ("--hold_out", str(folder / "test.json"))
    assert run(folder, *held) == 0
    assert [path.stem for path in (folder / "out").glob("*.tar")] == ["train-01234567890-000"]
    assert run(folder, *held, "--split", "test") == 0
    tests = {path.stem for path in (folder / "out").glob("test-*.tar")}
    assert tests == {f"test-{name}-000" for name in (VIDEO, "abcdefghijk")}


def test_shards_made_before_the_list_was_given_are_refused(folder, eyes, capsys):
    raw_video(folder / "raw" / f"{VIDEO}.mp4", eyes, frames=10)
    raw_video(folder / "raw" / "01234567890.mp4", eyes, frames=10)
    for name in (VIDEO, "01234567890"):
        annotation(folder / "npz", name, stamps(1, 4, 33366.7), BOUNDS)
    assert run(folder) == 0
    (folder / "ids.txt").write_text(f"{VIDEO}\n")
    assert run(folder, "--hold_out", str(folder / "ids.txt")) == 2
    assert f"train-{VIDEO}-000.json is of the video {VIDEO}, which --hold_out" in capsys.readouterr().err


def test_the_manifest_stands_for_the_npz(folder):
    for first in (7, 3):
        annotation(folder / "npz", VIDEO, stamps(first, 5, 33366.7), BOUNDS)
    with tarfile.open(folder / "all.tar", "w") as tar:
        tar.add(folder / "npz", "train")
    manifest = folder / "stereo4d.jsonl.gz"
    call = [str(folder / "npz"), "--videos", str(folder / "raw"), "-o", str(folder / "out"), "--dry_run"]
    assert driver.main(Stereo4D, [*call, "--manifest", str(manifest)]) == 0
    read = [read_annotations([str(place)]) for place in (folder / "npz", folder / "all.tar", manifest)]
    for annotations in read:
        assert [clip.timestamps[0] for clip in annotations] == [round(3 * 33366.7), round(7 * 33366.7)]
        for one, other in zip(annotations, read[0], strict=True):
            np.testing.assert_array_equal(one.timestamps, other.timestamps)
            assert (one.name, one.fov_bounds, one.rectified2rig) == (
                other.name,
                other.fov_bounds,
                other.rectified2rig,
            )
