"""Methods named in YAML, measured in one `test` of a trained run."""

import hashlib
from pathlib import Path

import pytest

from m2svid.cli import main
from m2svid.evaluation.films import ViewFilm
from m2svid.evaluation.measure import measure
from m2svid.evaluation.results import Results
from m2svid.report.make import report
from tests.tiny_run import LAST, QUICKSTART, RUN, finish, start

OVERLAY = f"""
model:
  films: true
  methods:
    - class_path: m2svid.evaluation.methods.TrainedModel
      init_args: {{num_steps: 1, name: again}}
    - class_path: m2svid.evaluation.methods.Weights
      init_args: {{path: {LAST}, name: checkpoint}}
    - RoundTrip
    - LeftCopied
    - Truth
data:
  test: [{{name: procedural, shards: data/quickstart/val/*.tar}}]
"""


@pytest.fixture(scope="module")
def results(fitted, tmp_path_factory):
    overlay = tmp_path_factory.mktemp("overlay") / "methods.yaml"
    overlay.write_text(OVERLAY)
    for path in (fitted.folder / RUN).glob("test_*"):  # of other tests
        path.unlink()
    finish(start("test", "--run", "quickstart", "--config", str(overlay), cwd=fitted.folder))
    found = [Results.read(path) for path in (fitted.folder / RUN).glob("test_*.json")]
    return {results.method: results for results in found}


def test_missing_weights_end_fit_before_it_begins(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    missing = "[{class_path: Weights, init_args: {path: no.ckpt, name: old}}]"
    with pytest.raises(SystemExit) as ended:
        main(["fit", *QUICKSTART, "--model.methods", missing])
    assert ended.value.code == 2
    assert "m2svid: method old: no.ckpt does not exist" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())  # not even data have been made


def test_all_rows_stand_beside_each_other(results):
    means = {name: row.means["psnr"] for name, row in results.items()}
    assert set(means) == {"model", "again", "checkpoint", "vae", "left", "truth"}
    assert means["again"] == pytest.approx(means["model"], abs=1e-4)
    assert means["checkpoint"] == pytest.approx(means["model"], abs=1e-4)  # the run's last weights
    assert means["truth"] == float("inf")
    assert means["vae"] > 100  # space to depth loses nothing
    assert means["left"] < means["truth"]


def test_the_results_name_methods_and_protocol(results, fitted):
    assert {row.protocol["name"] for row in results.values()} == {"paper"}
    described = results["checkpoint"].protocol["method"]
    assert described["steps"] == 1 and described["weights"] == str(LAST)
    assert results["checkpoint"].weights == {
        str(LAST): hashlib.sha256((fitted.folder / LAST).read_bytes()).hexdigest()
    }


def test_the_films_of_a_run_are_what_was_measured(results, fitted, tmp_path, monkeypatch):
    """`measure` on the films finds what `test` found, but for rounding to 8 bits, and `report` shows them."""
    monkeypatch.chdir(fitted.folder)
    films = RUN / "films" / "procedural"
    options = {"metrics": ["psnr"], "disparity": "none", "output": tmp_path / "measured.json"}
    means = measure(films / "model", films / "_truth", **options)
    assert means["psnr"] == pytest.approx(results["model"].means["psnr"], abs=0.05)
    first = results["model"].videos[0].films
    assert set(first) == {"prediction", "truth", "left"}
    assert ViewFilm(Path(first["left"]["path"]), "single", "left").facts() == first["left"]
    report([str(RUN)], output=tmp_path / "report", clips=2, reference="left")
    html = (tmp_path / "report" / "index.html").read_text()
    assert html.count("data:video/mp4") == 2 * (2 + 2 * len(results))
