"""A small random Depth Anything model, saved and loaded as the real one."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config, DPTImageProcessor

from m2svid.convert.verbs import convert
from m2svid.depth.shot import ShotDepth
from m2svid.depth.transformers import TransformersDepth
from m2svid.errors import UserError
from m2svid.video.shots import Shot
from m2svid.weights import fetch as files
from tests.convert.films import make_film, read_rgb


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    backbone = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=4,
        patch_size=14,
    )
    path = tmp_path_factory.mktemp("model")
    DepthAnythingForDepthEstimation(config).save_pretrained(path)
    size = {"height": 56, "width": 56}
    DPTImageProcessor(size=size, keep_aspect_ratio=True, ensure_multiple_of=14).save_pretrained(path)
    return path


def test_is_what_the_library_gives(folder):
    frames = list(np.random.default_rng(0).integers(0, 255, (3, 48, 64, 3), dtype=np.uint8))
    depth = TransformersDepth(str(folder), batch_size=2)
    ours = depth(frames, 0)
    inputs = DPTImageProcessor.from_pretrained(folder)(images=frames[2], return_tensors="pt")
    with torch.no_grad():
        theirs = DepthAnythingForDepthEstimation.from_pretrained(folder)(**inputs).predicted_depth[0]
    np.testing.assert_allclose(ours[2], theirs, atol=1e-5)
    assert depth.relative and "near is large" in depth.description


@pytest.mark.parametrize("size", [(1, 1), (20, 4), (3, 3)])
def test_few_rows_are_no_colours(folder, size):
    random = np.random.default_rng(0)
    frames = [random.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8) for _ in range(2)]
    assert len(TransformersDepth(str(folder))(frames, 0)) == 2


def test_a_shape_that_no_model_takes_is_named(folder):
    with pytest.raises(UserError, match="can't take pictures of 4×400"):
        TransformersDepth(str(folder))([np.zeros((400, 4, 3), np.uint8)], 0)


def test_converts_a_film(folder, tmp_path):
    film = make_film(tmp_path / "film.mp4", 5)
    convert(str(film), tmp_path / "out.mp4", depth=str(folder), refine="none", progress="quiet")
    assert read_rgb(tmp_path / "out.mp4").shape == (5, 48, 128, 3)


def test_a_folder_s_films_share_one_model_for_each_device(folder, tmp_path, monkeypatch):
    (tmp_path / "films").mkdir()
    for name in "abc":
        make_film(tmp_path / "films" / f"{name}.mp4", 4, cuts=(2,))
    loaded = []
    load = TransformersDepth.__init__
    monkeypatch.setattr(
        TransformersDepth, "__init__", lambda *args, **more: loaded.append(args) or load(*args, **more)
    )
    convert(str(tmp_path / "films"), depth=str(folder), refine="none", devices="cpu,cpu", progress="quiet")
    assert len(loaded) == 2


@pytest.fixture
def hub(monkeypatch, folder):
    """A hub that has the small model under every name; says what was asked for."""
    asked = []

    def download(name, **_):
        asked.append(name)
        return str(folder)

    monkeypatch.setattr(files, "snapshot_download", download)
    return asked


def test_small_depth_anything_is_the_default_and_its_download_is_told(hub, tmp_path, caplog):
    film = make_film(tmp_path / "film.mp4", 3)
    with caplog.at_level("INFO", "m2svid"):
        convert(str(film), tmp_path / "out.mp4", refine="none", progress="quiet")
    assert (tmp_path / "out.mp4").exists()
    assert hub == ["depth-anything/Depth-Anything-V2-Small-hf"]
    assert "Depth-Anything-V2-Small-hf: from the Hugging Face hub; what is not on this machine" in caplog.text


def test_what_is_here_is_not_looked_for_elsewhere(hub, folder, caplog):
    TransformersDepth(str(folder))
    assert not hub and not caplog.text


def test_missing_model_is_named(monkeypatch):
    def offline(name, **_):
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(files, "snapshot_download", offline)
    reached = r"the depth model nobody/no-such-model \(--depth\) can't be had: .* hub can't be reached .*"
    fetched = (
        r"run `hf download nobody/no-such-model --local-dir nobody/no-such-model` where .* also be a file"
    )
    with pytest.raises(UserError, match=f"{reached}: {fetched}"):
        TransformersDepth("nobody/no-such-model")


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(UserError, match="is neither a depth file nor a depth model that can be loaded"):
        TransformersDepth(str(tmp_path))


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def edit_tensors(folder, change):
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})


CODE = {"AutoConfig": "mine.Config", "AutoModelForDepthEstimation": "mine.Model"}
FAULTS = {
    "lacks a tensor": (
        lambda at: edit_tensors(at, lambda old: {k: v for k, v in old.items() if "head.conv1" not in k}),
        r"does not fit the model: 2 missing: head\.conv1",
    ),
    "wrong shape": (
        lambda at: edit_tensors(at, lambda old: old | {"head.conv1.weight": torch.zeros(2, 2)}),
        r"1 wrong shape: head\.conv1\.weight is \(2, 2\), not \(4, 8, 3, 3\)",
    ),
    "no numbers": (
        lambda at: edit_tensors(at, lambda old: {k: v * torch.nan for k, v in old.items()}),
        "weights that are no finite numbers",
    ),
    "integers": (
        lambda at: edit_tensors(at, lambda old: {k: v.to(torch.int32) for k, v in old.items()}),
        "integers where weights must be floats",
    ),
    "cut off": (
        lambda at: os.truncate(at / "model.safetensors", 3000),
        "is truncated or no safetensors file",
    ),
    "config is a list": (
        lambda at: (at / "config.json").write_text("[]"),
        "must hold a JSON object, not list",
    ),
    "config is binary": (lambda at: (at / "config.json").write_bytes(bytes(range(256))), "is no JSON"),
    "config is odd": (
        lambda at: edit_config(at, neck_hidden_sizes="x"),
        "neither a depth file nor .*neck_hid",
    ),
    "other task": (lambda at: edit_config(at, model_type="bert"), "neither a depth file nor .*BertConfig"),
    "torch file": (
        lambda at: (at / "model.safetensors").rename(at / "pytorch_model.bin"),
        "neither a depth file nor a depth model",
    ),
    "brings code": (
        lambda at: edit_config(at, model_type="mine", auto_map=CODE),
        "it brings code of its own, which is never run",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_models_are_named(folder, tmp_path, fault, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    model = tmp_path / "model"
    shutil.copytree(folder, model)
    spoil, message = FAULTS[fault]
    spoil(model)
    with pytest.raises(UserError, match=rf"{model}.*{message}"):
        TransformersDepth(str(model))


def test_what_no_depth_depends_on_may_be_missing(folder, tmp_path):
    """Published files of DPT lack the unused residual unit."""
    shutil.copytree(folder, tmp_path / "model")
    unused = "neck.fusion_stage.layers.0.residual_layer1."
    edit_tensors(tmp_path / "model", lambda old: {k: v for k, v in old.items() if not k.startswith(unused)})
    frames = [np.zeros((48, 64, 3), np.uint8)]
    whole = TransformersDepth(str(folder))(frames, 0)
    np.testing.assert_array_equal(TransformersDepth(str(tmp_path / "model"))(frames, 0), whole)


def test_depth_that_is_no_number_is_named(folder, tmp_path, monkeypatch):
    """Weights may be sound at their beginnings only."""
    monkeypatch.setattr(
        TransformersDepth, "_predict", lambda self, frames: np.full((len(frames), 4, 5), np.nan)
    )
    depth = ShotDepth(TransformersDepth(str(folder)), Shot(0, 0, 2), lambda *at: [None] * 2, tmp_path)
    with pytest.raises(UserError, match="values that are no numbers between frames 0 and 2"):
        depth.prepare(lambda _: None)
