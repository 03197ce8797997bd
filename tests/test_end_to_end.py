"""The trainer's verbs as a user starts them, on the quickstart at tiny size."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from m2svid.cli import main
from m2svid.data.codec import VideoDecoder
from m2svid.training.cli import TrainerCLI
from tests.tiny_run import LAST, QUICKSTART, ROOT, RUN, STEPS, finish, start

CLIPS = 3  # of the validation set in tiny.yaml: an odd number
METHODS = ("", "_warped", "_filled")


def load(path):
    return torch.load(path, map_location="cpu", weights_only=True)


def events(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def rows(path):
    with path.open() as file:
        return {row.pop("key"): {k: float(v) for k, v in row.items()} for row in csv.DictReader(file)}


def test_fit_says_what_it_trains(fitted):
    assert "training 0.7 M parameters (the U-Net)" in fitted.output
    assert "recipe EndToEnd, attention Disoccluded, conditioning left, warped, mask" in fitted.output
    assert "LPIPS is left out" in fitted.output


def test_checkpoint_holds_the_trained_parameters_only(fitted):
    checkpoint = load(fitted.folder / LAST)
    assert checkpoint["global_step"] == STEPS
    assert {key.split(".")[1] for key in checkpoint["state_dict"]} == {"unet"}
    trained = len(checkpoint["state_dict"])
    assert len(checkpoint["optimizer_states"][0]["state"]) == trained
    weights = sum(tensor.numel() for tensor in checkpoint["state_dict"].values()) * 4
    assert (fitted.folder / LAST).stat().st_size < 3 * weights * 1.1  # weights and AdamW's two moments


def test_every_validation_measures_the_model_and_other_methods(fitted):
    for step in range(2, STEPS + 1, 2):
        values = [rows(fitted.folder / RUN / f"val_step{step}_procedural{name}.csv") for name in METHODS]
        keys = {key for method in values for key in method}
        assert keys == set(values[0]) and len(keys) == CLIPS
    model, warped, filled = values
    for key in keys:
        assert filled[key]["psnr_masked_inside"] > warped[key]["psnr_masked_inside"]  # black holes
        assert model[key]["hole_share"] == warped[key]["hole_share"] > 0


def test_tensorboard_shows_training_speed_pictures_and_validation(fitted):
    shown = events(fitted.folder / RUN)
    scalars = shown.Tags()["scalars"]
    assert {
        "train/loss",
        "train/loss_latent",
        "train/loss_l1",
        "train/grad_norm",
        "loss_by_bucket/4x32x32",
        "loss_by_dataset/procedural",
        "lr-AdamW",
        "speed/samples_per_s",
        "speed/data_wait_share",
        "speed/peak_memory_gb",
        "data/skipped_clips",
        "val/procedural/psnr",
        "val/procedural/psnr_masked_inside",
        "val/procedural/warped/psnr",
        "val/procedural/filled/psnr_inside",
    } <= set(scalars)
    pictures = {
        f"{place}/{name}"
        for place in ("train", "val/procedural")
        for name in ("strip", "film", "error", "anaglyph")
    }
    assert set(shown.Tags()["images"]) == pictures
    values = {tag: [event.value for event in shown.Scalars(tag)] for tag in scalars}
    assert all(0 <= share <= 1 for share in values["speed/data_wait_share"])
    psnr = [row["psnr"] for row in rows(fitted.folder / RUN / f"val_step{STEPS}_procedural.csv").values()]
    assert values["val/procedural/psnr"][-1] == pytest.approx(sum(psnr) / CLIPS, abs=1e-4)  # float32 there


def assert_identical(a, b, name):
    """Bit by bit, in whatever they are nested."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), name
        for key in a:
            assert_identical(a[key], b[key], f"{name}.{key}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), name
    elif isinstance(a, list):
        assert_identical(dict(enumerate(a)), dict(enumerate(b)), name)
    else:
        assert a == b, name


def test_a_killed_run_continues_to_the_same_weights(fitted, tmp_path):
    """Killed while it writes or right after it has written a checkpoint in the middle of the run."""
    started = start("fit", *QUICKSTART, cwd=tmp_path)
    while not (tmp_path / LAST).exists():
        assert started.process.is_alive(), finish(started)
        time.sleep(0.002)
    os.killpg(started.process.pid, signal.SIGKILL)
    finish(started, -signal.SIGKILL)
    reached = load(tmp_path / LAST)["global_step"]
    assert 0 < reached < STEPS
    for pattern in ("events*", f"val_step{reached}_*"):  # the checkpoint is written before the validation
        for path in (tmp_path / RUN).glob(pattern):
            path.unlink()

    finish(start("fit", "--run", RUN.name, "--ckpt_path", "last", cwd=tmp_path))
    steps = [event.step for event in events(tmp_path / RUN).Scalars("train/loss")]
    assert min(steps) >= reached - 1  # the first is that of batch `reached` of 0, 1, 2...
    ours, uninterrupted = load(tmp_path / LAST), load(fitted.folder / LAST)
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
        assert_identical(ours[part], uninterrupted[part], part)
    for step in range(reached, STEPS + 1, 2):
        name = f"val_step{step}_procedural.csv"
        assert rows(tmp_path / RUN / name) == rows(fitted.folder / RUN / name)


def test_two_processes_validate_as_one(fitted):
    """The program starts the second one itself; as one has validated at the end of fit."""
    words = ["validate", *QUICKSTART, "--run", "two", "--ckpt_path", str(LAST)]
    words += ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "m2svid", *words]
    subprocess.run(command, cwd=fitted.folder, env=environment, check=True, timeout=300)
    means = {}
    for name in (RUN.name, "two"):
        shown = events(fitted.folder / "runs" / name)
        tags = [tag for tag in shown.Tags()["scalars"] if tag.startswith("val/")]
        means[name] = {tag: shown.Scalars(tag)[-1].value for tag in tags}
    assert means["two"] == pytest.approx(means[RUN.name], abs=1e-6)
    assert means["two"]["val/procedural/num_videos"] == CLIPS
    for method in METHODS:
        file = f"val_step{STEPS}_procedural{method}.csv"
        one, two = (rows(fitted.folder / "runs" / name / file) for name in means)
        assert one.keys() == two.keys() and len(two) == CLIPS
        for key in one:
            assert two[key] == pytest.approx(one[key], abs=1e-6)


SHARDS = "data/quickstart/val/*.tar"


@pytest.mark.parametrize(("verb", "stage"), [("validate", "val"), ("test", "test")])
def test_a_run_is_measured_by_its_name(fitted, verb, stage, monkeypatch):
    """With its configuration, which stays as it is, and its last checkpoint."""
    monkeypatch.chdir(fitted.folder)
    before, expected = (RUN / "config.yaml").read_bytes(), rows(RUN / f"val_step{STEPS}_procedural.csv")
    measured = RUN / f"{stage}_step{STEPS}_procedural.csv"
    measured.unlink(missing_ok=True)
    main([verb, "--run", RUN.name, f"--data.{stage}", f"[{{name: procedural, shards: {SHARDS}}}]"])
    for key, values in rows(measured).items():
        assert values == pytest.approx(expected.pop(key), abs=1e-4)
    assert not expected
    assert (RUN / "config.yaml").read_bytes() == before


def test_predict_writes_what_it_predicts(fitted, monkeypatch):
    monkeypatch.chdir(fitted.folder)
    made = []
    monkeypatch.setattr(TrainerCLI, "after_predict", lambda cli: made.append(cli.trainer), raising=False)
    main(["predict", "--run", RUN.name, "--data.predict", f"[{{name: val, shards: {SHARDS}}}]"])
    videos = sorted((RUN / "predictions" / "val").iterdir())
    names = [f"val-0-{index:05d}.{view}.mp4" for index in range(CLIPS) for view in ("right", "sbs")]
    assert [path.name for path in videos] == names
    for path in videos:
        width = 48 if ".right" in path.name else 96
        video = VideoDecoder(path.read_bytes())
        assert len(video) == 4 and tuple(video[[0, 3]].shape) == (2, 3, 48, width)
    (trainer,) = made
    assert not any(trainer.predict_loop.predictions)  # none is kept in memory


def test_bf16_mixed_trains(fitted, tmp_path):
    shutil.copytree(fitted.folder / "data", tmp_path / "data")
    options = ("--trainer.precision", "bf16-mixed", "--trainer.max_steps", "2")
    finish(start("fit", *QUICKSTART, *options, cwd=tmp_path))
    state = load(tmp_path / LAST)["state_dict"]
    assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in state.values())
    mixed, exact = (
        events(folder / RUN).Scalars("train/loss")[0].value for folder in (tmp_path, fitted.folder)
    )
    assert mixed != exact and mixed == pytest.approx(exact, rel=0.02)
