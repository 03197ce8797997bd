"""`measure` against the metrics of the same arrays, and its refusals."""

import hashlib
import json
import math

import cv2
import numpy as np
import pytest
import torch

from m2svid.errors import UserError
from m2svid.evaluation.measure import measure
from m2svid.evaluation.results import Results, VideoResult
from m2svid.metrics.stereo import StereoMetrics
from m2svid.warping.view import warp_view
from tests.evaluation.made_films import FAR, NEAR, save_film, stereo

METRICS = ("psnr", "ssim", "siou", "flicker")


def tensor(frames):
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255


def blurred(frames):
    return np.stack([cv2.GaussianBlur(frame, (5, 5), 0) for frame in frames])


def true_hole(views):
    return warp_view(tensor(views["left"]), torch.from_numpy(views["disparity"])[:, None])[1]


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Folders of two films, of single views and of pairs; the predictions are blurred truths."""
    folder = tmp_path_factory.mktemp("films")
    for seed, name in enumerate(["alley", "beach"]):
        views = stereo(seed=seed, frames=4 - seed)
        prediction = blurred(views["right"])
        save_film(folder / "left" / f"{name}.mkv", views["left"])
        save_film(folder / "truth" / f"{name}.mkv", views["right"])
        save_film(folder / "single" / f"{name}.right.mkv", prediction)
        save_film(folder / "sbs" / f"{name}_LRF_Full_SBS.mkv", np.concatenate([views["left"], prediction], 2))
        save_film(folder / "tb" / f"{name}_TBF_fulltb.mkv", np.concatenate([views["left"], prediction], 1))
        (folder / "disparity").mkdir(exist_ok=True)
        np.savez(folder / "disparity" / f"{name}.npz", depth=views["disparity"])
        hole = true_hole(views).permute(0, 2, 3, 1).numpy().astype(np.uint8) * 255
        save_film(folder / "holes" / f"{name}.hole.mkv", hole.repeat(3, -1))
    return folder


def run(films, predictions, output, truth="truth", **options):
    given = {"disparity": "none", "metrics": METRICS, "left": films / "left"} | options
    return measure(films / predictions, films / truth, output=output, **given)


@pytest.mark.parametrize("layout", ["single", "sbs", "tb"])
def test_values_are_those_of_the_arrays_in_every_layout(films, layout, tmp_path):
    means = run(films, layout, tmp_path / "m.json", disparity=str(films / "disparity"))
    expected = StereoMetrics(METRICS)
    for seed, name in enumerate(["alley", "beach"]):
        views = stereo(seed=seed, frames=4 - seed)
        videos = (tensor(video)[None] for video in (blurred(views["right"]), views["right"]))
        expected.update(*videos, true_hole(views)[None], [name], tensor(views["left"])[None])
    assert means == pytest.approx(expected.compute(), abs=1e-6, nan_ok=True)
    results = Results.read(tmp_path / "m.json")
    rows = [{"key": video.key, **video.values} for video in results.videos]
    assert rows == [pytest.approx(row, abs=1e-6) for row in expected.per_video()]
    assert (results.method, results.dataset) == (layout, "truth")
    assert results.means == pytest.approx(means, nan_ok=True)
    assert [path.name for path in tmp_path.iterdir()] == ["m.json"]


def test_what_the_json_tells(films, tmp_path):
    run(films, "sbs", tmp_path / "m.json", method="blur", dataset="made", metrics=["psnr"])
    results = json.loads((tmp_path / "m.json").read_text())
    file = films / "sbs" / "alley_LRF_Full_SBS.mkv"
    assert results["videos"][0]["films"]["prediction"] == {
        "path": str(file),
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "layout": "sbs",
        "eye": "right",
        "frames": 4,
        "width": 96,
        "height": 48,
    }
    assert set(results["videos"][0]["films"]) == {"prediction", "truth", "left"}
    assert results["versions"]["torch"] == torch.__version__.split("+")[0]
    assert (results["method"], results["dataset"], results["weights"]) == ("blur", "made", {})
    assert results["protocol"]["holes"] == "none"


def test_results_keep_what_json_has_no_number_for(tmp_path):
    values = {"psnr": math.inf, "psnr_inside": math.nan, "seam": None, "ssim": 0.5}
    Results("a", "b", [VideoResult("c", values)], {"psnr": math.inf}).write(tmp_path / "r.json")
    json.loads((tmp_path / "r.json").read_text(), parse_constant=pytest.fail)
    found = Results.read(tmp_path / "r.json").videos[0].values
    assert found == pytest.approx(values, nan_ok=True)
    (tmp_path / "other.json").write_text('{"format": "x"}')
    for name, message in {"other.json": "holds no results", "none.json": "does not exist"}.items():
        with pytest.raises(UserError, match=message):
            Results.read(tmp_path / name)


def test_holes_of_masks_of_disparities_and_of_matching(films, tmp_path):
    shares = {}
    options = {
        "masks": {"hole": films / "holes"},
        "pixels": {"disparity": str(films / "disparity")},
        "matched": {"disparity": "matched"},
    }
    inverse = films / "inverse"
    inverse.mkdir(exist_ok=True)
    for path in (films / "disparity").iterdir():
        np.savez(inverse / path.name, depth=np.load(path)["depth"] / NEAR)
    options["inverse"] = {"disparity": str(inverse), "max_disparity": NEAR / 96}
    for name, given in options.items():
        run(films, "single", tmp_path / f"{name}.json", metrics=["psnr"], **given)
        found = Results.read(tmp_path / f"{name}.json")
        shares[name] = [video.values["hole_share"] for video in found.videos]
    expected = [true_hole(stereo(seed=seed, frames=4 - seed)).float().mean().item() for seed in (0, 1)]
    for name in ("masks", "pixels", "inverse"):
        assert shares[name] == pytest.approx(expected, abs=1e-6), name
    # Matching finds the hole beside the square, if not to the pixel.
    assert shares["matched"] == pytest.approx(expected, rel=0.5)
    assert FAR < NEAR


def test_lossy_films_pictures_and_pairs_as_truth(films, tmp_path):
    views = stereo()
    pair = np.concatenate([views["left"], views["right"]], 2)
    truth = save_film(tmp_path / "truth.mkv", pair)
    lossy = save_film(tmp_path / "any name.mp4", views["right"], "libx264", "yuv444p")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for t, frame in enumerate(views["right"]):
        cv2.imwrite(str(pictures / f"{t:03d}.png"), frame[..., ::-1])
    options = {"truth_layout": "sbs", "output": tmp_path / "m.json", "metrics": ["psnr", "siou"]}
    # No --left: the pair has it, and the holes are matched in it.
    exact = measure(pictures, truth, **options)
    assert exact["psnr"] == math.inf
    assert exact["siou"] == 1
    assert 40 < measure(lossy, truth, **options)["psnr"] < 100
    half = [cv2.resize(frame, (96, 48), interpolation=cv2.INTER_AREA) for frame in pair]
    squeezed = save_film(tmp_path / "half.mkv", np.stack(half))
    assert 15 < measure(squeezed, truth, layout="sbs-half", **options)["psnr"] < 40


def test_each_eye_is_found_where_predict_wrote_both(films, tmp_path):
    views = stereo(seed=0)
    save_film(tmp_path / "made" / "alley.right.mkv", blurred(views["right"]))
    both = np.concatenate([views["left"], views["right"]], 2)  # of another right view, to tell which is taken
    save_film(tmp_path / "made" / "alley.sbs.mkv", both)
    truth = save_film(tmp_path / "truth" / "alley.mkv", views["right"]).parent
    options = {"metrics": ["psnr", "siou"], "disparity": "none"}
    found = measure(tmp_path / "made", truth, tmp_path / "made", tmp_path / "m.json", **options)
    alone = {"truth": "truth/alley.mkv", "left": films / "left" / "alley.mkv"}
    expected = run(films, "single/alley.right.mkv", tmp_path / "n.json", **alone, **options)
    assert found == expected


def test_films_cut_into_clips(films, tmp_path):
    run(films, "single", tmp_path / "m.json", metrics=["psnr"], clip_frames=3)
    results = Results.read(tmp_path / "m.json")
    assert [video.key for video in results.videos] == ["alley/000000", "alley/000003", "beach/000000"]
    views = stereo()
    error = np.square((blurred(views["right"]).astype(float) - views["right"])[3:] / 255).mean()
    assert results.videos[1].values["psnr"] == pytest.approx(-10 * math.log10(error), abs=1e-4)


def test_the_warped_view_in_the_place_of_a_truth_that_nobody_has(films, tmp_path):
    """Outside the hole the prediction is 10 levels brighter; what it has inside is nobody's business."""
    views = stereo()
    hole = true_hole(views)[:, 0].numpy()[..., None]
    warped = np.where(hole, 0, views["right"] // 2 + 20).astype(np.uint8)
    prediction = np.where(hole, 128, warped + 10).astype(np.uint8)
    for name, frames in {"left": views["left"], "warped": warped, "ours": prediction}.items():
        save_film(tmp_path / f"{name}.mkv", frames)
    save_film(tmp_path / "hole.mkv", (hole * 255).astype(np.uint8).repeat(3, -1))
    given = {"left": tmp_path / "left.mkv", "hole": tmp_path / "hole.mkv", "output": tmp_path / "m.json"}
    metrics = ["psnr", "ematch_sift", "flicker", "color_difference"]
    means = measure(
        tmp_path / "ours.mkv", tmp_path / "warped.mkv", truth_is="warped", metrics=metrics, **given
    )
    columns = {"psnr_outside", "psnr_masked_outside", "ematch_sift", "color_difference", "flicker"}
    assert {name for name in means if not name.startswith("num_videos")} == columns | {"flicker_inside"}
    assert means["psnr_masked_outside"] == pytest.approx(20 * math.log10(255 / 10), abs=1e-3)
    results = Results.read(tmp_path / "m.json")
    assert results.protocol["truth"] == "warped"
    assert set(results.videos[0].values) == columns | {"flicker_inside", "hole_share"}


def test_seam_at_the_borders_of_windows(tmp_path):
    still = np.repeat(stereo(frames=1)["right"], 9, 0).astype(int)
    truth = np.stack([(frame * 0.5 + 5 * t).clip(0, 255) for t, frame in enumerate(still)]).astype(np.uint8)
    prediction = truth.copy()
    prediction[4:] += 10  # brighter from the second window of 4 frames on
    save_film(tmp_path / "truth.mkv", truth)
    save_film(tmp_path / "ours.mkv", prediction)
    options = {"metrics": ["seam"], "disparity": "none", "window": 4, "overlap": 0}
    means = measure(tmp_path / "ours.mkv", tmp_path / "truth.mkv", output=tmp_path / "m.json", **options)
    # changes of 5 everywhere, 15 at frame 4; borders at 4 and 8: (15 + 5) / 2 / 5
    assert means["seam"] == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"predictions": "nowhere"}, r"nowhere does not exist"),
        ({"left": None}, r"siou need the left views: give them with --left"),
        ({"left": None, "metrics": ["psnr"], "disparity": "matched"}, r"The holes need.*--disparity none"),
        ({"predictions": "one"}, r"1 of 2 films have no prediction: beach$"),
        ({"predictions": "renamed"}, r"no prediction: alley, beach \(it has a, b, and films are"),
        ({"predictions": "more"}, r"1 films are prediction only and have no truth: castle"),
        ({"predictions": "short"}, r"beach: prediction has 2 frames, the truth 3; cut"),
        ({"predictions": "small"}, r"alley\.mkv is 64×48: it must have views of 96×48, alone"),
        ({"layout": "sbs"}, r"alley\.right\.mkv is 48×48: .* in the layout sbs"),
        ({"disparity": "holes"}, r"coloured|inverse depth, not pixels"),
        ({"disparity": "disparity", "max_disparity": 0.05}, r"in pixels: leave --max-disparity out"),
        ({"metrics": ["ms_ssim"]}, r"96×48 pixels are too small for ms_ssim, which needs 161"),
        ({"metrics": ["fvd"]}, r"fvd needs its network"),
        ({"truth_is": "warped"}, r"siou need true right views, not --truth-is warped: choose"),
        ({"truth_is": "warped", "metrics": ["psnr"]}, r"--truth-is warped needs the holes: give them"),
        ({"metrics": ["dssim"]}, r"'dssim' is unknown"),
        ({"clip_frames": 0}, r"--clip-frames must be at least 1"),
        ({"metrics": ["lpips", "psnr"], "vgg_weights": "vgg.pth"}, r"vgg\.pth is not.*--metrics '\[psnr\]'"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)  # fmt: skip
def test_mistakes_are_refused_before_anything_is_measured(films, change, message, tmp_path, monkeypatch):
    views = [stereo(seed=seed, frames=4 - seed)["right"] for seed in (0, 1)]
    made = {
        "one": {"alley": views[0]},
        "more": {"alley": views[0], "beach": views[1], "castle": views[1]},
        "renamed": {"a": views[0], "b": views[1]},
        "short": {"alley": views[0], "beach": views[1][:2]},
        "small": {"alley": views[0][:, :, :64], "beach": views[1][:, :, :64]},
    }
    predictions = change.pop("predictions", "single")
    folder = films / predictions
    if predictions in made:
        folder = tmp_path / predictions
        for name, frames in made[predictions].items():
            save_film(folder / f"{name}.mkv", frames)
    if change.get("disparity", "none") not in ("none", "matched"):
        change["disparity"] = str(films / change["disparity"])
    monkeypatch.setattr(StereoMetrics, "_evaluate", lambda *args: pytest.fail("measured"))
    given = {"left": films / "left", "metrics": METRICS, "disparity": "none"} | change
    with pytest.raises(UserError, match=message):
        measure(folder, films / "truth", output=tmp_path / "m.json", **given)
    assert not (tmp_path / "m.json").exists()


def test_a_film_too_long_for_the_memory_is_refused(films, tmp_path, monkeypatch):
    monkeypatch.setattr("m2svid.evaluation.measure._MEMORY", 10**12)
    with pytest.raises(UserError, match=r"alley: 4 frames of 96×48 as one video need about .* --clip-frames"):
        run(films, "single", tmp_path / "m.json")


def test_an_interrupted_measurement_goes_on(films, tmp_path, monkeypatch):
    whole = run(films, "single", tmp_path / "whole.json")
    evaluate, seen = StereoMetrics._evaluate, []

    def interrupted(self, *args):
        seen.append(args)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return evaluate(self, *args)

    monkeypatch.setattr(StereoMetrics, "_evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(films, "single", tmp_path / "m.json")
    with pytest.raises(UserError, match=r"interrupted measurement with other settings.*--restart"):
        run(films, "single", tmp_path / "m.json", metrics=["psnr"])
    assert run(films, "single", tmp_path / "m.json") == whole
    assert len(seen) == 3  # one, the interrupted one, and that again
    assert (tmp_path / "m.json").read_text() == (tmp_path / "whole.json").read_text()


def test_the_verb(films, tmp_path, capsys):
    from m2svid.cli import main

    words = [
        str(films / "single"),
        str(films / "truth"),
        "--left",
        str(films / "left"),
        "-o",
        str(tmp_path / "m.json"),
    ]
    main(["measure", *words, "--metrics", "[psnr]", "--disparity", "none"])
    assert json.loads(capsys.readouterr().out)["num_videos"] == 2
