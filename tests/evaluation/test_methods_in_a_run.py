"""Methods named in YAML, measured in one `test` of a trained run."""

import hashlib

import pytest

from m2svid.evaluation.results import Results
from tests.tiny_run import LAST, RUN, finish, start

OVERLAY = f"""
model:
  methods:
    - class_path: m2svid.evaluation.methods.TrainedModel
      init_args: {{num_steps: 1, name: again}}
    - class_path: m2svid.evaluation.methods.Weights
      init_args: {{path: {LAST}, name: checkpoint}}
    - RoundTrip
    - LeftCopied
    - Truth
data:
  test: [{{name: procedural, shards: runs/quickstart/data/val/*.tar}}]
"""


@pytest.fixture(scope="module")
def results(fitted, tmp_path_factory):
    overlay = tmp_path_factory.mktemp("overlay") / "methods.yaml"
    overlay.write_text(OVERLAY)
    finish(start("test", "--run", "quickstart", "--config", str(overlay), cwd=fitted.folder))
    found = [Results.read(path) for path in (fitted.folder / RUN).glob("test_*.json")]
    return {results.method: results for results in found}


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
