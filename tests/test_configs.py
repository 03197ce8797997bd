"""Every YAML in configs/ is understood and changes what it names, nothing else; mistakes are refused."""

import io
import re
from contextlib import redirect_stdout
from copy import deepcopy
from functools import cache
from itertools import pairwise, product

import pytest
import yaml

from m2svid.errors import UserError
from m2svid.training.backbone import SmallRandom
from m2svid.training.cli import TrainerCLI
from m2svid.training.runs import RUNS, Run
from m2svid.training.tables import TABLES
from tests.tiny_run import CONFIGS

BASES = ("e2e.yaml", "quickstart.yaml")
OVERLAYS = sorted(
    str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml") if path.name not in BASES
)
# What an overlay may replace as a whole: another class has other arguments.
EXCHANGED = {"model.attention", "model.recipe", "trainer.strategy", "trainer.callbacks", "trainer.logger"}
EXCHANGED |= {"model.methods", "data.train", "data.val", "data.test", "data.buckets", "model.lr_scheduler"}


@pytest.fixture(scope="module")
def parse():
    """The complete configuration that files and options lead to; many tests ask for the same one."""

    @cache
    def printed(words):
        with redirect_stdout(io.StringIO()) as shown, pytest.raises(SystemExit) as stopped:
            TrainerCLI(["fit", *words, "--print_config"])
        assert stopped.value.code == 0
        return yaml.load(shown.getvalue(), yaml.CSafeLoader)

    def parsed(*options, base="e2e.yaml"):
        return deepcopy(printed(("--config", str(CONFIGS / base), *options)))

    return parsed


def flat(config, prefix=""):
    """Dotted name -> value."""
    if not isinstance(config, dict) or not config or prefix in EXCHANGED:
        return {prefix: config}
    return {
        name: value
        for key, part in config.items()
        for name, value in flat(part, f"{prefix}.{key}".lstrip(".")).items()
    }


def changes(before, after):
    before, after = flat(before), flat(after)
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def test_the_bases_are_there():
    assert set(BASES) == {path.name for path in CONFIGS.glob("*.yaml")}
    assert len(OVERLAYS) >= 15


@pytest.mark.parametrize("name", BASES)
def test_a_base_is_understood(name, parse):
    config = parse(base=name)
    assert config["model"]["backbone"]["class_path"].startswith("m2svid.training.backbone.")


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_changes_what_it_names(name, parse):
    before, after = parse(), parse("--config", str(CONFIGS / name))
    overlay = flat(yaml.safe_load((CONFIGS / name).read_text()))
    changed = changes(before, after)
    assert changed <= {key.removesuffix("+") for key in overlay}  # name+ adds to a list
    own = ("attention/disoccluded", "experiment/table4_full_attention", "experiment/table1_m2svid")
    if name.removesuffix(".yaml") not in own:  # e2e.yaml's
        assert changed


def test_e2e_is_the_paper(parse):
    config = parse()
    trainer, model, data = config["trainer"], config["model"], config["data"]
    assert model["optimizer"]["init_args"]["lr"] == 2e-6
    assert (trainer["max_steps"], config["global_batch"]) == (300_000, 16)
    assert trainer["gradient_clip_val"] == 1.0
    assert model["conditioning"] is None and model["attention"] is None  # as Stable Video Diffusion's weights
    start = SmallRandom().build()
    assert start.conditioning.inputs == ("left", "warped", "mask")
    assert start.attention.max_train_tokens_per_frame == 512
    assert model["noise_aug"] == 0.02
    assert model["metrics"] == ["psnr", "ms_ssim", "lpips"]
    assert model["recipe"]["class_path"] == "m2svid.recipes.EndToEnd"
    weights = model["recipe"]["init_args"]
    assert (weights["latent"], weights["l1"], weights["lpips"]) == (1, 1, 1)
    assert weights["noise"] == {"mean": -3, "std": 0.5}
    sizes = [(b["frames"], b["height"], b["width"], b["batch_size"]) for b in data["buckets"]]
    assert sizes == [(4, 512, 512, 1), (16, 256, 256, 1), (25, 192, 192, 1)]
    assert data["augmentation"]["fps"] == [5, 30] and data["augmentation"]["scale"] == [0.3, 1.0]
    assert [data["eval_clip"][name] for name in ("frames", "fps", "size")] == [16, 5.0, 512]
    assert len({dataset["weight"] for dataset in data["train"]}) == 1


def test_the_tables_rows_differ_in_what_the_paper_says(parse):
    """Table 4: recipe, left view and attention are added one after the other."""
    rows = ("diffusion_warped_mask", "warped_mask", "left_warped_mask", "full_attention")
    configs = [parse("--config", str(CONFIGS / "experiment" / f"table4_{row}.yaml")) for row in rows]
    steps = [changes(a, b) for a, b in pairwise(configs)]
    assert steps == [{"model.recipe"}, {"model.conditioning"}, {"model.attention"}]


# Table 5 and Appendix E: class of the recipe, its weights or sampler.
MANY_STEPS = {"sampler.num_steps": 25, "sampler.start": "noise"}
ROWS = {
    "experiment/table5_a": ("StandardDiffusion", MANY_STEPS),
    "experiment/table5_b": ("StandardDiffusion", MANY_STEPS | {"sampler.num_steps": 1}),
    "experiment/table5_c": ("LatentOnly", {}),
    "experiment/table5_d": ("EndToEnd", {"latent": 1, "l1": 1, "lpips": 1}),
    "recipe/diffusion": ("StandardDiffusion", MANY_STEPS),
    "recipe/latent": ("LatentOnly", {}),
    "recipe/long_videos": ("EndToEnd", {"latent": 1, "l1": 1, "lpips": 1}),
}


@pytest.mark.parametrize("row", ROWS)
def test_an_overlay_is_what_the_paper_says(row, parse):
    config = parse("--config", str(CONFIGS / f"{row}.yaml"))
    model, (recipe, options) = config["model"], ROWS[row]
    assert model["recipe"]["class_path"] == f"m2svid.recipes.{recipe}"
    given = flat(model["recipe"]["init_args"])
    assert given == given | options
    if row.startswith("experiment"):
        assert model["attention"]["class_path"] == "m2svid.attention.Factorized"
    else:
        assert model["attention"] is None  # Disoccluded, as in e2e.yaml
    replaced = model["recipe"]["init_args"]["replace_frames"]
    if row == "recipe/long_videos":
        assert replaced["init_args"]["probability"] == 0.5
        assert config["trainer"]["max_steps"] == 20_000
    else:
        assert replaced is None


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_keeps_the_quickstart_quick(name, parse):
    """No weights to fetch, sizes and data of the base, a schedule that ends with the run."""
    config = parse("--config", str(CONFIGS / name), base="quickstart.yaml")
    assert config["model"]["recipe"]["init_args"].get("lpips", 0) == 0
    assert config["model"]["backbone"]["class_path"].endswith("SmallRandom")
    assert config["model"]["lr_scheduler"]["init_args"]["total_steps"] is None
    assert [bucket["height"] for bucket in config["data"]["buckets"]] == [64, 48]
    assert config["data"]["eval_clip"]["size"] == 96
    made = all(spec["name"] == "procedural" for spec in config["data"]["train"])
    assert (config["data"]["procedural"] is not None) == made


@pytest.mark.parametrize("name", [name for name in OVERLAYS if name.startswith("data/")])
def test_data_of_ones_own_keep_the_papers_sizes(name, parse):
    before, after = parse(), parse("--config", str(CONFIGS / name))
    for option in ("buckets", "eval_clip", "augmentation"):
        assert before["data"][option] == after["data"][option]


def test_overlays_combined_in_any_way_land_in_folders_of_their_own():
    kinds = [
        sorted((CONFIGS / kind).glob("*.yaml")) for kind in ("recipe", "attention", "experiment", "data")
    ]
    bases = [CONFIGS / name for name in BASES]
    combined = list(product(bases, *([None, *files] for files in kinds)))
    folders = {Run(None, [str(file) for file in files if file]).folder for files in combined}
    assert len(folders) == len(combined) > 1000
    assert {folder.parent for folder in folders} == {RUNS}
    assert Run(None, ["configs/e2e.yaml", "configs/recipe/latent.yaml"]).folder == RUNS / "e2e+latent"


def test_no_folder_is_repeated_in_a_configuration():
    for path in [CONFIGS / name for name in (*BASES, *OVERLAYS)]:
        assert not {"dirpath", "save_dir", "default_root_dir"} & set(re.findall(r"\w+", path.read_text()))


@pytest.mark.parametrize("row", sorted({row for rows in TABLES.values() for row in rows}))
def test_every_row_has_a_small_twin(row, parse):
    """The overlay on the quickstart: the row's steps, and no loss that needs weights."""
    config = parse("--config", str(CONFIGS / "experiment" / f"{row}.yaml"), base="quickstart.yaml")
    recipe = config["model"]["recipe"]
    assert recipe["init_args"].get("lpips", 0) == 0
    if row.startswith("table10"):
        _, training, steps = row.split("_")
        kind = {"diffusion": "StandardDiffusion", "e2e": "EndToEnd"}[training]
        assert recipe["class_path"].endswith(kind)
        sampler = recipe["init_args"]["sampler"]
        assert (sampler["num_steps"], sampler["start"]) == (
            int(steps),
            {"diffusion": "noise", "e2e": "zero"}[training],
        )


MISTAKES = {
    "model: {nose_aug: 1}": "model takes: backbone, recipe, conditioning, attention",
    "trainer: {max_step: 1}": "trainer takes: .*max_steps",
    "trainr: {max_steps: 1}": "groups trainer, model, data",
    "model: {metrics: [dssim]}": "^model.metrics must be one of psnr, ssim, ms_ssim, lpips, .*not dssim",
    "model: {conditioning: [left, wraped]}": "'left', 'warped', 'mask', 'video'",
    "model: {noise_aug: much}": "^model.noise_aug must be a number, not much",
    "model: {recipe: {class_path: m2svid.recipes.Latent}}": "there are: .*LatentOnly",
    "model: {recipe: {class_path: LatentOnly, init_args: {l1: 1}}}": "LatentOnly takes: sampler, target",
    "model: {optimizer: {class_path: torch.optim.AdamW, init_args: {rate: 1}}}": "AdamW takes: .*lr",
    "data: {val: [{nme: a, shards: b}]}": "DatasetSpec takes: name, shards, weight",
    "data: {augmentation: {sale: [0.3, 1]}}": "Augmentation takes: fps, scale, ratio",
    "model: {methods: [Blurred]}": "^model.methods: .*: Blurred\nthere are: .*Filled.*StereoCrafter",
    "model: {methods: [torch.nn.Linear]}": "^model.methods: .*torch.nn.Linear .* not .* subclass of Method\n",
    "model: {methods: [{class_path: Weights, init_args: {pth: 1}}]}": "Weights takes: path, name, num_steps",
    "model: {protocol: {warp: shared}}": "own.*m2svid",
    "data: {on_error: ignore}": "^data.on_error must be one of raise, skip, not ignore",
    "trainer: {precision: 8}": "bf16-mixed",
    "trainer: {callbacks: [{class_path: m2svid.training.callbacks.Pictures, init_args: {steps: 1}}]}": (
        "Pictures takes: every_n_steps, frames"
    ),
}


@pytest.mark.parametrize("overlay", MISTAKES)
def test_a_wrong_key_or_value_is_refused_naming_what_is_allowed(overlay, tmp_path):
    path = tmp_path / "overlay.yaml"
    path.write_text(overlay)
    with pytest.raises(UserError, match=MISTAKES[overlay]):
        TrainerCLI(["fit", "--config", str(CONFIGS / "e2e.yaml"), "--config", str(path)])


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        (["--model.nose_aug", "1"], "model takes: .*noise_aug"),
        (["--steps", "1"], "groups trainer, model, data"),
        (["--config", "no.yaml"], "does not exist.*no.yaml"),
        (["--model.attention", "Fully"], "Disoccluded, .*Factorized, .*Full"),
    ],
)
def test_a_wrong_option_is_refused_naming_what_is_allowed(words, allowed):
    with pytest.raises(UserError, match=allowed):
        TrainerCLI(["fit", "--config", str(CONFIGS / "e2e.yaml"), *words])
