"""The strategies that are offered, each run by two processes on the CPU (gloo)."""

from __future__ import annotations

import csv
import os
import socket
import time
from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import Strategy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from m2svid import M2SVid
from m2svid.data.buckets import Bucket
from m2svid.data.stream import DatasetSpec
from m2svid.data.transforms import EvalClip
from m2svid.training.averaging import CURRENT, AverageWeights
from m2svid.training.callbacks import LossBreakdown, Pictures, Throughput
from m2svid.training.datamodule import StereoDataModule
from tests.data.clips import write_shards
from tests.tiny_module import make_module
from tests.tiny_run import forks

CONFIGS = Path(__file__).parents[2] / "configs"
YAML = {"ddp": CONFIGS / "e2e.yaml", "fsdp": CONFIGS / "strategy" / "fsdp.yaml"}
VAL = {"odd": 3, "single": 1}  # clips: one process gets more than the other, or all
PICTURES = ("strip", "film", "anaglyph", "error")
STEPS = 4
TIMEOUT = 240  # s


def strategy(name: str) -> Strategy:
    """As the YAML file that users give says."""
    parser = ArgumentParser()
    parser.add_argument("--strategy", type=Strategy)
    given = yaml.safe_load(YAML[name].read_text())["trainer"]["strategy"]
    return parser.instantiate_classes(parser.parse_object({"strategy": given})).strategy


def adamw(parameters):
    # With its usual eps, Adam makes whole steps of gradients that are nothing but rounding.
    return torch.optim.AdamW(parameters, lr=0.1, eps=0.1)


def module():
    made = make_module(optimizer=adamw)
    made.model.unet.enable_gradient_checkpointing()
    return made


def data(folder: Path) -> StereoDataModule:
    return StereoDataModule(
        train=[DatasetSpec("train", f"{folder}/train/*.tar")],
        val=[DatasetSpec(name, f"{folder}/{name}/*.tar") for name in VAL],
        buckets=[Bucket(2, 32, 32), Bucket(3, 16, 32, batch_size=2)],
        eval_clip=EvalClip(frames=2, fps=None, size=32),
        num_workers=0,
        shuffle_buffer=2,
    )


def trainer(folder: Path, name: str, steps: int = STEPS, **options) -> Trainer:
    return Trainer(
        max_steps=steps,
        accelerator="cpu",
        gradient_clip_val=0.5,
        val_check_interval=STEPS,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=2,
        logger=TensorBoardLogger(str(folder), name, ""),
        callbacks=[
            ModelCheckpoint(folder / name, "{step}", every_n_train_steps=2, save_top_k=-1),
            Pictures(every_n_steps=2),
            Throughput(),
            LossBreakdown(),
            AverageWeights(0.5),
        ],
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **options,
    )


def process(rank: int, port: int, folder: Path) -> None:
    """What each of the two processes does, with both strategies."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0"}
    torch.set_num_threads(1)
    for name in YAML:
        two = {"devices": 2, "strategy": strategy(name)}
        trainer(folder, name, **two).fit(module(), data(folder))
        for start in (name, "one"):
            options = {"limit_val_batches": 0, "devices": 2, "strategy": strategy(name)}
            again = trainer(folder, f"{name}_from_{start}", **options)
            again.fit(module(), data(folder), ckpt_path=folder / start / "step=2.ckpt")
        check = trainer(folder, f"{name}_validated", devices=2, strategy=strategy(name))
        check.validate(module(), data(folder), ckpt_path=folder / name / "step=4.ckpt", verbose=False)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for name, clips in {"train": 6, **VAL}.items():
        (folder / name).mkdir()
        write_shards(folder / name, clips, per_shard=2)
    trainer(folder, "one", steps=2, devices=1, limit_val_batches=0).fit(module(), data(folder))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    forks()
    start = torch.multiprocessing.start_processes
    processes = start(process, (port, folder), nprocs=2, join=False, start_method="forkserver")
    end = time.monotonic() + TIMEOUT
    while not processes.join(timeout=1):
        if time.monotonic() > end:
            for each in processes.processes:
                each.kill()
            pytest.fail(f"the two processes were not done after {TIMEOUT} s: they wait for one another")
    return folder


def load(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def assert_close(one: dict, two: dict) -> None:
    for key in ("state_dict", CURRENT, "optimizer_states"):
        torch.testing.assert_close(one[key], two[key], rtol=1e-4, atol=1e-6)
    assert one["global_step"] == two["global_step"]


def rows(path: Path) -> dict[str, float]:
    with path.open() as file:
        return {row["key"]: float(row["psnr"]) for row in csv.DictReader(file)}


@pytest.mark.parametrize("name", YAML)
def test_a_checkpoint_holds_the_whole_unet_and_nothing_else(runs, name):
    unet = module().model.unet
    state = load(runs / name / "step=4.ckpt")["state_dict"]
    shapes = {key: tensor.shape for key, tensor in state.items()}
    assert shapes == {f"model.unet.{key}": p.shape for key, p in unet.state_dict().items()}
    assert {type(tensor) for tensor in state.values()} == {torch.Tensor}


@pytest.mark.parametrize("name", YAML)
def test_a_checkpoint_opens_for_inference(runs, name):
    opened = M2SVid.from_pretrained(runs / name / "step=4.ckpt")
    state = load(runs / name / "step=4.ckpt")["state_dict"]
    assert state.keys() == {f"model.unet.{key}" for key in opened.unet.state_dict()}
    for key, tensor in opened.unet.state_dict().items():
        assert torch.equal(tensor, state[f"model.unet.{key}"])


def test_both_strategies_train_the_same_weights(runs):
    assert_close(load(runs / "ddp" / "step=4.ckpt"), load(runs / "fsdp" / "step=4.ckpt"))
    moved = load(runs / "ddp" / "step=2.ckpt")["state_dict"], load(runs / "ddp" / "step=4.ckpt")["state_dict"]
    key = "model.unet.conv_in.weight"
    assert (moved[0][key] - moved[1][key]).abs().max() > 1e-6


@pytest.mark.parametrize("name", YAML)
def test_a_resumed_run_ends_at_the_same_weights(runs, name):
    assert_close(load(runs / name / "step=4.ckpt"), load(runs / f"{name}_from_{name}" / "step=4.ckpt"))


def test_a_run_of_one_process_goes_on_in_two(runs):
    ddp, fsdp = (load(runs / f"{name}_from_one" / "step=4.ckpt") for name in ("ddp", "fsdp"))
    assert_close(ddp, fsdp)


def test_a_run_of_two_processes_goes_on_in_one(runs, tmp_path):
    ends = []
    for name in YAML:
        one = trainer(tmp_path, name, steps=3, devices=1, limit_val_batches=0)
        one.fit(module(), data(runs), ckpt_path=runs / name / "step=2.ckpt")
        one.save_checkpoint(tmp_path / f"{name}.ckpt")
        ends.append(load(tmp_path / f"{name}.ckpt"))
    assert_close(*ends)


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


@pytest.mark.parametrize("name", YAML)
def test_every_clip_is_validated_once(runs, name, tmp_path):
    """As one process does it, however many of them each process gets."""
    one = trainer(tmp_path, "one", devices=1)
    one.validate(module(), data(runs), ckpt_path=runs / name / "step=4.ckpt", verbose=False)
    for dataset, clips in VAL.items():
        file = f"val_step4_{dataset}.csv"
        expected = rows(tmp_path / "one" / file)
        assert expected.keys() == {f"{dataset}/{clip:03d}" for clip in range(clips)}
        for folder in (name, f"{name}_validated"):
            assert rows(runs / folder / file) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("name", YAML)
def test_tensorboard_of_two_processes(runs, name):
    shown = events(runs / name)
    pictures = {f"{kind}/{picture}" for kind in ("train", "val/odd", "val/single") for picture in PICTURES}
    assert set(shown.Tags()["images"]) == pictures
    assert [image.step for image in shown.Images("train/strip")] == [2, 4]
    assert {f"val/{dataset}/psnr" for dataset in VAL} <= set(shown.Tags()["scalars"])
    assert all(event.value > 0 for event in shown.Scalars("train/grad_norm"))
    (validated,) = events(runs / f"{name}_validated").Scalars("val/odd/psnr")
    assert validated.step == 4  # that of the checkpoint
