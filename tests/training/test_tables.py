"""The verb `table`: what it trains, resumes and shows."""

import subprocess
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from m2svid.errors import UserError
from m2svid.evaluation.methods import Weights
from m2svid.evaluation.results import Results, VideoResult
from m2svid.training import tables
from tests.tiny_run import CONFIGS, LAST, TINY, finish, start


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """Verbs that a table starts; each does at once what the real one would leave behind."""
    monkeypatch.chdir(tmp_path)
    made = []

    def run(command, env, check):
        verb, words = command[3], command[4:]
        name = words[words.index("--run") + 1]
        files = [Path(value).stem for word, value in pairwise(words) if word == "--config"]
        made.append((verb, name, files))
        folder = Path("runs") / name
        if verb == "fit":
            (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
            torch.save({"global_step": 7}, folder / "checkpoints" / "last.ckpt")
            (folder / "config.yaml").write_text("trainer: {max_steps: 7}")
        else:
            (config,) = [value for value in words if value.endswith("methods.yaml")]
            methods = yaml.safe_load(Path(config).read_text())["model"]["methods"]
            seed = int(words[words.index("--seed_everything") + 1])
            names = ["model", *(method["init_args"]["name"] for method in methods)]
            for number, row in enumerate(names):
                value = 20.0 + number + seed
                videos = [VideoResult("a", {"psnr": value})]
                means = {"psnr": value, "psnr_inside": value + 10, "psnr_masked_inside": value - 10}
                results = Results(row, "made", videos, means, {"name": "paper"})
                results.write(folder / f"test_step7_made_{row}.json")
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    return made


def lines(output):
    return [line for line in output.splitlines() if line.startswith("|")][2:]


def test_rows_share_weights_and_are_measured_together(calls, capsys):
    tables.table(5, small=True, configs=CONFIGS)
    assert calls == [
        ("fit", "quickstart+table5_a", ["quickstart", "table5_a"]),
        ("fit", "quickstart+table5_c", ["quickstart", "table5_c"]),
        ("fit", "quickstart+table5_d", ["quickstart", "table5_d"]),
        ("test", "quickstart+table5+seed0", ["quickstart", "methods"]),
    ]
    methods = yaml.safe_load(Path("runs/tables/quickstart+table5/seed0/methods.yaml").read_text())
    given = [method["init_args"] for method in methods["model"]["methods"]]
    assert [(method["path"], method["num_steps"]) for method in given] == [
        ("runs/quickstart+table5_a/checkpoints/last.ckpt", 25),
        ("runs/quickstart+table5_a/checkpoints/last.ckpt", 1),
        ("runs/quickstart+table5_c/checkpoints/last.ckpt", None),
        ("runs/quickstart+table5_d/checkpoints/last.ckpt", None),
    ]
    expected = [f"| table5_{row} | {value}.00 |" for row, value in zip("abcd", range(21, 25), strict=True)]
    assert lines(capsys.readouterr().out) == expected


def test_what_is_done_is_not_done_again(calls, capsys):
    tables.table(10, small=True, configs=CONFIGS)
    first = capsys.readouterr().out
    done = len(calls)
    tables.table(10, small=True, configs=CONFIGS)
    assert len(calls) == done and capsys.readouterr().out == first
    torch.save({"global_step": 3}, "runs/quickstart+table5_d/checkpoints/last.ckpt")  # stopped
    tables.table(10, small=True, configs=CONFIGS)
    assert [call[:2] for call in calls[done:]] == [
        ("fit", "quickstart+table5_d"),
        ("test", "quickstart+table10+seed0"),
    ]


def test_films_are_kept_when_asked_for(calls):
    tables.table(10, small=True, configs=CONFIGS)
    record = Path("runs/tables/quickstart+table10/seed0/methods.yaml")
    assert yaml.safe_load(record.read_text())["model"]["films"] is False
    calls.clear()
    tables.table(10, small=True, films=True, configs=CONFIGS)
    assert [call[0] for call in calls] == ["test"]  # measured again, for the films
    calls.clear()
    tables.table(10, small=True, configs=CONFIGS)
    assert not calls and yaml.safe_load(record.read_text())["model"]["films"] is True


def test_seeds_are_runs_of_their_own_and_are_averaged(calls, capsys):
    tables.table(7, small=True, seeds=[0, 2], configs=CONFIGS)
    fits = [name for verb, name, _ in calls if verb == "fit"]
    assert fits[:2] == ["quickstart+table4_diffusion_warped_mask", "quickstart+table5_a"]
    assert fits[5] == "quickstart+table4_diffusion_warped_mask+seed2"
    assert len(set(fits)) == len(fits) == 10
    # 21 and 23: mean 22, standard deviation √2
    row = "| table4_diffusion_warped_mask | 22.00 ± 1.41 | 32.00 ± 1.41 |"
    assert lines(capsys.readouterr().out)[0] == row


def test_masked_regions(calls, capsys):
    tables.table(8, small=True, regions="masked", configs=CONFIGS)
    assert lines(capsys.readouterr().out)[0] == "| table5_a | 21.00 | 11.00 |"


def test_tables_of_other_seeds_or_regions_stay(calls, capsys):
    shown = {}
    for seeds, regions in (([0], "painted"), ([1], "painted"), ([1, 0], "painted"), ([0], "masked")):
        tables.table(8, small=True, seeds=seeds, regions=regions, configs=CONFIGS)
        shown[tuple(seeds), regions] = capsys.readouterr().out
    assert len(set(shown.values())) == 4
    written = [path.read_text() for path in Path("runs/tables/quickstart+table8").glob("*.md")]
    assert sorted(written) == sorted(text.removesuffix("\n") for text in shown.values())


def test_another_configuration_has_runs_and_a_table_of_its_own(calls, tmp_path):
    overlay = tmp_path / "short.yaml"
    overlay.write_text("data: {eval_clip: {frames: 2}}")
    tables.table(5, small=True, configs=CONFIGS)
    before = {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()}
    calls.clear()
    tables.table(5, small=True, overlays=[overlay], configs=CONFIGS)
    assert calls[0] == ("fit", "quickstart+short+table5_a", ["quickstart", "short", "table5_a"])
    assert calls[-1] == ("test", "quickstart+short+table5+seed0", ["quickstart", "short", "methods"])
    assert all(path.read_bytes() == content for path, content in before.items())


def test_results_of_other_weights_are_not_replaced(calls, monkeypatch):
    monkeypatch.setattr(Weights, "check", lambda self: None)  # of the file that is none
    tables.table(5, small=True, seeds=[1], configs=CONFIGS)
    calls.clear()
    with pytest.raises(
        UserError, match=r"table5/seed1/methods\.yaml names other weights .*: move .*seed1 away or delete"
    ):
        tables.table(5, small=True, seeds=[0, 1], weights={"table5_c": "mine.pt"}, configs=CONFIGS)
    assert not calls


def test_published_methods_and_given_weights(calls, monkeypatch):
    monkeypatch.setattr(Weights, "check", lambda self: None)  # of the file that is none
    tables.table(1, small=True, weights={"table1_m2svid": "published.pt"}, configs=CONFIGS)
    assert [call[0] for call in calls] == ["test"]
    content = yaml.safe_load(Path("runs/tables/quickstart+table1/seed0/methods.yaml").read_text())
    svg, crafter, one_step, ours = content["model"]["methods"]
    assert svg["class_path"] == "m2svid.evaluation.methods.SVG"
    assert [m["init_args"].get("num_steps") for m in (crafter, one_step, ours)] == [25, 1, None]
    assert ours["init_args"]["path"] == "published.pt"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"number": 3}, "there is no table 3 to make: choose from 1, 4, 5, 6, 7, 8, 10"),
        ({"number": 4, "configs": Path("none")}, r"there is no none/e2e\.yaml: start in the repository"),
        ({"number": 5, "weights": {"table4_x": "a"}}, "--weights names table4_x, but the rows are table5_a"),
    ],
)
def test_mistakes_are_refused_before_any_work(calls, options, message):
    with pytest.raises(UserError, match=message):
        tables.table(**{"configs": CONFIGS} | options)
    assert not calls


def test_weights_are_opened_before_others_are_trained(calls, tmp_path):
    given = {"table5_b": str(tmp_path / "published.pt")}
    with pytest.raises(UserError, match=r"method table5_b: .*published\.pt does not exist"):
        tables.table(5, small=True, weights=given, configs=CONFIGS)
    assert not calls


def test_a_run_that_fails_ends_the_table(calls, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: SimpleNamespace(returncode=2))
    with pytest.raises(UserError, match=r"`fit .*table5_a\.yaml.* failed, as it says above"):
        tables.table(5, small=True, configs=CONFIGS)


def test_small_published_methods_run(fitted, tmp_path):
    """Table 1 in small, with a trained run in the place of M2SVid's."""
    given = f'{{"table1_m2svid": "{fitted.folder / LAST}"}}'
    short = tmp_path / "short.yaml"
    short.write_text("data: {eval_clip: {frames: 2, size: 32}}")
    words = ["--small", "--weights", given, "--configs", str(CONFIGS), "--overlays", f"[{TINY}, {short}]"]
    output = finish(start("table", "1", *words, cwd=fitted.folder))
    rows = lines(output)
    assert [row.split(" | ")[0] for row in rows] == [f"| {row}" for row in tables.MAIN]
    assert all(float(row.split("|")[2]) > 0 for row in rows)
