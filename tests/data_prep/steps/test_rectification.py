"""Rectification against cameras turned by known angles, and on real unrectified cameras."""

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from data_prep.steps.points import Matches, Sift
from data_prep.steps.rectification import Limits, Rectification, UnrectifiableError
from data_prep.steps.uncalibrated import _rotations, _uncalibrated, inliers, pooled_inliers, rectify
from m2svid.errors import UserError
from tests.data_prep.rig import ASKEW, HEIGHT, WIDTH, seen_by, true_points, views

SCENES = Path(__file__).parents[3].parent / "shared" / "data"
REAL = pytest.mark.skipif(not SCENES.is_dir(), reason="needs the folder of test videos beside the repository")
SIZE = (WIDTH, HEIGHT)


@pytest.fixture(scope="module")
def scene():
    return [view for seed in (1, 2, 3) for view in views(seed, 1)]


def askew_matches(scene, homographies=ASKEW):
    parts = [true_points(disparity, homographies) for _, _, disparity in scene]
    return Matches.join([Matches(*part) for part in parts])


def test_views_askew_become_row_aligned(scene):
    pairs = [seen_by(pair[:2]) for pair in scene]
    before = askew_matches(scene)
    assert np.abs(before.vertical).max() > 10
    matches, fundamental = pooled_inliers(Sift(), pairs)
    found, method = rectify(matches, fundamental, SIZE)
    after = found.of_points(before)
    assert np.abs(after.vertical).max() < 1 and np.abs(after.vertical).mean() < 0.3
    assert method in ("uncalibrated", "rotations")
    left, right = found.apply(pairs[0])
    assert left.shape == right.shape and left.shape[0] % 2 == left.shape[1] % 2 == 0
    # Every pixel of both crops shows something: on white views there is no black.
    white = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    assert min(view.min() for view in found.apply((white, white))) == 255


@pytest.mark.parametrize("method", [_uncalibrated, _rotations])
def test_each_method_alone(scene, method):
    exact = askew_matches(scene)
    matches, fundamental = inliers(exact)
    found = method(matches, fundamental, SIZE)
    assert np.abs(found.of_points(exact).vertical).max() < 0.5
    found.check(SIZE, Limits())


def test_too_few_inliers_are_named(scene):
    exact = askew_matches(scene)
    few = np.arange(len(exact)) < 60
    with pytest.raises(UnrectifiableError, match=r"too few inliers: 60 of 60 matches.*100 are the least"):
        inliers(exact[few])
    rng = np.random.default_rng(0)
    noise = Matches(rng.uniform(0, 300, (400, 2)), rng.uniform(0, 300, (400, 2)))
    with pytest.raises(UnrectifiableError, match=r"too few inliers: \d+ of 400"):
        inliers(noise)


def test_mismatches_are_left_out(scene):
    exact = askew_matches(scene)
    rng = np.random.default_rng(0)
    wrong = rng.uniform(0, 300, (len(exact) // 4, 2))
    mixed = Matches.join([exact, Matches(wrong, rng.permutation(wrong))])
    kept, _ = inliers(mixed)
    good = {tuple(point) for point in exact.left}
    assert sum(tuple(point) in good for point in kept.left) / len(kept) > 0.95
    assert len(kept) > 0.95 * len(exact)


def test_an_overstretched_rectification_is_named():
    # 1 / (1 - x/2w) doubles its scale over a width; over both it is stretched by about 8.
    strong = np.array([[1, 0, 0], [0, 1, 0], [-0.5 / WIDTH, 0, 1.0]])
    stretched = Rectification(strong, np.eye(3), (0, 0, WIDTH, HEIGHT))
    with pytest.raises(UnrectifiableError, match=r"overstretched: .* a factor of \d\.\d where 2 is the most"):
        stretched.check(SIZE, Limits())
    stretched.check(SIZE, Limits(stretch=100))
    with pytest.raises(UnrectifiableError, match=r"crop too small: .* 20% .* 25%"):
        Rectification(np.eye(3), np.eye(3), (0, 0, WIDTH // 5, HEIGHT)).check(SIZE, Limits())


def test_rotations_step_in_where_the_first_method_fails():
    """All points about equally far, and found to 0.3 px: Hartley's method has too little to hold on to."""
    rng = np.random.default_rng(0)
    disparity = (3 + rng.uniform(0, 1, (HEIGHT, WIDTH))).astype(np.float32)
    exact = Matches(*true_points(disparity, step=8))
    noisy = Matches(*(points + rng.normal(0, 0.3, points.shape) for points in (exact.left, exact.right)))
    matches, fundamental = inliers(noisy)
    with pytest.raises(UnrectifiableError):
        _uncalibrated(matches, fundamental, SIZE).check(SIZE, Limits())
    found, method = rectify(matches, fundamental, SIZE)
    assert method == "rotations"
    assert np.abs(found.of_points(exact).vertical).max() < 0.3


def test_both_reasons_are_told(scene):
    matches, fundamental = inliers(askew_matches(scene))
    with pytest.raises(UnrectifiableError, match=r"uncalibrated: overstretched.*rotations: overstretched"):
        rectify(matches, fundamental, SIZE, Limits(stretch=1.0001))


PUBLISHED = {  # with a left homography of arbitrary scale and sign, as OpenCV gives it and as it is published
    "homography_left": [[-0.013, -0.0018, -4.1], [0.0128, -0.0218, -11.3], [1.3e-05, 1.6e-06, -0.035]],
    "homography_right": [[0.61, 0.088, 216.0], [-0.52, 0.94, 420.4], [-0.00052, -7.5e-05, 1.43]],
    "croping": [259, 323, 1439, 1306],
}


def test_the_published_format_is_read_and_written(tmp_path):
    path = tmp_path / "a.mp4.json"
    path.write_text(json.dumps(PUBLISHED))
    found = Rectification.load(path)
    assert found.crop == (259, 323, 1439, 1305)  # even, as the published scripts make it when they read it
    assert found.to_json()["homography_left"] == PUBLISHED["homography_left"]
    assert Rectification.from_json(json.loads(json.dumps(found.to_json())), "again").crop == found.crop
    picture = cv2.GaussianBlur(
        np.random.default_rng(0).integers(0, 255, (1400, 1440, 3), np.uint8), (0, 0), 3
    )
    left, _ = found.apply((picture, picture))
    whole = cv2.warpPerspective(picture, np.array(PUBLISHED["homography_left"]), (1440, 1400))
    assert np.abs(left.astype(int) - whole[323:1305, 259:1439]).mean() < 0.5


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"croping": [1, 2]}, "croping"),
        ({"homography_left": [[1, 2]]}, "3 × 3"),
        ({"homography_right": "?"}, "homography"),
    ],
)
def test_a_broken_file_is_named(tmp_path, change, named):
    path = tmp_path / "b.mp4.json"
    path.write_text(json.dumps(PUBLISHED | change))
    with pytest.raises(UserError, match=rf"b\.mp4\.json.*{named}"):
        Rectification.load(path)
    path.write_text("{")
    with pytest.raises(UserError, match=r"b\.mp4\.json can't be read as JSON"):
        Rectification.load(path)


@REAL
def test_euroc_is_row_aligned():
    """12.8 px apart by the calibration of its data set's authors; the lenses bend what no homography can."""
    files = [sorted((SCENES / f"euroc/mav0/cam{camera}/data").glob("*.png")) for camera in (0, 1)]
    pairs = [tuple(cv2.imread(str(file)) for file in pair) for pair in zip(*files, strict=True)]
    matches, fundamental = pooled_inliers(Sift(), pairs)
    assert np.median(-matches.vertical) == pytest.approx(-12.8, abs=0.3)
    found, _ = rectify(matches, fundamental, pairs[0][0].shape[1::-1])
    after = np.abs(found.of_points(matches).vertical)
    assert np.median(after) < 0.4 and np.quantile(after, 0.95) < 1.5


@REAL
def test_plaza_is_row_aligned_by_rotations():
    with av.open(str(SCENES / "plaza/unrectified_top_bottom.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][::37]
    pairs = [tuple(np.split(frame, 2, 0)) for frame in frames]
    matches, fundamental = pooled_inliers(Sift(1000), pairs)
    found, method = rectify(matches, fundamental, pairs[0][0].shape[1::-1])
    assert method == "rotations"
    assert np.quantile(np.abs(found.of_points(matches).vertical), 0.75) < 1
