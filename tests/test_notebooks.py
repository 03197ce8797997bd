"""Notebooks run from the first cell to the last: on the tiny run, and on a clip that is generated."""

import json
import os
import re
import shutil

import pytest
import torch
from IPython.display import Image as Film
from PIL.Image import Image

from tests.tiny_run import ROOT, RUN

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def cells(notebook):
    return [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Run a notebook in its folder, with some text replaced: what it displays, and its variables."""
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def run(name, replaced):
        shown = []
        names = {"display": shown.append}  # the kernel's
        for number, cell in enumerate(cells(ROOT / "notebooks" / name)):
            source = "".join(cell["source"])
            for text, other in replaced.items():
                source = source.replace(text, other)
            exec(compile(source, f"cell {number}", "exec"), names)
        return shown, names

    yield run
    os.chdir(tmp_path)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_stored_without_outputs(notebook):
    for cell in cells(notebook):
        assert cell["outputs"] == [] and cell["execution_count"] is None


def test_qualitative_shows_two_runs(fitted, tmp_path, execute, capsys):
    for name in (RUN.name, "other"):
        shutil.copytree(fitted.folder / RUN, tmp_path / "runs" / name)
    shutil.copytree(fitted.folder / "data", tmp_path / "data")
    shown, names = execute(
        "qualitative.ipynb", {'["quickstart"]': '["quickstart", "other"]', "count = 4": "count = 2"}
    )

    films = [picture for picture in shown if isinstance(picture, Film)]
    pictures = [picture for picture in shown if isinstance(picture, Image)]
    assert len(films) == 2 and all(film.data.startswith(b"GIF89a") for film in films)
    assert len(pictures) == 5 * 2 + 1 == len(shown) - len(films)  # five of each clip, and the attention
    assert pictures[0].size == (6 * 50 - 2, 4 * 50 - 2)  # six views of four frames of 48 px

    lines = capsys.readouterr().out.splitlines()
    shares = [re.fullmatch(r"(\w+): (\d+)% of the attention is on other frames", line) for line in lines]
    assert [(found[1], found[2] == "0") for found in shares if found] == [
        ("Disoccluded", False),
        ("Factorized", True),
    ]
    table = [line.split() for line in lines[-2:]]
    for key, *values in table:
        row = next(row for row in names["metrics"].per_video() if row["key"] == key)  # the last column's
        assert float(values[-3]) == pytest.approx(row["psnr_masked_inside"], abs=0.006)
        assert values[-3:] == values[-6:-3]  # both runs are one
    assert float(table[0][7]) <= float(table[1][7])  # the hardest holes of the first run come first


def test_the_walkthrough_shows_what_it_says(execute, capsys):
    shown, names = execute("walkthrough.ipynb", {"steps = 150": "steps = 8"})
    assert len(shown) == 4 and all(isinstance(picture, Image) for picture in shown)
    parts = {name: part.item() for name, part in names["loss_parts"].items()}
    output = capsys.readouterr().out
    assert f"total   {parts['latent'] + parts['l1']:.3f}" in output
    losses = [float(loss) for loss in re.findall(r"step +\d+: loss ([\d.]+)", output)]
    assert losses[-1] < 0.7 * losses[0]
    held = int((names["condition"].mask > 0).sum()) / names["condition"].mask.numel()
    assert f"{1 + held * 8:6.2f} × the pairs" in output  # 8 frames
