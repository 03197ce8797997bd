import csv
import json
import math
import time
from datetime import timedelta

import pytest
import torch
from torch import distributed, multiprocessing

from m2svid.errors import UserError
from m2svid.metrics.functional import ms_ssim, psnr
from m2svid.metrics.perceptual import Perceptual
from m2svid.metrics.regions import paint_white
from m2svid.metrics.stereo import StereoMetrics
from tests.metrics.test_pretrained import Detector
from tests.tiny_run import forks

SPLITS = ([0, 2], [1]), ([0, 1, 2], [])
OF_VIDEOS = (
    "ssim", "siou", "siou_wrapped", "disparity_sgbm", "color_difference", "warping_error", "flicker", "seam",
    "fvd",
)  # fmt: skip


def clip(index, size=8, frames=2):
    """Prediction, truth, hole and key of one made-up video; video 1 has no hole."""
    generator = torch.Generator().manual_seed(index)
    truth = torch.rand(1, frames, 3, size, size, generator=generator)
    prediction = (truth + 0.1 * torch.randn(truth.shape, generator=generator)).clamp(0, 1)
    hole = torch.zeros(1, frames, 1, size, size, dtype=torch.bool)
    hole[..., : 3 + index] = index != 1
    return prediction, truth, hole, [f"clip-ü{index}"]


def evaluate(indices, metrics=("psnr",), **options):
    stereo = StereoMetrics(metrics)
    for index in indices:
        stereo.update(*clip(index, **options))
    return stereo


def evaluate_videos(indices, i3d):
    """All metrics that look at left views and at movement."""
    stereo = StereoMetrics(OF_VIDEOS, weights={"fvd": i3d})
    for index in indices:
        prediction, truth, hole, keys = clip(index, size=32, frames=10)
        stereo.update(prediction, truth, hole, keys, truth.roll(3, -1), borders=[5])
    return stereo


def test_values_are_those_of_the_functions():
    stereo = evaluate([0], ["psnr", "ms_ssim"], size=164, frames=1)
    prediction, truth, hole, _ = clip(0, size=164, frames=1)
    values = stereo.compute()
    for name, metric in (("psnr", psnr), ("ms_ssim", ms_ssim)):
        assert values[name] == metric(prediction, truth).item()
        for region, mask in (("inside", hole), ("outside", ~hole)):
            painted = metric(paint_white(prediction, mask), paint_white(truth, mask))
            assert values[f"{name}_{region}"] == painted.item()
            assert values[f"{name}_masked_{region}"] == metric(prediction, truth, mask).item()


def test_lpips_over_all_regions(vgg_weights):
    stereo = StereoMetrics(["lpips"], Perceptual(vgg_weights))
    prediction, truth, hole, keys = clip(0, size=32)
    stereo.update(prediction, truth, hole, keys)
    values = stereo.compute()
    assert 0 < values["lpips_inside"] < values["lpips"]
    assert values["lpips_masked_inside"] > 0
    assert values["lpips_masked_outside"] > 0
    truth_again = StereoMetrics(["lpips"], Perceptual(vgg_weights))
    truth_again.update(truth, truth, hole, keys)
    assert truth_again.compute()["lpips_masked_inside"] == 0


def test_mean_over_videos_not_over_batches():
    together = StereoMetrics(["psnr"])
    batch = (torch.cat(parts) for parts in zip(clip(0)[:3], clip(2)[:3], strict=True))
    together.update(*batch, ["a", "b"])
    together.update(*clip(3))
    rows = together.per_video()
    assert [row["key"] for row in rows] == ["a", "b", "clip-ü3"]
    assert together.compute()["psnr"] == sum(row["psnr"] for row in rows) / 3


def test_psnr_in_pairs_is_that_of_the_error_over_both():
    """As the published evaluation, whose batches hold two videos."""
    stereo = StereoMetrics(["psnr_pairs"])
    videos = [clip(index)[:3] for index in range(3)]
    for key, video in zip("bca", videos, strict=True):
        stereo.update(*video, [key])
    means = stereo.compute()
    errors = [((prediction - truth) ** 2).mean().item() for prediction, truth, _ in videos]
    b, c, a = errors
    pairs = [-10 * math.log10((a + b) / 2), -10 * math.log10(c)]  # in the order of the keys
    assert means["psnr_pairs"] == pytest.approx(sum(pairs) / 2, abs=1e-5)
    assert set(means) >= {"psnr_pairs_inside", "psnr_pairs_outside"}


def test_a_video_without_holes_is_left_out_of_the_means_inside_and_counted():
    stereo = evaluate([0, 1, 2])
    values, rows = stereo.compute(), {row["key"]: row for row in stereo.per_video()}
    assert (values["num_videos"], values["num_videos_inside"], values["num_videos_outside"]) == (3, 2, 3)
    for name in ("psnr_inside", "psnr_masked_inside"):
        assert math.isnan(rows["clip-ü1"][name])
        assert values[name] == (rows["clip-ü0"][name] + rows["clip-ü2"][name]) / 2
    nowhere = evaluate([1]).compute()
    assert math.isnan(nowhere["psnr_masked_inside"])
    assert nowhere["num_videos_inside"] == 0


def test_a_video_that_is_all_hole_is_left_out_of_the_means_outside_and_counted():
    prediction, truth, hole, keys = clip(3)
    stereo = evaluate([0])
    stereo.update(prediction, truth, torch.ones_like(hole), keys)
    values, alone = stereo.compute(), evaluate([0]).compute()
    assert (values["num_videos"], values["num_videos_inside"], values["num_videos_outside"]) == (2, 2, 1)
    assert values["psnr_outside"] == alone["psnr_outside"]
    assert values["psnr_masked_outside"] == alone["psnr_masked_outside"]


def test_nan_in_a_prediction_is_not_left_out():
    stereo = evaluate([0])
    prediction, truth, hole, keys = clip(2)
    prediction[..., 0, 0] = math.nan
    stereo.update(prediction, truth, hole, keys)
    values = stereo.compute()
    assert math.isnan(values["psnr"])
    assert math.isnan(values["psnr_masked_inside"])


def test_a_video_equal_to_the_truth_is_infinite():
    stereo = evaluate([0])
    _, truth, hole, _ = clip(2)
    stereo.update(truth, truth, hole, ["equal"])
    assert stereo.compute()["psnr"] == math.inf
    assert stereo.per_video()[1]["psnr_masked_inside"] == math.inf


def test_csv_holds_every_video(tmp_path):
    stereo = evaluate([2, 0, 1])
    stereo.write_csv(tmp_path / "new" / "metrics.csv")
    with (tmp_path / "new" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["key"] for row in rows] == ["clip-ü0", "clip-ü1", "clip-ü2"]
    assert rows[1]["psnr_inside"] == "nan"
    assert [float(row["psnr"]) for row in rows] == [row["psnr"] for row in stereo.per_video()]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["metrics.csv"]


def test_reset_forgets():
    stereo = evaluate([0])
    stereo.reset()
    stereo.update(*clip(0))
    assert stereo.compute() == evaluate([0]).compute()


def test_autocast_does_not_reach_the_metrics(vgg_weights):
    """LPIPS is made of convolutions, which autocast would lower to bfloat16."""
    inside, outside = (StereoMetrics(["lpips"], Perceptual(vgg_weights)) for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        inside.update(*clip(0, size=32))
    outside.update(*clip(0, size=32))
    assert inside.compute() == outside.compute()


def test_other_metrics_beside_each_other():
    """Columns, the truth's own values, and videos for which a metric has no value."""
    stereo = StereoMetrics(["color_difference", "flicker", "seam"])
    prediction, truth, hole, keys = clip(0, frames=4)
    stereo.update(prediction, truth, hole, keys, truth, borders=[2])
    still = truth[:, :1].expand_as(truth)
    stereo.update(still, still, torch.zeros_like(hole), ["still"], truth)
    first, second = stereo.per_video()
    change = [(video[0, 1:] - video[0, :-1]).abs() for video in (prediction, truth)]
    flicker = [each.mean((1, 2, 3)).mean().item() for each in change]
    assert first["flicker_ratio"] == pytest.approx(flicker[0] / flicker[1], rel=1e-5)
    inside = [each[..., :3].mean((1, 2, 3)).mean().item() for each in change]
    assert first["flicker_inside"] == pytest.approx(inside[0], rel=1e-5)
    assert first["flicker_truth_inside"] == pytest.approx(inside[1], rel=1e-5)
    at = [each[1].mean() / torch.stack([each[0].mean(), each[2].mean()]).mean() for each in change]
    assert first["seam"] == pytest.approx((at[0] / at[1]).item(), rel=1e-5)
    assert (first["color_difference_truth"], second["flicker"]) == (0, 0)
    assert second["flicker_ratio"] is second["flicker_inside"] is second["seam"] is None
    means = stereo.compute()
    assert (means["seam"], means["num_videos_seam"]) == (first["seam"], 1)
    assert "num_videos_flicker" not in means
    stereo.update(prediction * math.nan, truth, hole, ["broken"], truth, borders=[2])
    means = stereo.compute()
    assert math.isnan(means["flicker"])
    assert math.isnan(means["seam"])
    assert not math.isnan(means["flicker_truth"])


def test_mistakes_are_refused():
    with pytest.raises(UserError, match="'dssim' is unknown; choose from psnr, ssim, ms_ssim, lpips"):
        StereoMetrics(["dssim"])
    with pytest.raises(UserError, match="'clip-ü0' was evaluated twice"):
        evaluate([0, 0]).compute()
    with pytest.raises(UserError, match="No video"), pytest.warns(UserWarning, match="before the ``update``"):
        StereoMetrics(["psnr"]).compute()
    prediction, truth, hole, keys = clip(0)
    with pytest.raises(ValueError, match="0 keys for 1 videos"):
        StereoMetrics(["psnr"]).update(prediction, truth, hole, ())
    with pytest.raises(ValueError, match="don't fit"):
        StereoMetrics(["psnr"]).update(prediction, truth, hole.float(), keys)
    with pytest.raises(ValueError, match="need the left view"):
        StereoMetrics(["siou"]).update(prediction, truth, hole, keys)
    with pytest.raises(ValueError, match="must have the prediction's shape"):
        StereoMetrics(["siou"]).update(prediction, truth, hole, keys, truth[:, :1])
    with pytest.raises(ValueError, match=r"prediction must be float in \[0, 1\]"):
        StereoMetrics(["psnr"]).update(prediction * 2 - 1, truth, hole, keys)


def worker(rank, folder):
    """One of two processes: evaluates its share of each split, and writes what it computed."""
    distributed.init_process_group(
        "gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    for number, split in enumerate(SPLITS):
        stereo = evaluate(split[rank], ["psnr", "ms_ssim"], size=164, frames=1)
        stereo.write_csv(folder / f"{number}-{rank}.csv")
        (folder / f"{number}-{rank}.json").write_text(json.dumps(stereo.compute()))
        videos = evaluate_videos(split[rank], folder / "i3d.pt").compute()
        (folder / f"{number}-{rank}-videos.json").write_text(json.dumps(videos))
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gloo")
    torch.jit.script(Detector()).save(str(folder / "i3d.pt"))
    forks()
    processes = multiprocessing.start_processes(
        worker, (folder,), nprocs=2, join=False, start_method="forkserver"
    )
    deadline = time.monotonic() + 120
    while not processes.join(timeout=1):
        if time.monotonic() > deadline:
            for process in processes.processes:
                process.kill()
            pytest.fail("the two processes did not finish")
    return folder


@pytest.mark.parametrize("split", range(len(SPLITS)))
def test_two_processes_equal_one(two_processes, split, tmp_path):
    alone = evaluate([0, 1, 2], ["psnr", "ms_ssim"], size=164, frames=1)
    for rank in range(2):
        shared = json.loads((two_processes / f"{split}-{rank}.json").read_text())
        assert shared == pytest.approx(alone.compute(), abs=1e-6, nan_ok=True)
        videos = json.loads((two_processes / f"{split}-{rank}-videos.json").read_text())
        expected = evaluate_videos([0, 1, 2], two_processes / "i3d.pt").compute()
        assert videos == pytest.approx(expected, abs=1e-6, nan_ok=True)
        assert {name.split("_inside")[0] for name in videos} >= {*OF_VIDEOS} - {"disparity_sgbm"}
    assert not (two_processes / f"{split}-1.csv").exists()  # the first process writes for all
    alone.write_csv(tmp_path / "alone.csv")
    with (tmp_path / "alone.csv").open() as one, (two_processes / f"{split}-0.csv").open() as two:
        for a, b in zip(csv.DictReader(one), csv.DictReader(two), strict=True):
            assert a.pop("key") == b.pop("key")
            assert {k: float(v) for k, v in a.items()} == pytest.approx(
                {k: float(v) for k, v in b.items()}, abs=1e-6, nan_ok=True
            )
