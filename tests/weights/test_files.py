"""Files in and out: every format loads, a round trip changes nothing, what doesn't fit is refused by name."""

from __future__ import annotations

import json
import shutil
from unittest.mock import Mock

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionModelWithProjection

from m2svid.errors import UserError
from m2svid.model.m2svid import M2SVid
from m2svid.weights import fetch
from m2svid.weights.fetch import hub_patterns
from m2svid.weights.load import Heads, load, open_weights
from m2svid.weights.mismatch import MismatchError
from m2svid.weights.verbs import export, import_, init, inspect
from tests.parity.rebuild import HEADS

UNET = "model.diffusion_model."


def is_used(key: str) -> bool:
    if key.startswith(("conditioner.embedders.3.", "conditioner.embedders.5.")):
        return ".encoder.encoder." in key or ".quant_conv." in key
    return key.startswith((UNET, "first_stage_model.decoder.")) or ".open_clip.model.visual." in key


def check_round_trip(before, after):
    used = {key for key in before if is_used(key)}
    assert used <= set(after)
    for key in used:
        assert after[key].dtype == before[key].dtype
        assert torch.equal(after[key], before[key]), key


def test_import_then_export_changes_nothing(published_state, folder, tmp_path):
    export(str(folder), output=str(tmp_path / "back.pt"))
    back = torch.load(tmp_path / "back.pt", weights_only=True)["module"]
    assert all(key.startswith("module.") for key in back)
    check_round_trip(published_state, {key.removeprefix("module."): tensor for key, tensor in back.items()})


def test_half_precision_safetensors_round_trip(published_state, tmp_path):
    half = {key: tensor.half() for key, tensor in published_state.items()}
    save_file(half, tmp_path / "m2svid_no_full_atten_weights.safetensors")
    import_(
        str(tmp_path / "m2svid_no_full_atten_weights.safetensors"), output=str(tmp_path / "model"), **HEADS
    )
    export(str(tmp_path / "model"), output=str(tmp_path / "back.safetensors"))
    check_round_trip(half, load_file(tmp_path / "back.safetensors"))
    card = json.loads((tmp_path / "model" / "model_index.json").read_text())["m2svid"]
    assert card["attention"] == {"class_path": "m2svid.attention.Factorized", "init_args": {}}


def test_folder_opens_in_diffusers_and_transformers(folder):
    for kind, name in (
        (UNetSpatioTemporalConditionModel, "unet"),
        (AutoencoderKLTemporalDecoder, "vae"),
        (CLIPVisionModelWithProjection, "image_encoder"),
    ):
        _, report = kind.from_pretrained(folder / name, output_loading_info=True)
        assert not report["missing_keys"] and not report["unexpected_keys"]


def test_save_pretrained_is_import(folder, tmp_path):
    M2SVid.from_pretrained(folder).save_pretrained(tmp_path / "again")
    for path in folder.rglob("*.*"):
        again = tmp_path / "again" / path.relative_to(folder)
        if path.suffix == ".safetensors":
            ours, theirs = load_file(again), load_file(path)
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    index = (tmp_path / "again" / "model_index.json").read_text()
    assert index == (folder / "model_index.json").read_text()


def test_load_in_another_dtype(folder):
    model = load(folder, dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert not any(p.is_meta for p in [*model.parameters(), *model.buffers()])
    assert not model.training


def test_shards_and_variants(folder, tmp_path):
    model = UNetSpatioTemporalConditionModel.from_pretrained(folder / "unet")
    model.half().save_pretrained(tmp_path / "unet", max_shard_size="2MB", variant="fp16")
    assert len(list((tmp_path / "unet").glob("*.fp16*.safetensors"))) > 1
    opened = open_weights(tmp_path / "unet")
    assert {t.dtype for t in opened.parts.unet.state.values()} == {torch.float16}
    next((tmp_path / "unet").glob("*.fp16*.safetensors")).unlink()
    with pytest.raises(UserError, match="not there"):
        open_weights(tmp_path / "unet")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_truncated_file(published_file, published_state, tmp_path, suffix):
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".pt":
        whole.write_bytes(published_file.read_bytes())
    else:
        save_file(published_state, whole)
    broken = tmp_path / f"m2svid_weights{suffix}"
    broken.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(UserError, match="truncated"):
        import_(str(broken), output=str(tmp_path / "model"), **HEADS)
    assert {path.name for path in tmp_path.iterdir()} == {whole.name, broken.name}


class Malicious:
    def __reduce__(self):
        return print, ("run when unpickled",)


def test_code_is_not_unpickled(tmp_path, capsys):
    torch.save({"module": {}, "extra": Malicious()}, tmp_path / "weights.pt")
    with pytest.raises(UserError, match="run code"):
        inspect(str(tmp_path / "weights.pt"))
    assert "run when" not in capsys.readouterr().out


def test_foreign_and_half_matching_files(published_state, tmp_path):
    save_file({"layer.weight": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(UserError, match=r"no U-Net of a known format.*layer\.weight"):
        inspect(str(tmp_path / "foreign.safetensors"))

    half = {key: tensor for key, tensor in published_state.items() if "output_blocks.3." not in key}
    half[UNET + "out.2.weight"] = torch.zeros(4, 32, 1, 1)
    half["ema.decay"] = torch.zeros(1)
    save_file(half, tmp_path / "m2svid_weights.safetensors")
    with pytest.raises(MismatchError) as error:
        import_(str(tmp_path / "m2svid_weights.safetensors"), output=str(tmp_path / "model"), **HEADS)
    assert set(error.value.missing) == {key for key in published_state if "output_blocks.3." in key}
    assert error.value.unexpected == ["ema.decay"]
    assert error.value.misshapen == {UNET + "out.2.weight": ((4, 32, 1, 1), (4, 32, 3, 3))}
    assert not (tmp_path / "model").exists()


def test_attention_is_asked_for(published_file, tmp_path):
    other = tmp_path / "renamed.pt"
    other.symlink_to(published_file)
    with pytest.raises(UserError, match="attention=disoccluded"):
        load(other, heads=Heads(**HEADS))
    model = load(other, heads=Heads(**HEADS), attention="factorized")
    assert type(model.attention).__name__ == "Factorized"


def test_output_is_never_overwritten(folder, published_file):
    with pytest.raises(UserError, match="exists already"):
        import_(str(published_file), output=str(folder), **HEADS)
    with pytest.raises(UserError, match="exists already"):
        export(str(folder), output=str(published_file))


def test_unknown_path():
    with pytest.raises(UserError, match="does not exist: there is no such file or folder"):
        load("nowhere/at/all.pt")


REPOSITORY = [
    "svd_xt.safetensors",
    "model_index.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
    "unet/diffusion_pytorch_model.bin",
    "image_encoder/model.safetensors",
    "image_encoder/model.fp16.safetensors",
    "unet_diffusers/diffusion_pytorch_model.safetensors",
]


@pytest.mark.parametrize(
    ("folder", "variant", "wanted"),
    [("", None, [1, 2, 3, 7]), ("", "fp16", [1, 2, 4, 5, 8]), ("unet_diffusers", None, [1, 2, 9])],
)
def test_only_what_is_needed_is_fetched(folder, variant, wanted):
    files = filter_repo_objects(REPOSITORY, **hub_patterns(folder, variant))
    assert list(files) == [REPOSITORY[i] for i in wanted]


def test_inspect(published_file, folder):
    told = inspect(str(published_file), **HEADS)
    assert told["format"] == "M2SVid file"
    assert told["card"]["conditioning"]["init_args"]["inputs"] == ["left", "warped", "mask"]
    assert told["components"]["unet"]["dtypes"] == ["float32"]
    expected = UNetSpatioTemporalConditionModel.from_pretrained(folder / "unet").num_parameters()
    assert told["components"]["unet"]["parameters_millions"] == round(expected / 1e6, 1)
    assert inspect(str(folder))["format"] == "M2SVid folder"


@pytest.fixture
def svd_file(published_state, tmp_path):
    state = {key: tensor for key, tensor in published_state.items() if ".embedders.5." not in key}
    conv_in = f"{UNET}input_blocks.0.0.weight"
    state[conv_in] = state[conv_in][:, :8].contiguous()
    save_file(state, tmp_path / "svd_xt.safetensors")
    return tmp_path / "svd_xt.safetensors"


@pytest.mark.parametrize("inputs", [["left", "warped", "mask"], ["warped", "mask"]])
def test_init_from_svd(svd_file, published_state, tmp_path, inputs):
    assert inspect(str(svd_file), **HEADS)["format"] == "SVD file"
    with pytest.raises(UserError, match="weights init"):
        load(svd_file, heads=Heads(**HEADS))
    init(source=str(svd_file), output=str(tmp_path / "start"), conditioning=inputs, **HEADS)
    model = load(tmp_path / "start")
    views = len(inputs) - 1
    weight, svd = model.unet.conv_in.weight, published_state[f"{UNET}input_blocks.0.0.weight"]
    assert model.conditioning.inputs == tuple(inputs)
    assert torch.equal(weight[:, :4], svd[:, :4])
    for view in range(views):
        torch.testing.assert_close(weight[:, 4 * view + 4 :][:, :4], svd[:, 4:8] / views)
    assert not weight[:, -1].any()


@pytest.mark.parametrize(
    "name", ["weights/m2svid", "./owner/name", "/no/such", "~/name", "here/name", "a/b/"]
)
def test_a_missing_path_is_never_asked_of_the_hub(name, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fetch, "snapshot_download", lambda *_, **__: pytest.fail("the hub was asked"))
    with pytest.raises(UserError, match=f"^{name} does not exist"):
        fetch.resolve(name)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (GatedRepoError("no", response=Mock()), "the hub does not give owner/name.*hf auth login"),
        (LocalEntryNotFoundError("no"), "can't be reached.*hf download owner/name --local-dir owner/name"),
    ],
)
def test_without_a_network_no_login_is_advised(error, message, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(fetch, "snapshot_download", fail)
    with pytest.raises(
        UserError, match=f"there is no folder owner/name on this machine, and .*{message}"
    ) as told:
        fetch.resolve("owner/name")
    assert ("login" in str(told.value)) == isinstance(error, GatedRepoError)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda at: (at / "model_index.json").write_text("null"), "must hold a JSON object, not NoneType"),
        (lambda at: (at / "unet" / "config.json").write_bytes(b"\xff\xfe"), "is no JSON"),
        (lambda at: (at / "unet" / "config.json").write_text('{"block_out_channels": 5}'), "unet is none"),
        (lambda at: edit_usage(at, window="25"), "window='25' must be a number of at least 1"),
        (lambda at: edit_usage(at, overlap=25), "overlap=25 must be smaller than window=25"),
        (lambda at: edit_usage(at, noise_aug=None), "noise_aug=None must be a number"),
        (lambda at: edit_unet(at, lambda tensor: tensor * torch.nan), "no finite numbers"),
        (
            lambda at: edit_unet(at, lambda tensor: tensor.to(torch.int8)),
            "integers where weights must be floats",
        ),
    ],
)
def test_broken_folders_are_named(folder, tmp_path, spoil, message):
    shutil.copytree(folder, tmp_path / "model")
    spoil(tmp_path / "model")
    with pytest.raises(UserError, match=rf"{tmp_path / 'model'}.*{message}"):
        load(tmp_path / "model")


def edit_usage(folder, **changes):
    index = json.loads((folder / "model_index.json").read_text())
    index["m2svid"]["usage"] |= changes
    (folder / "model_index.json").write_text(json.dumps(index))


def edit_unet(folder, change):
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({key: change(tensor) for key, tensor in load_file(file).items()}, file)


def test_a_depth_model_is_told_from_weights(tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["DepthAnythingForDepthEstimation"]}')
    with pytest.raises(UserError, match=r"a model of transformers \(DepthAnything.*named with --depth"):
        load(tmp_path)


def test_a_diverged_file_is_refused(published_state, tmp_path):
    diverged = {key: torch.full_like(tensor, torch.nan) for key, tensor in published_state.items()}
    save_file(diverged, tmp_path / "m2svid_weights.safetensors")
    with pytest.raises(UserError, match="no finite numbers"):
        inspect(str(tmp_path / "m2svid_weights.safetensors"), **HEADS)
