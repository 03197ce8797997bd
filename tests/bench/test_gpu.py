"""The measurements of a card, tried out on the CPU; the run's ways; tables in Markdown."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest
import torch

from m2svid.bench.gpu import refining
from m2svid.bench.gpu import run as bench
from m2svid.bench.gpu.cases import Case, cases
from m2svid.bench.gpu.counting import Counter
from m2svid.bench.gpu.published import run_published
from m2svid.bench.gpu.refining import prepare
from m2svid.bench.gpu.report import Report
from m2svid.bench.gpu.setting import Setting, calculating_in
from m2svid.bench.gpu.tables import BEGIN, END, merge
from m2svid.errors import UserError
from m2svid.model.speed import lay_channels_last

CPU = torch.device("cpu")
OPTIONS = {"device": "cpu", "small": True}


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Report:
    """Of real measurements of small networks; loaders have a bench of their own."""
    path = tmp_path_factory.mktemp("gpu") / "report.json"
    only = "agreement,refine 2x64x64 float32,refine 2x64x128,train,film"
    left = bench.run(path, only=only, **OPTIONS)
    assert set(left["outcomes"].values()) == {"measured"} and left["left"] == []
    return Report.read(path)


def test_operations_and_traffic():
    a, b = torch.ones(3, 4), torch.ones(4, 5)
    with Counter() as counter:
        (a @ b).view(5, 3) + 1
    assert counter.tflop * 1e12 == pytest.approx(2 * 3 * 4 * 5)
    assert counter.gb * 1e9 == pytest.approx(2 * 15 * 4)  # the sum alone: 15 numbers read, 15 written


def test_clip_operations_of_a_measurement(report):
    """By hand: one layer of 1280 channels on 2 frames of 257 tokens."""
    case = report.cases["refine 2x64x64 float32"]
    layer = 257 * (4 * 1280**2 + 2 * 1280 * 32) + 2 * 257**2 * 1280
    expected = 2 * 2 * (layer + 256 * 3 * 14**2 * 1280 + 1280 * 32)
    assert case["stages"]["clip"]["tflop"] * 1e12 == pytest.approx(expected, rel=1e-3)
    rates = report.cases["limits"]
    assert case["matrix_share"] == pytest.approx(case["tflop"] / rates["float32"] / case["seconds"])
    assert case["tflop"] == pytest.approx(sum(stage["tflop"] for stage in case["stages"].values()))
    parts = sum(stage["seconds"] for stage in case["stages"].values()) + case["rest_seconds"]
    assert parts == pytest.approx(case["seconds"])
    assert case["least"] <= case["seconds"] <= case["most"] and case["peak_gb"] > 0


def test_tiles_cost_more(report):
    """Two tiles of 64 px for a frame of 128×192."""
    tiles = report.cases["refine 2x64x128 float32 tiles-64"]
    assert "tiles of 64 px" in tiles["plan"]
    clip = report.cases["refine 2x64x64 float32"]["stages"]["clip"]
    assert tiles["stages"]["clip"]["tflop"] == pytest.approx(3 * clip["tflop"], rel=1e-3)


def test_holes_need_less_of_the_model(report):
    """The hole of 10 % of the width by half of the height is decoded with what surrounds it."""
    part = report.cases["refine 2x64x128 float32 holes"]["stages"]
    clip = report.cases["refine 2x64x64 float32"]["stages"]
    assert part["decode"]["tflop"] > 0 and part["decode"]["seconds"] > 0
    assert part["unet"]["tflop"] > 1.5 * clip["unet"]["tflop"]  # twice as wide, and whole


def test_variants(monkeypatch):
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 2, 3))
    lay_channels_last(network)
    assert not network[0].weight.is_contiguous()
    prepare(network, "contiguous")
    assert network[0].weight.is_contiguous()
    compiled = []
    monkeypatch.setattr(refining, "compile_regions", compiled.append)
    for variant in ("eager", "holes", "compiled"):
        prepare(network, variant)
    assert compiled == [network]


def test_training_and_film(report):
    step, film = report.cases["train 2x64x64"], report.cases["film"]
    forward = report.cases["refine 2x64x64 float32"]
    assert step["tflop"] > 2 * sum(forward["stages"][name]["tflop"] for name in ("unet", "decode"))
    assert film["frames_per_s"] == pytest.approx(3 / film["seconds"])


def test_agreement(report):
    case = report.cases["agreement"]
    assert case["agrees"] and case["errors"]["float32"] <= 1e-6 < case["errors"]["bfloat16"]


@pytest.fixture
def made(monkeypatch):
    """Measurements whose calls are recorded; the second is out of memory, the third a mistake of ours."""
    calls = []

    def case(name: str, error: BaseException | None = None, seconds: float = 1) -> Case:
        def measure(setting):
            calls.append(name)
            if error is not None:
                raise error
            return {"seconds": 2.0}

        return Case(name, measure, seconds)

    memory = torch.OutOfMemoryError("Tried to allocate 80 GiB. The rest of the message")
    made = [case("a"), case("b", memory), case("c", ValueError("wrong")), case("d", seconds=1e4)]
    made.append(case("e", KeyboardInterrupt()))
    monkeypatch.setattr(bench, "cases", lambda setting: made)
    return calls


def test_a_run_is_continued(made, tmp_path):
    path = tmp_path / "report.json"
    with pytest.raises(KeyboardInterrupt):
        bench.run(path, **OPTIONS)
    assert made == ["a", "b", "c", "e"]  # d takes too long
    kept = json.loads(path.read_text())["cases"]
    outcomes = {name: kept[name]["outcome"] for name in kept}
    assert outcomes == {"limits": "measured", "a": "measured", "b": "out of memory", "c": "failed"}
    assert kept["b"]["reason"] == "Tried to allocate 80 GiB"
    made.clear()
    left = bench.run(path, only="a,b,c,d", **OPTIONS)
    assert made == ["c"] and left["left"] == ["d"]
    bench.run(path, only="d", minutes=1e3, **OPTIONS)
    assert made == ["c", "d"]


def test_another_machines_report_is_refused(made, tmp_path):
    path = tmp_path / "report.json"
    bench.run(path, only="a", **OPTIONS)
    report = Report.read(path)
    report.head["device"] = "H100"
    report.add("a", {"outcome": "measured"})
    with pytest.raises(UserError, match=r"report.json was measured with another device: give another -o"):
        bench.run(path, only="a", **OPTIONS)
    path.write_text("[]")
    with pytest.raises(UserError, match="is no report"):
        bench.run(path, **OPTIONS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cpu"}, "there is no GPU: give --small"),
        ({"device": "tpu", "small": True}, "--device tpu can't be used"),
        ({**OPTIONS, "only": "bake"}, "--only bake is the beginning of no measurement; there are: agreement"),
        ({**OPTIONS, "published": "no"}, "--published no is no checkout of the published code"),
    ],
)
def test_mistakes(options, message, tmp_path):
    if "published" in options:
        options = options | {"published": type(tmp_path)(options["published"])}
    with pytest.raises(UserError, match=message):
        bench.run(tmp_path / "report.json", **options)
    assert not (tmp_path / "report.json").exists()


def test_a_gpu_has_more_measurements():
    """Names only: the cases of a card at full size."""
    names = [case.name for case in cases(Setting(torch.device("cuda"), published=CPU))]
    assert len(names) == len(set(names))
    for size in ("16x512x512", "25x512x512", "16x576x1024", "25x1088x1920"):
        assert any(name.startswith(f"refine {size} bfloat16") for name in names)
    for numbers in ("float32", "tf32", "float16", "bfloat16 compiled"):
        assert f"refine 16x512x512 {numbers}" in names
    assert {"vram 8G", "vram 12G", "vram 16G", "vram 24G", "published 16x512x512"} <= {*names}
    assert sum(name.startswith("train ") for name in names) == 3


def test_tf32_is_switched_for_a_while():
    def switches():
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before = switches()
    with calculating_in("tf32"):
        assert switches() == (True, True)
    with calculating_in("float32"):
        assert switches() == (False, False)
    assert switches() == before


def test_published_code_that_is_not_there(tmp_path):
    job = tmp_path / "job.json"
    job.write_text(json.dumps({"checkout": str(tmp_path)}))
    with pytest.raises(
        UserError, match=r"can't be run by .*python.* \(ModuleNotFoundError: No module named 'sgm'\)"
    ):
        run_published(tmp_path, sys.executable, job)
    with pytest.raises(UserError, match=r"can't be run by nothing .*No such file"):
        run_published(tmp_path, "nothing", job)


def test_merge(report, tmp_path):
    into = tmp_path / "BENCHMARKS.md"
    into.write_text(f"# Title\n\n{BEGIN}\n\n### Old card\n\n| a |\n\n{END}\n\nEnd.\n")
    with pytest.raises(UserError, match="measured with --small"):
        merge(report.path, into)
    full = replace(report, path=tmp_path / "full.json", head=report.head | {"networks": "full size"})
    full.add("vram 8G", {"outcome": "out of memory", "reason": "Tried to allocate 9 GiB"})
    seconds = {"outcome": "measured", "seconds": 2, "least": 1.5, "most": 3, "peak_gb": 7.51}
    memory = {"reserved_gb": 7.9, "taken_gb": 8.4, "plan": "windows of 8 frames"}
    full.add("vram 12G", seconds | memory)
    sides = {"ours": seconds, "published": seconds | {"seconds": 4}}
    full.add("published 16x512x512", seconds | sides | {"times_faster": 2, "difference": 0.0123})
    assert not merge(full.path, into)["replaced"]
    text = into.read_text()
    assert text.startswith(f"# Title\n\n{BEGIN}\n\n### Old card\n\n| a |\n\n### CPU\n\n")
    assert text.endswith(f"\n\n{END}\n\nEnd.\n")
    measured = report.cases["refine 2x64x64 float32"]["seconds"]
    assert f"| 2x64x64 float32 | {measured:.3g} (" in text
    assert "| 12G | 2 | 7.5 | 7.9 | 8.4 | windows of 8 frames |" in text
    assert "| 16x512x512 | 2 (1.5–3) | 4 (1.5–3) | 2.00 | 7.5 | 7.5 | 1.2e-02 |" in text
    assert "| vram 8G | out of memory: Tried to allocate 9 GiB |" in text
    assert merge(full.path, into) == {"file": str(into), "card": "CPU", "replaced": True}
    assert into.read_text() == text
    into.write_text("# Title\n")
    with pytest.raises(UserError, match="must be a file with one line"):
        merge(full.path, into)
