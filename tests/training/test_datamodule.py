"""The data as the trainer uses it."""

import logging
from types import SimpleNamespace

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from webdataset import TarWriter

from m2svid.data.buckets import Bucket
from m2svid.data.sources import read_shard
from m2svid.data.stream import DatasetSpec
from m2svid.data.transforms import EvalClip
from m2svid.errors import UserError
from m2svid.training.datamodule import StereoDataModule
from tests.data.clips import write_shards

BUCKETS = [Bucket(2, 16, 16, batch_size=2), Bucket(4, 8, 8)]
CLIP = EvalClip(frames=2, fps=None, size=16, batch_size=2)


class Recorder(LightningModule):
    """Notes what it is given."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.trained, self.seen = [], []

    def training_step(self, batch, batch_idx):
        self.trained.append((batch.index, batch.keys, batch.left.sum(), batch.warped.sum()))
        assert batch.left.dtype == torch.float32
        assert batch.left.max() <= 1
        return self.layer(batch.left.mean().view(1, 1)).sum()

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.seen += [(dataloader_idx, key) for key in batch.keys]

    test_step = predict_step = validation_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder, 7, per_shard=3)
    return f"{folder}/*.tar"


def data(shards, **options):
    specs = {stage: [DatasetSpec("a", shards)] for stage in ("train", "test", "predict")}
    specs["val"] = [DatasetSpec("a", shards), DatasetSpec("b", shards)]
    defaults = {"buckets": BUCKETS, "eval_clip": CLIP, "num_workers": 2, "shuffle_buffer": 3, "seed": 1}
    return StereoDataModule(**specs | defaults | options)


def test_memory_is_pinned_for_a_gpu_alone(shards):
    for device in ("cpu", "cuda"):
        module = data(shards)
        place = {"global_rank": 0, "world_size": 1}
        module.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)), **place)
        loaders = [module.train_dataloader(), *module.val_dataloader()]
        assert [loader.pin_memory for loader in loaders] == [device == "cuda"] * 3


def trainer(folder, steps, **options):
    return Trainer(
        max_steps=steps,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **{"limit_val_batches": 0} | options,
    )


def test_training_continues_after_a_checkpoint_as_if_never_stopped(shards, tmp_path):
    whole = Recorder()
    save = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=5, save_top_k=-1)
    trainer(tmp_path, 12, callbacks=[save]).fit(whole, data(shards))
    assert [index for index, *_ in whole.trained] == list(range(12))
    rest = Recorder()
    checkpoint = tmp_path / "step=5.ckpt"
    trainer(tmp_path, 12, enable_checkpointing=False).fit(rest, data(shards), ckpt_path=checkpoint)
    assert rest.trained == whole.trained[5:]


def test_clips_are_warped_on_the_device_as_by_the_loader(shards, tmp_path):
    loader, device = Recorder(), Recorder()
    trainer(tmp_path, 4, enable_checkpointing=False).fit(loader, data(shards))
    trainer(tmp_path, 4, enable_checkpointing=False).fit(device, data(shards, warp="device"))
    assert device.trained == loader.trained


def test_the_data_goes_on_in_the_next_epoch(shards, tmp_path):
    endless, epochs = Recorder(), Recorder()
    trainer(tmp_path, 9, enable_checkpointing=False).fit(endless, data(shards))
    save = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=5, save_top_k=-1)
    trainer(tmp_path, 9, limit_train_batches=4, callbacks=[save]).fit(epochs, data(shards))
    assert epochs.trained == endless.trained
    rest = Recorder()
    options = {"limit_train_batches": 4, "enable_checkpointing": False}
    trainer(tmp_path, 9, **options).fit(rest, data(shards), ckpt_path=tmp_path / "step=5.ckpt")
    assert rest.trained == endless.trained[5:]


def test_a_changed_order_is_reported(shards, tmp_path, caplog):
    save = ModelCheckpoint(tmp_path, "last", every_n_train_steps=3)
    trainer(tmp_path, 3, callbacks=[save]).fit(Recorder(), data(shards))
    for options, warns in (({}, False), ({"seed": 2, "num_workers": 1}, True)):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            resumed = trainer(tmp_path, 4, enable_checkpointing=False)
            resumed.fit(Recorder(), data(shards, **options), ckpt_path=tmp_path / "last.ckpt")
        assert ("after batch 3" in caplog.text) == warns
        assert ("changed: seed, num_workers" in caplog.text) == warns


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_every_clip_once(shards, tmp_path, verb):
    model = Recorder()
    getattr(trainer(tmp_path, 1, limit_val_batches=1.0), verb)(model, data(shards))
    names = "ab" if verb == "validate" else "a"
    expected = [(i, f"{name}/{clip:03d}") for i, name in enumerate(names) for clip in range(7)]
    assert sorted(model.seen) == expected


def test_prediction_needs_no_right_view(tmp_path):
    """What is given to the model is the same with and without; validation still refuses."""
    (path,) = write_shards(tmp_path, 1)
    (clip,) = read_shard(path)
    (whole,) = data(path, num_workers=0).test_dataloader()[0]
    with TarWriter(path, encoder=False) as tar:
        members = {name: content for name, content in clip.members.items() if name != "right.mp4"}
        tar.write({"__key__": clip.key, **members})
    (batch,) = data(path, num_workers=0).predict_dataloader()[0]
    assert batch.right is None and batch.keys == ("a/000",)
    for name in ("left", "warped", "hole"):
        assert torch.equal(getattr(batch, name), getattr(whole, name))
    with pytest.raises(UserError, match=r"no member right\.mp4"):
        next(iter(data(path, num_workers=0).test_dataloader()[0]))


@pytest.mark.parametrize(
    "options",
    [
        {"num_workers": -1},
        {"prefetch": 0},
        {"seed": -1},
        {"shuffle_buffer": 0},
        {"on_error": "ignore"},
        {"warp": "gpu"},
    ],
)
def test_wrong_options_are_named(options):
    with pytest.raises(UserError, match=f"data option {next(iter(options))}"):
        StereoDataModule(**options)


def test_datasets_need_names_of_their_own():
    with pytest.raises(UserError, match="data option val names a dataset twice: a, a"):
        StereoDataModule(val=[DatasetSpec("a", "x.tar"), DatasetSpec("a", "y.tar")])


def test_a_stage_without_datasets_is_named():
    with pytest.raises(UserError, match="data option test names no dataset"):
        StereoDataModule().test_dataloader()


def test_all_of_it_can_be_written_in_yaml(shards, capsys):
    parser = ArgumentParser()
    parser.add_class_arguments(StereoDataModule, "data")
    text = f"""
data:
  train:
    - {{name: a, shards: "{shards}", weight: 2}}
    - {{name: b, shards: ["{shards}"]}}
  buckets:
    - {{frames: 4, height: 64, width: 64, batch_size: 2}}
  augmentation: {{fps: [5, 10]}}
  eval_clip: {{fps: null, size: 64}}
  on_error: skip
"""
    module = parser.instantiate(parser.parse_string(text)).data
    assert module.schedule.buckets == (Bucket(4, 64, 64, 2),)
    assert module.datasets["train"][1] == DatasetSpec("b", [shards])
    assert module.augmentation.fps == (5, 10)
    assert module.eval_clip.fps is None
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    assert "clips that every worker holds" in " ".join(capsys.readouterr().out.split())
