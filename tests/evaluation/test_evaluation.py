"""Evaluation of the model and other methods against values calculated by hand."""

import csv
import logging
import math
from dataclasses import replace

import pytest
import torch

from m2svid.errors import UserError
from m2svid.evaluation.evaluation import Evaluation
from m2svid.evaluation.methods import Filled, RoundTrip, Trained, Warped, Weights
from m2svid.evaluation.methods.warps import SoftSplat, warped_by
from m2svid.evaluation.protocol import Protocol
from m2svid.evaluation.results import Results
from m2svid.model.sampler import Sampler
from tests.evaluation.methods.clips import make_clip
from tests.tiny_module import make_batch

CPU = torch.device("cpu")
TRAINED = Trained(None, Sampler(), 0.02)


def psnr(video, truth):
    return -10 * math.log10(((video - truth) ** 2).mean().item())


def filled_row(row, hole):
    """One row of one channel: a hole pixel gets the next valid pixel to its right, else to its left."""
    valid = [x for x in range(len(row)) if not hole[x]]
    nearest = [next((v for v in valid if v > x), max(valid)) if hole[x] else x for x in range(len(row))]
    return [row[x] for x in nearest]


def filled(video, hole):
    """(T, 3, H, W), pixel by pixel."""
    out = video.clone()
    for t, c, y in torch.cartesian_prod(*(torch.arange(n) for n in video.shape[:3])).tolist():
        out[t, c, y] = torch.tensor(filled_row(video[t, c, y].tolist(), hole[t, 0, y].tolist()))
    return out


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two datasets; the first gets two batches, of two clips and of one."""
    folder = tmp_path_factory.mktemp("evaluation")
    evaluation = Evaluation(("psnr",), (Warped(), Filled()))
    evaluation.start(["street", "forest"], CPU, TRAINED)
    seen = [
        (0, make_batch(("a", "b"), seed=1)),
        (0, make_batch(("c",), seed=2)),
        (1, make_batch(("a",), seed=3)),
    ]
    for dataset, batch in seen:
        evaluation.update(dataset, batch.left, batch)  # the left view in the place of a prediction
    return evaluation.finish(folder, "val_step7"), seen, folder


def clips(seen, dataset):
    return [(batch, i) for number, batch in seen if number == dataset for i in range(len(batch.keys))]


@pytest.mark.parametrize(("dataset", "name"), [(0, "street"), (1, "forest")])
def test_means_over_the_videos_of_each_dataset_and_method(finished, dataset, name):
    values, seen, _ = finished
    expected = {"model": [], "warped": [], "filled": []}
    for batch, i in clips(seen, dataset):
        expected["model"].append(psnr(batch.left[i], batch.right[i]))
        expected["warped"].append(psnr(batch.warped[i], batch.right[i]))
        expected["filled"].append(psnr(filled(batch.warped[i], batch.hole[i]), batch.right[i]))
    for method, each in expected.items():
        path = name if method == "model" else f"{name}/{method}"
        assert values[f"{path}/psnr"] == pytest.approx(sum(each) / len(each), abs=1e-4)
        assert values[f"{path}/num_videos"] == len(each)


def test_the_hole_decides_which_pixels_are_inside(finished):
    values, seen, _ = finished
    ((batch, i),) = clips(seen, 1)
    inside = batch.hole[i].expand_as(batch.left[i])
    expected = psnr(batch.left[i][inside], batch.right[i][inside])
    assert values["forest/psnr_masked_inside"] == pytest.approx(expected, abs=1e-4)


def test_a_file_with_every_video_for_each_dataset_and_method(finished):
    _, seen, folder = finished
    assert {path.name for path in folder.iterdir()} == {
        f"val_step7_{dataset}{method}.{kind}"
        for dataset in ("street", "forest")
        for method in ("", "_warped", "_filled")
        for kind in ("csv", "json")
    }
    with (folder / "val_step7_street_warped.csv").open() as file:
        rows = {row["key"]: float(row["psnr"]) for row in csv.DictReader(file)}
    expected = {b.keys[i]: psnr(b.warped[i], b.right[i]) for b, i in clips(seen, 0)}
    assert rows == pytest.approx(expected, abs=1e-4)


def test_metrics_of_both_eyes_get_the_left_view(tmp_path):
    evaluation = Evaluation(("color_difference",))
    evaluation.start(["made"], CPU, TRAINED)
    batch = make_batch(("a",), seed=1)
    evaluation.update(0, batch.left, batch)
    values = evaluation.finish(tmp_path, "val")
    assert values["made/color_difference"] == 0
    assert values["made/color_difference_truth"] > 0


def test_weights_of_metrics_are_asked_for_at_once():
    with pytest.raises(UserError, match="fvd needs its network: give the file in metric_weights"):
        Evaluation(("psnr", "fvd"))


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        (lambda: Evaluation(("ms_ssim",)), "Frames of 96×96 pixels are too small for ms_ssim"),
        (lambda: Evaluation(("psnr",), [Weights("no.ckpt", "old")]), "method old: no.ckpt does not exist"),
        (lambda: Evaluation(("psnr",), [RoundTrip("no.ckpt")]), "method vae: no.ckpt does not exist"),
        (
            lambda: Evaluation(("psnr",), metric_weights={"fid": "a"}),
            "metric_weights: 'fid' is no metric that takes weights; those are fvd, clip_consistency",
        ),
    ],
)
def test_what_would_fail_is_seen_before_an_evaluation(evaluation, message):
    with pytest.raises(UserError, match=message):
        evaluation().check(8, 96)


def test_every_evaluation_begins_anew(tmp_path):
    evaluation = Evaluation(("psnr",))
    means = []
    for seed in (1, 2):
        evaluation.start(["made"], CPU, TRAINED)
        batch = make_batch(("a",), seed=seed)
        evaluation.update(0, batch.left, batch)
        means.append(evaluation.finish(tmp_path, str(seed)))
    assert [mean["made/num_videos"] for mean in means] == [1, 1]
    assert means[0]["made/psnr"] != means[1]["made/psnr"]


def test_lpips_is_left_out_by_an_option_only_and_says_so(tmp_path, caplog):
    with pytest.raises(
        UserError, match=r"missing\.pth is not there.*vgg_weights.*--model\.metrics '\[psnr, ms_ssim\]'"
    ):
        Evaluation(("psnr", "lpips"), vgg_weights=str(tmp_path / "missing.pth"))
    with caplog.at_level(logging.INFO, "m2svid"):
        Evaluation(("psnr",))
    assert "LPIPS is left out" in caplog.text


@pytest.mark.parametrize("name", ["model", "warped", "a/b"])
def test_methods_need_names_of_their_own(name):
    with pytest.raises(UserError, match=f"model.methods: '{name}' must be a name of its own"):
        Evaluation(("psnr",), (Warped(), Filled(name)))


def test_the_json_holds_every_value_and_names_protocol_and_method(finished):
    values, _, folder = finished
    model = Results.read(folder / "val_step7_street.json")
    assert model.protocol == {
        "name": "paper",
        "disparity": "both_views",
        "depth": None,
        "warp": "own",
        "mask": "m2svid",
        "method": {"class": "trained", "warp": "m2svid", "steps": 1},
    }
    warped = Results.read(folder / "val_step7_street_warped.json")
    assert (warped.method, warped.dataset) == ("warped", "street")
    assert warped.protocol["method"]["class"] == "m2svid.evaluation.methods.bounds.Warped"
    assert warped.means["psnr"] == values["street/warped/psnr"]
    assert [video.key for video in warped.videos] == ["a", "b", "c"]
    each = [video.values["psnr"] for video in warped.videos]
    assert sum(each) / len(each) == pytest.approx(warped.means["psnr"])
    assert warped.versions["torch"]


class Counted(SoftSplat):
    calls = 0

    def __call__(self, left, disparity):
        type(self).calls += 1
        return super().__call__(left, disparity)


class SplatWarped(Warped):
    warp = Counted()


def evaluate(tmp_path, protocol, *methods, clips=("made/a",)):
    """Results of an evaluation of clips from a disparity, the truth in the place of a prediction."""
    evaluation = Evaluation(("psnr",), methods, protocol)
    evaluation.start(["made"], CPU, TRAINED)
    for seed, key in enumerate(clips):
        batch = evaluation.protocol.apply(replace(make_clip(seed=seed), keys=(key,)))
        evaluation.update(0, batch.right, batch)
    evaluation.finish(tmp_path, "test")
    found = [Results.read(path) for path in tmp_path.glob("*.json")]
    return {results.method: results for results in found}


def test_methods_that_warp_alike_share_the_warp(tmp_path):
    Counted.calls = 0
    clips = ("made/a", "made/b")
    made = evaluate(tmp_path, Protocol(), SplatWarped("one"), SplatWarped("two"), Warped(), clips=clips)
    assert Counted.calls == len(clips)
    assert made["one"].means == made["two"].means != made["warped"].means


def test_one_warp_for_all(tmp_path):
    made = evaluate(tmp_path, Protocol(warp="m2svid"), SplatWarped("splat"), Warped())
    assert made["splat"].means == made["warped"].means
    assert (tmp_path / "test_m2svid_warp_made_splat.csv").is_file()


@pytest.mark.parametrize("mask", ["m2svid", "own"])
def test_whose_mask_tells_inside_from_outside(tmp_path, mask):
    made = evaluate(tmp_path, Protocol(mask=mask), SplatWarped("splat"), Warped())
    clip = make_clip()
    own = warped_by(SoftSplat(), clip)
    inside = (own.hole if mask == "own" else clip.hole)[0]
    row = made["splat"].videos[0].values
    assert row["hole_share"] == pytest.approx(inside.float().mean().item())
    pixels = inside.expand(-1, 3, -1, -1)
    expected = psnr(own.warped[0][pixels], clip.right[0][pixels])
    assert row["psnr_masked_inside"] == pytest.approx(expected, abs=1e-3)


def test_noise_follows_from_seed_and_key(tmp_path):
    class Noise(Warped):
        def predict(self, clip, generator):
            return torch.rand(clip.left.shape, generator=generator)

    first = evaluate(tmp_path / "1", Protocol(), Noise("noise"), clips=("made/a", "made/b"))
    second = evaluate(tmp_path / "2", Protocol(), Filled(), Noise("noise"), clips=("made/a", "made/b"))
    one, two = ([video.values["psnr"] for video in made["noise"].videos] for made in (first, second))
    assert one == two and one[0] != one[1]
