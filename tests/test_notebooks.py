"""Notebooks run from the first cell to the last, on the tiny run."""

import json
import shutil

import pytest
import torch
import yaml
from PIL.Image import Image

from tests.tiny_run import ROOT, RUN, TINY

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SIZES = {"frames=8, fps=None, size=96": "frames=4, fps=None, size=48"}  # quickstart.yaml's -> tiny.yaml's


def cells(notebook):
    return [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_stored_without_outputs(notebook):
    for cell in cells(notebook):
        assert cell["outputs"] == [] and cell["execution_count"] is None


def test_qualitative_shows_every_clip(fitted, tmp_path, monkeypatch, capsys):
    for part in (RUN, "data"):
        shutil.copytree(fitted.folder / part, tmp_path / part)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    shown = []
    names = {"display": shown.append}  # the kernel's
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for number, cell in enumerate(cells(ROOT / "notebooks" / "qualitative.ipynb")):
        source = "".join(cell["source"])
        for quickstart, tiny in SIZES.items():
            source = source.replace(quickstart, tiny)
        exec(compile(source, f"cell {number}", "exec"), names)
    clips = yaml.safe_load(TINY.read_text())["data"]["procedural"]["val"]
    assert len(shown) == 4 * clips and all(isinstance(picture, Image) for picture in shown)
    assert shown[0].size == (5 * 50 - 2, 4 * 50 - 2)  # five views of four frames
    table = capsys.readouterr().out.splitlines()[-2 * clips :]
    assert [line.split()[0] for line in table] == ["filled"] * clips + ["generated"] * clips


def test_the_size_in_the_notebook_is_that_of_the_quickstart():
    evaluated = yaml.safe_load((ROOT / "configs" / "quickstart.yaml").read_text())["data"]["eval_clip"]
    expected = f"frames={evaluated['frames']}, fps={evaluated['fps']}, size={evaluated['size']}"
    assert list(SIZES) == [expected]
    assert expected in "".join(cells(ROOT / "notebooks" / "qualitative.ipynb")[0]["source"])
