"""The nodes for ComfyUI against what `convert` makes of the same pictures, and in a real ComfyUI."""

import asyncio
import json
import os
import subprocess
import sys
import time
import tomllib
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.io import read_image, write_png

import m2svid
from m2svid.convert import verbs as stages
from m2svid.errors import UserError
from m2svid.video.read import Video
from tests.comfyui.stub import load_nodes
from tests.convert.films import make_depth, make_film, picture, read_rgb
from tests.tiny_run import ROOT

PACK = ROOT / "comfyui"
FRAMES = 12


@pytest.fixture
def pack(monkeypatch):
    return load_nodes(monkeypatch)


@pytest.fixture
def nodes(pack):
    """Node id -> a function that runs it, and its schema."""
    module, execution = pack
    extension = asyncio.run(module.comfy_entrypoint())
    classes = {node.define_schema().node_id: node for node in asyncio.run(extension.get_node_list())}

    def run(name, **inputs):
        with torch.inference_mode():  # as ComfyUI does
            return classes[f"M2SVid{name}"].execute(**inputs).args

    run.schemas = {name: node.define_schema() for name, node in classes.items()}
    run.execution = execution
    return run


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Without loss, and with all colors."""
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    return make_film(path, FRAMES, codec="ffv1", pix_fmt="yuv444p")


@pytest.fixture(scope="module")
def depth(film):
    return str(make_depth(film.with_name("depth.npz"), FRAMES))


def images_of(film):
    return torch.from_numpy(np.stack([frame.rgb() for frame in Video(film).frames()]) / np.float32(255))


def test_one_picture_is_that_of_convert(nodes, tmp_path):
    """PNG in, PNG out: nothing is encoded in between."""
    image, depth = tmp_path / "film.png", make_depth(tmp_path / "depth.npz", 1)
    pixels = torch.from_numpy(picture(0, 64, 48))
    write_png(pixels.permute(2, 0, 1).contiguous(), str(image))
    options = {"refine": "none", "depth": str(depth), "max_disparity": 0.1, "progress": "quiet"}
    m2svid.convert(image, tmp_path / "out.png", layout="sbs", convergence=0.5, **options)
    expected = read_image(str(tmp_path / "out.png")).permute(1, 2, 0)
    left = pixels[None].float() / 255
    (maps,) = nodes("Depth", images=left, depth=str(depth), device="cpu")
    warped, hole = nodes("Warp", images=left, depth=maps, max_disparity=0.1, for_model=False)
    (right,) = nodes(
        "Refine", images=left, warped=warped, hole=hole, fps=24.0, blend="full", match_color=False
    )
    (made,) = nodes("Layout", left=left, right=right, layout="sbs", shift=0.05)
    assert made.shape == (1, 48, 128, 3)
    assert (made[0] * 255 - expected).abs().max() < 1  # convert rounds the warped view, too
    assert (right - left).abs().max() > 0.1


def test_a_clip_is_that_of_the_stages(nodes, folder, film, depth, tmp_path):
    """Several windows of a model, against the verbs `warp` and `refine`."""
    run = {"progress": "quiet", "cuts": False, "max_disparity": 0.1}
    stages.warp(film, tmp_path / "warp", depth=depth, **run)
    files = [tmp_path / "warp" / name for name in ("warped.mkv", "hole.mkv")]
    options = {"weights": str(folder), "window": 6, "overlap": 2, "convergence": 0, "layout": "right"}
    stages.refine(film, *files, tmp_path / "out.mkv", codec="ffv1", **options, **run)
    left, warped, hole = map(images_of, (film, *files))

    (maps,) = nodes("Depth", images=left, depth=depth, device="cpu")
    made, made_hole = nodes("Warp", images=left, depth=maps, max_disparity=0.1, for_model=True)
    assert (made - warped).abs().max() < 1.01 / 255  # the film's pixels are rounded
    assert torch.equal(made_hole, hole[..., 0]) and 0.02 < made_hole.mean() < 0.5

    ((model, device),) = nodes("LoadModel", weights=str(folder), device="cpu", dtype="float32")
    model.usage = replace(model.usage, window=6, overlap=2)
    options = {"fps": 24.0, "blend": "full", "match_color": False, "model": (model, device)}
    (right,) = nodes("Refine", images=left, warped=warped, hole=hole[..., 0], **options)
    difference = np.abs(right.numpy() * 255 - read_rgb(tmp_path / "out.mkv"))
    assert difference[:4].max() < 3  # stored as YUV of 8 bits
    assert difference.mean() < 1  # known frames are rounded in a film
    assert nodes.execution.shown[-1] == (FRAMES, FRAMES, "7")


def test_a_film_in_one_node(nodes, film, depth, tmp_path):
    inputs = {"film": str(film), "output": str(tmp_path / "out.mp4"), "weights": "", "depth": depth}
    inputs |= {"layout": "tb", "max_disparity": 0.05, "convergence": 0.5, "start": "6f", "end": ""}
    video, path = nodes("ConvertFilm", preset="none", restart=False, **inputs)
    assert (video, path) == (("video", path), str(tmp_path / "out.mp4"))
    assert read_rgb(path).shape == (FRAMES - 6, 96, 64, 3)
    assert nodes.execution.shown[-1] == (FRAMES - 6, FRAMES - 6, "7")
    with pytest.raises(UserError, match="exists"):
        nodes("ConvertFilm", preset="none", restart=False, **{**inputs, "layout": "sbs"})
    nodes("ConvertFilm", preset="tv", restart=True, **inputs)
    assert read_rgb(path).shape == (FRAMES - 6, 48, 64, 3)  # half of the width for each eye


def test_an_interrupted_film_continues(nodes, film, depth, tmp_path):
    inputs = {"film": str(film), "output": str(tmp_path / "out.mp4"), "weights": "", "depth": depth}
    inputs |= {"layout": "sbs", "max_disparity": 0.05, "convergence": 0.5, "start": "", "end": ""}
    nodes.execution.interrupted = True
    with pytest.raises(InterruptedError):
        nodes("ConvertFilm", preset="none", restart=False, **inputs)
    assert not (tmp_path / "out.mp4").exists()
    nodes.execution.interrupted = False
    nodes("ConvertFilm", preset="none", restart=False, **inputs)
    assert len(read_rgb(tmp_path / "out.mp4")) == FRAMES


def test_layouts(nodes):
    left, right = torch.zeros(2, 4, 8, 3), torch.ones(2, 4, 8, 3)
    right[:, :, 0] = 0.5

    def made(name, shift=0.0):
        return nodes("Layout", left=left, right=right, layout=name, shift=shift)[0][1, :, :, 0]

    assert made("sbs").shape == (4, 16) and made("sbs")[0, 8:].tolist() == [0.5] + [1] * 7
    assert made("sbs-half")[2].tolist() == [0] * 4 + [0.75] + [1] * 3
    assert made("cross")[0].tolist() == [0.5] + [1] * 7 + [0] * 8
    assert made("tb").shape == (8, 8) and made("tb-half").shape == (4, 8)
    assert made("tb")[:, 3].tolist() == [0] * 4 + [1] * 4
    assert made("sbs", 0.25)[0, 8:].tolist() == [0, 0, 0.5, 1, 1, 1, 1, 1]
    cyan = nodes("Layout", left=left, right=right, layout="anaglyph", shift=0.0)[0][0, 0, 4]
    assert cyan[0] < 0.1 and cyan[1] > 0.9 and cyan[2] > 0.9


def test_mistakes_are_named(nodes):
    images = torch.zeros(2, 8, 8, 3)
    with pytest.raises(UserError, match="depth has 3 images, but images has 2"):
        nodes("Warp", images=images, depth=torch.zeros(3, 8, 8, 3), max_disparity=0.1, for_model=True)
    with pytest.raises(UserError, match="they must agree"):
        nodes("Layout", left=images, right=images[:1], layout="sbs", shift=0.0)
    with pytest.raises(UserError, match="nowhere"):
        nodes("LoadModel", weights="/nowhere/model", device="cpu", dtype="auto")


@pytest.mark.parametrize("path", sorted(PACK.glob("example_workflows/*.json")), ids=lambda path: path.stem)
def test_example_workflows_fit_the_nodes(nodes, path):
    """Sockets and widgets of our nodes are those that the workflow was saved with."""
    workflow = json.loads(path.read_text())
    by_id = {node["id"]: node for node in workflow["nodes"]}
    ours = [node for node in by_id.values() if node["type"].startswith("M2SVid")]
    assert ours
    for node in ours:
        schema = nodes.schemas[node["type"]]
        widgets = [each for each in schema.inputs if each.widget]
        assert len(node["widgets_values"]) == len(widgets)
        for value, widget in zip(node["widgets_values"], widgets, strict=True):
            assert widget.type != "COMBO" or value in widget.options
        assert [(each["name"], each["type"]) for each in node["outputs"]] == [
            (each.display_name, each.type) for each in schema.outputs
        ]
        sockets = {each.id: each.type for each in schema.inputs}
        assert all(sockets[each["name"]] == each["type"] for each in node["inputs"])
    for _, origin, slot, target, place, kind in workflow["links"]:
        assert by_id[origin]["outputs"][slot]["type"] == kind == by_id[target]["inputs"][place]["type"]


def test_the_packs_version_is_the_projects():
    pack = tomllib.loads((PACK / "pyproject.toml").read_text())
    assert f"\nversion = {pack['project']['version']}\n" in (ROOT / "setup.cfg").read_text()
    assert {"PublisherId", "DisplayName"} <= pack["tool"]["comfy"].keys()


@pytest.mark.slow
@pytest.mark.skipif("COMFYUI" not in os.environ, reason="COMFYUI names no folder of a ComfyUI")
def test_in_a_real_comfyui(film, depth, tmp_path):
    """COMFYUI: its folder; COMFYUI_PYTHON: the interpreter of its environment, if that is another one."""
    comfyui, port = Path(os.environ["COMFYUI"]), 8917
    custom = tmp_path / "custom"
    custom.mkdir()
    (custom / "m2svid").symlink_to(PACK)
    paths = tmp_path / "paths.yaml"
    paths.write_text(f"m2svid:\n  custom_nodes: {custom}\n")
    python = os.environ.get("COMFYUI_PYTHON", sys.executable)
    words = [python, "main.py", "--cpu", "--port", str(port), "--disable-auto-launch"]
    words += ["--extra-model-paths-config", str(paths), "--output-directory", str(tmp_path)]
    server = subprocess.Popen(words, cwd=comfyui, env={**os.environ, "PYTHONPATH": str(ROOT)})

    def ask(path, **body):
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(f"http://127.0.0.1:{port}/{path}", data)
        return json.load(urllib.request.urlopen(request, timeout=60))

    def when(question):
        until = time.monotonic() + 180
        while time.monotonic() < until:
            try:
                if found := question():
                    return found
            except OSError:
                assert server.poll() is None, "ComfyUI has ended"
            time.sleep(0.5)
        raise TimeoutError(question)

    try:
        known = when(lambda: ask("object_info"))
        assert {name for name in known if name.startswith("M2SVid")} == {
            f"M2SVid{name}" for name in ("LoadModel", "Depth", "Warp", "Refine", "Layout", "ConvertFilm")
        }
        inputs = {"film": str(film), "output": str(tmp_path / "out.mp4"), "weights": "", "depth": depth}
        inputs |= {"layout": "sbs", "max_disparity": 0.05, "convergence": 0.5, "start": "", "end": ""}
        inputs |= {"preset": "none", "restart": False}
        graph = {"1": {"class_type": "M2SVidConvertFilm", "inputs": inputs}}
        number = ask("prompt", prompt=graph)["prompt_id"]
        ended = when(lambda: ask(f"history/{number}").get(number))
        assert ended["status"]["status_str"] == "success", ended
    finally:
        server.terminate()
        server.wait()
    assert len(read_rgb(tmp_path / "out.mp4")) == FRAMES
