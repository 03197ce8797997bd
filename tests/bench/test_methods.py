"""Calls and operations of the paper's methods against calculations by hand; the run at a size for tests."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from m2svid.bench import methods, networks
from m2svid.bench.methods import cost, count_calls, run
from m2svid.bench.networks import Watch, make_clip
from m2svid.errors import UserError


def test_svgs_calls_are_those_of_its_schedule():
    """8 views of 16 frames; 50 steps, the first 25 with all views and 6 rounds, the others with one and 2."""
    along_time = 25 * (8 + 3 * 8) + 25 + 24 * 2  # the last step has no rounds
    along_views = 25 * 3 * 16
    assert count_calls("svg") == {
        ("text_encoder", 2): 1,
        ("unet", 16): along_time,
        ("unet", 8): along_views,
        ("vae_encoder", 16): 8 + 25 * 8 + 25,
        ("vae_decoder", 16): 25 * 8 + 25 + 1,
    }


def test_stereocrafters_calls():
    """Guidance takes two passes a step; the decoder takes two frames, CLIP the first frame alone."""
    expected = {("image_encoder", 1): 1, ("vae_encoder", 16): 1, ("vae_decoder", 2): 8}
    assert count_calls("stereocrafter_25") == expected | {("unet", 16): 50}


def test_operations_of_full_size():
    """The image encoder's by hand: ViT-H/14 on 16 frames of 224×224, 257 tokens of 1280 channels."""
    row = cost("m2svid_factorized")
    layer = 257 * (4 * 1280**2 + 2 * 1280 * 5120) + 2 * 257**2 * 1280
    frame = 32 * layer + 256 * 3 * 14**2 * 1280 + 1280 * 1024
    assert row["image_encoder_tflop"] == pytest.approx(2 * 16 * frame / 1e12, abs=0.005)
    # shares of the whole that were counted apart from this code
    shares = {"vae_decoder": 0.44, "vae_encoder": 0.32, "unet": 0.18, "image_encoder": 0.05}
    assert {name: round(row[f"{name}_tflop"] / row["tflop"], 2) for name in shares} == shares
    assert row["tflop"] == pytest.approx(110, abs=0.5)


def test_a_call_of_each_kind_stands_for_all(monkeypatch):
    clock = iter([10.0, 12.5, 20.0, 21.0])
    monkeypatch.setattr(networks.time, "perf_counter", lambda: next(clock))
    asked = []
    owner = SimpleNamespace(encode=lambda video: asked.append(len(video)) or len(video))
    watch = Watch(SimpleNamespace(functions={"vae_encoder": (owner, "encode")}))
    watch.begin(once=True)
    assert [owner.encode(torch.zeros(count)) for count in (4, 4, 2, 4)] == [4, 4, 2, 4]
    assert asked == [4, 2]
    assert watch.calls == {("vae_encoder", 4): 3, ("vae_encoder", 2): 1}
    assert watch.left_out == 2 * 2.5
    watch.begin()
    owner.encode(torch.zeros(4)), owner.encode(torch.zeros(4))
    assert asked == [4, 2, 4, 4] and watch.left_out == 0


def test_finished_methods_are_kept(monkeypatch, tmp_path):
    """Both ways of timing, in this process; the second method is interrupted."""
    rows = {"m2svid": {"tflop": 112.0}, "stereocrafter_1": {"tflop": 56.0}}

    def counted(name):
        if name == "svg":
            raise KeyboardInterrupt
        return dict(rows[name])

    def here(function, *args):
        return function(*args), {"own_gb": 1.5}

    monkeypatch.setattr(methods, "cost", counted)
    monkeypatch.setattr(methods, "measured", here)
    file = tmp_path / "cost.json"
    names = ["m2svid", "stereocrafter_1", "svg"]
    size = {"frames": 2, "height": 64, "width": 64, "device": "cpu", "small": True}
    with pytest.raises(KeyboardInterrupt):
        run(names, output=file, **size)
    kept = json.loads(file.read_text())["methods"]
    assert list(kept) == names[:2]
    assert kept["stereocrafter_1"]["tflop_ratio"] == 0.5
    assert kept["stereocrafter_1"]["paper_ratio"] == pytest.approx(2.4 / 2.1, abs=1e-3)
    assert kept["stereocrafter_1"]["process_gb"] == 1.5
    row = run(["m2svid"], timing="whole", **size)["methods"]["m2svid"]
    assert row["seconds"] > 0 and row["seconds_ratio"] == 1


def test_the_clips_hole_is_as_large_as_it_says():
    assert make_clip(2, 256, 256).hole.float().mean().item() == pytest.approx(networks.HOLES, abs=0.005)


def test_an_unknown_method_is_refused():
    with pytest.raises(UserError, match=r"--methods.*'raft'.*must be some of m2svid, m2svid_factorized"):
        run(["raft"])
