"""The verbs, how they refuse mistakes, and that the README's commands are commands of the project."""

import ast
import importlib
import json
import re
import shlex
import shutil
import sys
import tarfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from jsonargparse import capture_parser

from data_prep import driver
from data_prep.dataset import Dataset
from m2svid import cli
from m2svid.errors import UserError
from m2svid.training.cli import TrainerCLI
from tests.tiny_run import CONFIGS, LAST, QUICKSTART, ROOT, finish, start

VERBS = [*cli.TRAINER_VERBS, *cli.VERBS]
GROUPS = {name: verbs for name, verbs in cli.VERBS.items() if isinstance(verbs, dict)}
FUNCTIONS = {(name,): verb for name, verb in cli.VERBS.items() if isinstance(verb, cli.Verb)}
FUNCTIONS |= {(group, name): verb for group, verbs in GROUPS.items() for name, verb in verbs.items()}

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    shlex.split(command)
    for language, block in BLOCKS
    if language == "bash"
    for command in re.split(r"\n|&&", block)
    if command.strip() and not command.strip().startswith("#")
]
MODULES = [
    words for words in COMMANDS if "-m" in words and words[words.index("-m") + 1] not in ("venv", "pytest")
]


def refused(words, capsys):
    """The sentence that a mistake ends in."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(words)
    assert stopped.value.code == 2
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    sentence = shown.err.strip().splitlines()[-1]
    assert sentence.startswith("m2svid: ")
    return sentence


def listed(words, capsys):
    cli.main(words)
    return re.findall(r"^  ([\w-]+) ", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_overview_lists_every_verb(words, capsys):
    assert listed(words, capsys) == VERBS


@pytest.mark.parametrize("group", GROUPS)
def test_overview_of_a_group(group, capsys):
    assert listed([group], capsys) == listed([group, "--help"], capsys) == list(GROUPS[group])


def test_an_error_that_only_follows_a_users_mistake_keeps_its_traceback(monkeypatch):
    def fail(words):
        try:
            raise UserError("mended")
        except UserError:
            raise RuntimeError("a bug in the handler") from None

    monkeypatch.setattr(cli, "run", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["fit"])


@pytest.mark.parametrize("path", FUNCTIONS, ids=" ".join)
def test_every_option_of_a_verb_is_explained(path):
    parser = capture_parser(cli.call, FUNCTIONS[path], [], "")
    assert [action.dest for action in parser._actions if not action.help] == []


def test_every_option_of_model_and_data_is_explained():
    parser = capture_parser(TrainerCLI, ["fit"])
    fit = next(action.choices["fit"] for action in parser._actions if action.choices)
    ours = [action for action in fit._actions if action.dest.startswith(("model.", "data."))]
    assert len(ours) > 20
    assert [action.dest for action in ours if not action.help] == []


@pytest.mark.parametrize("words", [["fitt"], ["bench", "warpp"], ["weights", "convert"]], ids=" ".join)
def test_an_unknown_verb_is_refused_naming_the_known_ones(words, capsys):
    sentence = refused(words, capsys)
    assert sentence.endswith(f"not {words[-1]!r}")
    assert all(name in sentence for name in (VERBS if len(words) == 1 else GROUPS[words[0]]))


def answer(factor: int, output: Path = Path(), twice: bool = False) -> dict:
    return {"product": factor * (14 if twice else 7), "output": output}


def test_short_options_switches_and_results_as_json(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "made_up", SimpleNamespace(answer=answer))
    monkeypatch.setitem(cli.VERBS, "answer", cli.Verb("", "made_up:answer"))
    for words in (["-o", "there", "--twice"], ["--twice", "--output=there"]):
        cli.main(["answer", "3", *words])
        assert json.loads(capsys.readouterr().out) == {"product": 42, "output": "there"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--model.recipe.init_args.l1", "-1"], "recipe.l1 is a weight and can't be negative, got -1.0"),
        (
            ["--model.recipe", "{class_path: EndToEnd, init_args: {lpips: 1, vgg_weights: no.pth}}"],
            "LPIPS needs VGG16's weights, and no.pth is not there",
        ),
        (["--model.attention.init_args.max_train_tokens_per_frame", "0"], "max_train_tokens_per_frame"),
        (["--model.backbone.init_args.layers", "0"], "layers=0 must be at least 1"),
        (["--data.augmentation.scale", "[0.5, 2]"], "augmentation option scale must be 0 < low <= high <= 1"),
        (["--data.eval_clip.frames", "0"], "evaluation option frames must be at least 1, got 0"),
        (["--data.buckets", "[{frames: 0, height: 64, width: 64}]"], "frames"),
        (["--data.train", "[{name: a, shards: b, weight: 0}]"], "dataset a: weight must be positive, got 0"),
        (["--ckpt_path", "no.ckpt"], "--ckpt_path no.ckpt is not there"),
        (["--run", "runs/mine"], "--run runs/mine must be the name of a folder in runs, without a path"),
        (
            ["--model.lr_scheduler.init_args.total_steps", "7"],
            "ends after total_steps=7, trainer.max_steps=8",
        ),
        (
            ["--global_batch", "4"],
            "--global_batch 4 sets trainer.accumulate_grad_batches: leave one of the two",
        ),
        (["--model.noise_aug", "-1"], "model.noise_aug is a noise level and can't be negative, got -1.0"),
        (["--data.num_workers", "-1"], "data option num_workers must be at least 0, got -1"),
        (["--model.metrics", "[psnr, lpips]", "--model.vgg_weights", "no.pth"], "no.pth is not there"),
        (["--model.init_unet", "no.ckpt"], "model.init_unet: there is no file no.ckpt"),
        (["--data.procedural", "null"], "no shard matches 'data/quickstart/train/*.tar'"),
    ],
)
def test_a_mistake_in_a_run_ends_in_one_sentence(options, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert sentence in refused(["fit", *QUICKSTART, *options], capsys)


def test_a_checkpoint_of_another_model_is_refused_with_the_lists(fitted, monkeypatch, capsys):
    monkeypatch.chdir(fitted.folder)
    other = ("--model.conditioning", "[warped, mask]", "--ckpt_path", str(LAST), "--run", "other")
    sentence = refused(["validate", *QUICKSTART, *other, "--trainer.logger", "false"], capsys)
    assert "missing" not in sentence and "unexpected" not in sentence
    # 48 latent channels twice beside mask and noise, or three times
    assert "model.unet.conv_in.weight is (32, 145, 3, 3), not (32, 97, 3, 3)" in sentence


def test_a_broken_clip_ends_validation_in_one_sentence(fitted, tmp_path):
    """Found by a loader process, which must not hide its name and cause in a traceback."""
    shard = next((fitted.folder / "data" / "quickstart" / "val").glob("*.tar"))
    broken = tmp_path / "broken-0.tar"
    with tarfile.open(shard) as old, tarfile.open(broken, "w") as new:
        for member in old:
            content = old.extractfile(member)
            if member.name.endswith("00001.left.mp4"):
                member.size //= 2
            new.addfile(member, content)
    data = ("--data.procedural", "null", "--data.val", f"[{{name: made, shards: {broken}}}]")
    output = finish(
        start("validate", *QUICKSTART, *data, "--trainer.logger", "false", cwd=tmp_path), status=2
    )
    assert "Traceback" not in output
    sentence = output.strip().splitlines()[-1]
    assert sentence.startswith("m2svid: ")
    assert "broken-0.tar" in sentence and "val-0-00001" in sentence


def test_the_readme_has_the_two_commands():
    alone = [block.strip() for language, block in BLOCKS if language == "bash" and "venv" in block]
    install_and_fit, install_and_test = alone
    assert install_and_fit.endswith("-m m2svid fit --config configs/quickstart.yaml")
    assert install_and_test in (ROOT / ".ci" / "run").read_text().splitlines()


@pytest.mark.parametrize("words", MODULES, ids=" ".join)
def test_every_command_of_the_readme_is_understood(words, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(CONFIGS)
    module, *args = words[words.index("-m") + 1 :]
    if "--run" in args:  # as if it had been trained
        run = tmp_path / "runs" / args[args.index("--run") + 1]
        run.mkdir(parents=True)
        shutil.copy(CONFIGS / "e2e.yaml", run / "config.yaml")
    if module.startswith("data_prep."):
        command = importlib.import_module(module)
        kinds = [kind for kind in Dataset.__subclasses__() if kind.__module__ == module]
        main = partial(driver.main, *kinds) if kinds else command.main
        capture_parser(main, args).parse_args(args)
    elif args[0] in cli.TRAINER_VERBS:
        with pytest.raises(SystemExit) as stopped:
            TrainerCLI([*args, "--print_config"])
        assert stopped.value.code == 0, capsys.readouterr().err
    else:
        path = tuple(args[: 2 if args[0] in GROUPS else 1])
        args = args[len(path) :]
        verb = FUNCTIONS[path]
        capture_parser(cli.call, verb, args, "").parse_args(args)


@pytest.mark.parametrize("verb", VERBS)
def test_the_readme_names_every_verb(verb):
    rows = [row for row in README.splitlines() if row.startswith("| `")]
    assert any(re.search(rf"`{verb}[` ]", row) for row in rows)
    for name in GROUPS.get(verb, ()):
        assert any(re.search(rf"`{verb} .*\b{name}`", row) for row in rows)


def test_what_the_readme_links_to_is_there():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_what_the_readme_imports_is_there():
    for language, block in BLOCKS:
        if language == "python":
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom):
                    module = importlib.import_module(node.module)
                    assert all(hasattr(module, name.name) for name in node.names)
