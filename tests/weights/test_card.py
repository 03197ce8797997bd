"""Checkpoints and folders say what model they are, a researcher's own classes included."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from m2svid import cli
from m2svid.attention import AttentionStrategy, Disoccluded, Factorized, Full
from m2svid.errors import UserError
from m2svid.model.m2svid import M2SVid
from m2svid.model.vae import SpaceToDepth
from m2svid.recipes import EndToEnd, StandardDiffusion
from m2svid.training.backbone import StableVideoDiffusion
from m2svid.training.module import M2SVidModule
from m2svid.weights.load import load
from m2svid.weights.mismatch import MismatchError
from m2svid.weights.verbs import export, import_, init, inspect
from tests.model import tiny
from tests.tiny_module import make_module
from tests.tiny_run import QUICKSTART

OWN = '''
import torch

from m2svid.attention import Factorized
from m2svid.model.conditioning import Conditioning
from m2svid.model.vae import SpaceToDepth


class Louder(Factorized):
    def __init__(self, gain: float = 1.0):
        self._gain = gain

    def attend(self, attn, x, own_frame, all_frames, selection):
        return self._gain * super().attend(attn, x, own_frame, all_frames, selection)


class Slow(Conditioning):
    def __init__(self, inputs: list[str], rate: int):
        super().__init__(inputs)
        self._rate = rate

    def fps(self, batch):
        return torch.full_like(batch.fps, self._rate)


class Scaled(SpaceToDepth):
    """Has a parameter, drawn at random."""

    def __init__(self, downscale: int, spread: float):
        super().__init__(downscale)
        self.scale = torch.nn.Parameter(1 + spread * torch.rand(1))

    def encode(self, video):
        return super().encode(video) * self.scale

    def decode(self, latent):
        return super().decode(latent / self.scale)
'''
OVERLAY = """
trainer: {max_steps: 2}
model:
  conditioning: {class_path: own_parts.Slow, init_args: {inputs: [warped, mask], rate: 3}}
  attention: {class_path: own_parts.Louder, init_args: {gain: 1.5}}
  backbone:
    init_args: {autoencoder: {class_path: own_parts.Scaled, init_args: {downscale: 4, spread: 0.1}}}
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module that only this test's path has, the options of a run with its classes, and its checkpoint."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "own_parts.py").write_text(OWN)
    (tmp_path / "own.yaml").write_text(OVERLAY)
    monkeypatch.syspath_prepend(tmp_path / "code")
    monkeypatch.chdir(tmp_path)
    options = [*QUICKSTART, "--config", "own.yaml"]
    cli.main(["fit", *options])
    yield options, next(tmp_path.rglob("last.ckpt"))
    sys.modules.pop("own_parts", None)


def test_own_classes_train_and_their_checkpoint_opens_everywhere(own, tmp_path, monkeypatch):
    options, path = own
    model = M2SVid.from_pretrained(path)
    assert [type(part).__name__ for part in (model.attention, model.conditioning, model.vae)] == [
        "Louder",
        "Slow",
        "Scaled",
    ]
    assert (model.attention._gain, model.conditioning._rate, model.vae.downscale) == (1.5, 3, 4)
    assert model.conditioning.inputs == ("warped", "mask")
    stored = torch.load(path, weights_only=True)["state_dict"]
    assert 1 < model.vae.scale.item() == stored["model.vae.scale"].item() < 1.1  # it travels

    (measured,) = tmp_path.rglob("val_step2_procedural.csv")
    values = measured.read_text()
    measured.unlink()
    cli.main(["validate", *options, "--ckpt_path", str(path)])
    assert next(tmp_path.rglob("val_step2_procedural.csv")).read_text() == values

    cli.main(["weights", "import", str(path), "-o", "model"])
    again = M2SVid.from_pretrained("model")
    batch = tiny.batch()
    assert torch.equal(again.predict(batch, add_noise=False), model.predict(batch, add_noise=False))
    index = json.loads(Path("model/model_index.json").read_text())
    assert index["vae"] == ["own_parts", "Scaled"] and index["m2svid"]["step"] == 2

    cli.main(["make-film", "film", "--frames", "4", "--width", "64", "--height", "48"])
    film = ["convert", "film/film.mp4", "--depth", "film/depth.mkv", "--progress", "quiet", "--weights"]
    for weights in ("model", str(path)):
        cli.main([*film, weights, "-o", f"{Path(weights).stem}.mp4"])
        assert Path(f"{Path(weights).stem}.mp4").stat().st_size

    sys.modules.pop("own_parts")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if not entry.endswith("code")])
    for weights in (path, "model"):
        with pytest.raises(
            UserError, match=r"own_parts\.\w+ can't be imported .* put its folder on PYTHONPATH"
        ):
            load(weights)


def checkpoint(module: M2SVidModule, path: Path, step: int = 7) -> Path:
    """As Lightning writes it."""
    content = {"state_dict": module.state_dict(), "global_step": step, "epoch": 0}
    module.on_save_checkpoint(content)
    torch.save(content, path)
    return path


def of_svd(folder: Path, **options) -> M2SVidModule:
    given = {"recipe": EndToEnd(lpips=0.0), "metrics": ("psnr",)}
    return M2SVidModule(StableVideoDiffusion(str(folder)), **(given | options))


def test_a_checkpoint_says_all_about_its_model(tmp_path):
    recipe = StandardDiffusion()
    module = make_module(attention=Full(), conditioning=("warped", "mask"), recipe=recipe, noise_aug=0.1)
    path = checkpoint(module, tmp_path / "last.ckpt")
    model = load(path)
    assert torch.equal(model.unet.conv_in.weight, module.model.unet.conv_in.weight)
    assert (type(model.attention), type(model.vae), model.image_encoder.dim) == (Full, SpaceToDepth, 8)
    assert model.conditioning.inputs == ("warped", "mask")
    assert (model.usage.sampler, model.usage.noise_aug) == (recipe.sampler, 0.1)
    card = inspect(str(path))["card"]
    assert card["step"] == 7 and card["version"] and card["backbone"] is None
    assert card["networks"]["unet"]["block_out_channels"] == [32, 32]
    import_(str(path), output=str(tmp_path / "model"))
    with pytest.raises(UserError, match="no vae of SVD's kind"):
        export(str(tmp_path / "model"), output=str(tmp_path / "published.pt"))


def test_frozen_networks_come_from_where_the_card_says(folder, tmp_path):
    module = of_svd(folder)
    with torch.no_grad():
        module.model.unet.conv_in.weight.add_(1)
    path = checkpoint(module, tmp_path / "last.ckpt")
    assert {key.split(".")[1] for key in torch.load(path)["state_dict"]} == {"unet"}
    start, batch = load(folder), tiny.batch(H=64, W=64)
    model = load(path)
    assert torch.equal(model.unet.conv_in.weight, start.unet.conv_in.weight + 1)
    assert torch.equal(model.vae.model.decoder.conv_in.weight, start.vae.model.decoder.conv_in.weight)
    trained = module.model.eval().predict(batch, add_noise=False)
    torch.testing.assert_close(model.predict(batch, add_noise=False), trained)

    content = torch.load(path)
    content["model_card"]["backbone"]["path"] = str(tmp_path / "moved")
    torch.save(content, path)
    with pytest.raises(UserError, match=r"vae and image_encoder from other weights \(backbone\): .*moved"):
        load(path)
    assert torch.equal(load(path, backbone=folder).unet.conv_in.weight, model.unet.conv_in.weight)


def test_what_does_not_fit_its_card_is_refused(tmp_path):
    path = checkpoint(make_module(), tmp_path / "last.ckpt")
    content = torch.load(path)
    card = content.pop("model_card")
    torch.save(content, tmp_path / "old.ckpt")
    with pytest.raises(UserError, match=r"old\.ckpt is a checkpoint without a model card.*fit --ckpt_path"):
        load(tmp_path / "old.ckpt")
    for broken in ({**card, "usage": {}}, {**card, "step_": 1}, {"usage": card["usage"]}):
        torch.save(content | {"model_card": broken}, tmp_path / "other.ckpt")
        with pytest.raises(UserError, match=r"model card in .*other\.ckpt is not of this version"):
            load(tmp_path / "other.ckpt")
    del content["state_dict"]["model.unet.conv_out.bias"]
    torch.save(content | {"model_card": card}, tmp_path / "half.ckpt")
    with pytest.raises(MismatchError, match=r"missing: conv_out\.bias"):
        load(tmp_path / "half.ckpt")
    content["state_dict"]["other.weight"] = torch.zeros(1)
    content["state_dict"]["model.unet.conv_out.bias"] = torch.zeros(48)
    torch.save(content | {"model_card": card}, tmp_path / "more.ckpt")
    with pytest.raises(MismatchError, match=r"unexpected: other\.weight"):
        load(tmp_path / "more.ckpt")


class Mine(Factorized):
    def __init__(self, number: int = 1):
        self._number = number


@pytest.mark.parametrize(
    ("given", "kind"),
    [(None, Disoccluded), ("factorized", Factorized), ("m2svid.attention.Full", Full), (Mine(3), Mine)],
)
def test_the_strategy_may_be_given(folder, given, kind):
    model = load(folder, attention=given)
    assert type(model.attention) is kind
    assert given is not model.attention or isinstance(given, AttentionStrategy)
    assert model.card().attention["class_path"].endswith(kind.__name__)


def test_an_unknown_strategy_is_refused(folder):
    with pytest.raises(UserError, match=r"'fastest' is no dotted name of a class such as m2svid\.attention"):
        load(folder, attention="fastest")


def test_training_from_a_folder_keeps_its_strategy_or_says_so(published_state, tmp_path, caplog):
    svd = {key: tensor for key, tensor in published_state.items() if ".embedders.5." not in key}
    conv_in = "model.diffusion_model.input_blocks.0.0.weight"
    torch.save(svd | {conv_in: svd[conv_in][:, :8].contiguous()}, tmp_path / "svd.pt")
    source = {"source": str(tmp_path / "svd.pt"), "head_channels": 16, "clip_heads": 4}
    start = tmp_path / "start"
    init(output=str(start), attention="factorized", conditioning=["warped", "mask"], **source)
    module = of_svd(start)
    assert type(module.model.attention) is Factorized
    assert module.model.conditioning.inputs == ("warped", "mask")
    module.on_fit_start()
    assert "configuration says" not in caplog.text

    other = of_svd(start, attention=Full())
    assert type(other.model.attention) is Full
    other.on_fit_start()
    (line,) = [message for message in caplog.messages if "configuration says" in message]
    assert (
        line.startswith("attention: the weights were made with") and "Factorized" in line and "Full" in line
    )


def test_an_imported_folder_is_validated_as_it_was_trained(folder, tmp_path, monkeypatch, caplog):
    """The released weights in one line: `validate --config e2e.yaml --model.backbone.path FOLDER`."""
    monkeypatch.chdir(tmp_path)
    load(folder, attention="factorized").save_pretrained(tmp_path / "factorized")
    used = []
    attend = Factorized.attend
    monkeypatch.setattr(Factorized, "attend", lambda self, *args: used.append(1) or attend(self, *args))
    overlay = tmp_path / "svd.yaml"
    overlay.write_text(
        "model: {attention: null, conditioning: null, lr_scheduler: null, noise_aug: 0.3,\n"
        "  backbone: {class_path: m2svid.training.backbone.StableVideoDiffusion}}\n"
        "data: {eval_clip: {frames: 2, size: 64}, procedural: {width: 64, height: 64}}"
    )
    options = ["--config", str(overlay), "--model.backbone.path", "factorized"]
    cli.main(["validate", *QUICKSTART, *options])
    assert used and list(tmp_path.rglob("val_step0_*.csv"))
    (line,) = [message for message in caplog.messages if "configuration says" in message]
    assert line.startswith("usage: ") and "noise_aug=0.3" in line


@pytest.mark.parametrize("how", ["init_unet", "ckpt_path"])
def test_a_checkpoint_evaluated_in_another_way_is_said(tmp_path, caplog, how):
    path = checkpoint(make_module(attention=Full()), tmp_path / "last.ckpt")
    if how == "init_unet":
        module = make_module(init_unet=str(path))
    else:
        module = make_module()
        module.on_load_checkpoint(torch.load(path))
    module.on_predict_epoch_start()
    (line,) = [message for message in caplog.messages if "configuration says" in message]
    assert line.startswith("attention: ") and "Full" in line and "Disoccluded" in line
