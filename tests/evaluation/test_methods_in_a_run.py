"""Methods named in YAML, measured in one `test` of a trained run."""

import json

import pytest

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
    (file,) = (fitted.folder / RUN).glob("test_*.json")
    return json.loads(file.read_text())


def test_all_rows_stand_beside_each_other(results):
    rows = results["datasets"]["procedural"]
    assert list(rows) == ["model", "again", "checkpoint", "vae", "left", "truth"]
    means = {name: row["means"]["psnr"] for name, row in rows.items()}
    assert means["again"] == pytest.approx(means["model"], abs=1e-4)
    assert means["checkpoint"] == pytest.approx(means["model"], abs=1e-4)  # the run's last weights
    assert means["truth"] == float("inf")
    assert means["vae"] > 100  # space to depth loses nothing
    assert means["left"] < means["truth"]


def test_the_results_name_methods_and_protocol(results):
    assert results["protocol"]["name"] == "paper"
    assert results["methods"]["checkpoint"]["steps"] == 1
    assert results["methods"]["left"]["class"] == "m2svid.evaluation.methods.bounds.LeftCopied"
