"""Checkpoints that are whole, and runs that are told to stop."""

import resource
import shutil
import signal
import tempfile

import pytest
import torch

from m2svid.cli import main
from m2svid.errors import UserError
from m2svid.training.checkpoints import WholeCheckpointIO, link
from tests.tiny_run import LAST, QUICKSTART, STEPS, finish, start

NOTHING_SAVED = """
trainer:
  val_check_interval: 1000
  callbacks:
    - {class_path: m2svid.training.checkpoints.Checkpoints, init_args: {every_n_train_steps: 1000}}
"""


@pytest.fixture
def stopped_by(fitted, tmp_path, monkeypatch):
    """Options of a run that only saves when it gets a signal."""
    shutil.copytree(fitted.folder / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)

    def options(name, to_group=False):
        arguments = f"{{name: {name}, to_group: {to_group}}}"
        send = f"    - {{class_path: tests.training.stopping.SendSignal, init_args: {arguments}}}"
        overlay = tmp_path / "overlay.yaml"
        overlay.write_text(f"{NOTHING_SAVED}{send}\n")
        return ["fit", *QUICKSTART, "--config", str(overlay), "--ckpt_path", "last"]

    return options


def load(path):
    return torch.load(path, map_location="cpu", weights_only=True)


def test_a_run_told_to_stop_saves_the_step_that_is_at_work(fitted, stopped_by, tmp_path):
    """SIGTERM to all of its processes; what continues it is as if it had never been stopped."""
    output = finish(start(*stopped_by("SIGTERM", to_group=True), cwd=tmp_path), status=143)
    assert "saved at step 3" in output and "Traceback" not in output
    assert load(LAST)["global_step"] == 3
    (tmp_path / "rest.yaml").write_text(NOTHING_SAVED)
    rest = ["fit", *QUICKSTART, "--config", str(tmp_path / "rest.yaml"), "--ckpt_path", "last"]
    output = finish(start(*rest, cwd=tmp_path))
    assert "continues with trainer.callbacks" in output
    ours, uninterrupted = load(LAST), load(fitted.folder / LAST)
    assert ours["global_step"] == STEPS
    for name, tensor in uninterrupted["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], tensor), name


def test_ctrl_c_saves_and_ends_as_shells_expect(stopped_by):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as stopped:
        main(stopped_by("SIGINT"))
    assert stopped.value.code == 130
    assert load(LAST)["global_step"] == 3
    assert signal.getsignal(signal.SIGINT) is before


def test_slurms_signal_saves_and_requeues(stopped_by, tmp_path, monkeypatch):
    """A checkpoint that Lightning left in the working directory for another experiment isn't restored."""
    (tmp_path / "hpc_ckpt_1.ckpt").write_bytes(b"of another experiment")
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text('#!/bin/sh\necho "$@" >> "$0.told"\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}:/usr/bin:/bin")
    job = {"JOB_ID": "17", "JOB_NAME": "train", "NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for name, value in job.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    with pytest.raises(SystemExit) as stopped:
        main(stopped_by("SIGUSR1"))
    assert stopped.value.code == 128 + signal.SIGUSR1
    assert (tmp_path / "bin" / "scontrol.told").read_text() == "requeue 17\n"
    assert load(LAST)["global_step"] == 3


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path):
    path = tmp_path / "last.ckpt"
    WholeCheckpointIO().save_checkpoint({"step": 1}, path)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, unlimited[1]))
    try:
        with pytest.raises(UserError, match=r"last\.ckpt can't be written: .*; the checkpoint before it is"):
            WholeCheckpointIO().save_checkpoint({"step": 2, "weights": torch.ones(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert load(path) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_checkpoint_needs_no_room_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "full"))
    WholeCheckpointIO().save_checkpoint({"step": 1}, tmp_path / "last.ckpt")
    assert load(tmp_path / "last.ckpt") == {"step": 1}


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = tmp_path / "last.ckpt"
    WholeCheckpointIO().save_checkpoint({"weights": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"last\.ckpt is no checkpoint that fit has written, or"):
        WholeCheckpointIO().load_checkpoint(path)


@pytest.mark.parametrize("hard_links", [True, False])
def test_last_is_the_newest_checkpoint_and_takes_no_room(tmp_path, monkeypatch, hard_links):
    if not hard_links:

        def refuse(*_):
            raise OSError("no hard links here")

        monkeypatch.setattr("os.link", refuse)
    last = tmp_path / "last.ckpt"
    for step in ("1", "2", "2"):
        file = tmp_path / f"step={step}.ckpt"
        file.write_text(step)
        link(file, last)
        assert last.samefile(file)
    if hard_links:
        file.unlink()  # the name goes, the checkpoint stays
    assert last.read_text() == "2"
    assert not list(tmp_path.glob(".*"))
