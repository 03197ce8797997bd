"""Devices with too little memory, played by networks that refuse what is too large for them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder
from torch import Tensor

from m2svid.attention import Disoccluded
from m2svid.convert.setup import Models, pick_dtype
from m2svid.convert.stereo_options import Options, StereoOptions
from m2svid.convert.verbs import convert
from m2svid.convert.work_folder import WorkFolder
from m2svid.errors import UserError
from m2svid.inference.memory import MemoryPlan, Plan, ShorterWindowError, limit_memory, parse_bytes
from m2svid.inference.refiner import Refiner
from m2svid.model.conditioning import Conditioning
from m2svid.model.m2svid import M2SVid
from m2svid.model.vae import SVDAutoencoder
from m2svid.training.backbone import SmallRandom
from tests.convert.films import make_depth, make_film, read_rgb
from tests.model import tiny

FULL = "CUDA out of memory. Tried to allocate 8.00 GiB. GPU 0 has"


@pytest.fixture(scope="module")
def model() -> M2SVid:
    torch.manual_seed(0)
    vae = SVDAutoencoder(tiny.vae(), gradient_checkpointing=False)
    conditioning = Conditioning(["left", "warped", "mask"])
    return SmallRandom((32,), autoencoder=vae).build(conditioning, Disoccluded()).eval()


def lowered(memory: MemoryPlan, stage: str, fits: Callable[[Plan], bool], side: int = 1920) -> list[Plan]:
    """All plans that are tried until one fits, or nothing is left."""
    tried = []

    def work(plan: Plan) -> None:
        tried.append(plan)
        if not fits(plan):
            raise torch.OutOfMemoryError(FULL)

    memory.run(stage, side, work)
    return tried


def test_networks_take_turns_before_anything_changes_the_result():
    memory = MemoryPlan(Plan(25, 0, 25))
    tried = lowered(memory, "sample", lambda plan: 0 < plan.tile <= 512)
    assert [(plan.offload, plan.tile) for plan in tried] == [
        (False, 0),
        (True, 0),
        (True, 1024),
        (True, 768),
        (True, 512),
    ]
    assert memory.plan == Plan(25, 512, 25, 0, offload=True)
    # decoding has its own steps, and continues from there
    tried = lowered(memory, "decode", lambda plan: plan.decode_tile == 768)
    assert [plan.decode_chunk for plan in tried] == [25, 12, 6, 3, 1, 1, 1]
    assert [plan.decode_tile for plan in tried] == [0, 0, 0, 0, 0, 1024, 768]
    assert {plan.tile for plan in tried} == {512}
    memory.reset()
    assert memory.plan == Plan(25, 0, 25)


def test_fewer_frames_are_encoded_before_anything_else():
    memory = MemoryPlan(Plan(25, 0, 25))
    tried = lowered(memory, "encode", lambda plan: plan.tile == 768)
    assert [plan.encode_chunk for plan in tried] == [0, 12, 6, 3, 1, 1, 1, 1]
    assert [plan.offload for plan in tried] == 5 * [False] + 3 * [True]
    assert [plan.tile for plan in tried] == 6 * [0] + [1024, 768]
    assert "1 encoded and 25 frames decoded at a time" in str(memory.plan)


def test_only_tiles_smaller_than_the_frame_are_tried():
    tried = lowered(MemoryPlan(Plan(25, offload=True)), "sample", lambda plan: plan.tile == 256, side=640)
    assert [plan.tile for plan in tried] == [0, 512, 384, 256]


def test_what_the_user_has_chosen_stays():
    memory = MemoryPlan(Plan(25, 1024, 25), frozenset({"tile", "decode_chunk"}))
    message = r"windows of 25 frames, tiles of 1024 px, 25 frames .* \(CUDA out of memory\): give a smaller"
    with pytest.raises(UserError, match=message):
        lowered(memory, "sample", lambda plan: False)
    tried = lowered(memory, "decode", lambda plan: plan.decode_tile == 512)
    assert {plan.decode_chunk for plan in tried} == {25}


def test_a_shorter_window_is_the_caller_s_to_begin():
    memory = MemoryPlan(Plan(110, offload=True), frozenset({"tile"}), windows=(96, 48, 8))
    with pytest.raises(ShorterWindowError):
        lowered(memory, "sample", lambda plan: plan.window <= 48)
    assert memory.plan.window == 96
    with pytest.raises(ShorterWindowError):
        lowered(memory, "sample", lambda plan: plan.window <= 48)
    assert memory.plan.window == 48
    assert len(lowered(memory, "sample", lambda plan: plan.window <= 48)) == 1


def test_devices_that_fail_together_lower_their_plan_once():
    memory, gate, told = MemoryPlan(Plan(25)), threading.Barrier(2), []
    memory.on_change = told.append

    def work(plan: Plan) -> Plan:
        if not plan.offload:
            gate.wait(timeout=10)
            raise torch.OutOfMemoryError(FULL)
        return plan

    threads = [threading.Thread(target=memory.run, args=("sample", 512, work)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert told == [Plan(25, offload=True)] == [memory.plan]


def test_the_memory_of_failed_work_is_free_when_it_is_tried_again():
    alive: list[int] = []

    class Block:
        def __init__(self) -> None:
            alive.append(1)

        def __del__(self) -> None:
            alive.pop()

    def work(plan: Plan) -> int:
        before, block = len(alive), Block()
        if not plan.offload:
            raise torch.OutOfMemoryError(FULL)
        del block
        return before

    assert MemoryPlan(Plan(25)).run("sample", 512, work) == 0


def clip() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    left, warped = torch.rand(2, 4, 3, 20, 30, generator=generator)
    hole = torch.zeros(4, 1, 20, 30, dtype=torch.bool)
    hole[..., 5:9, 10:15] = True
    return left, warped, hole


def test_networks_that_take_turns_give_the_same_view(model):
    """Lent to the device where they are, and given back."""
    plain = Refiner(model)(*clip(), 8)
    homes = [parameter.data_ptr() for parameter in model.parameters()]
    turns = Refiner(model, offload=True)
    assert torch.equal(turns(*clip(), 8), plain)
    assert [parameter.data_ptr() for parameter in model.parameters()] == homes
    assert "taking turns" in turns.description


def test_a_device_without_memory_gives_what_its_plan_gives_elsewhere(model, monkeypatch):
    """Decoding fails for more than one frame; the view is that of a user who asked for one at a time."""
    asked = Refiner(model, decode_chunk=1, offload=True)(*clip(), 8)
    small_memory(monkeypatch, frames=1)
    refiner = Refiner(model)
    assert torch.equal(refiner(*clip(), 8), asked)
    assert (refiner.memory.plan.decode_chunk, refiner.memory.plan.offload) == (1, True)
    with pytest.raises(UserError, match=r"too little memory even with .* 4 frames decoded at a time"):
        Refiner(model, decode_chunk=4, decode_tile=0)(*clip(), 8)


def test_frames_are_encoded_together_as_far_as_memory_allows(model, monkeypatch):
    encode, tried = AutoencoderKLTemporalDecoder.encode, []

    def limited(self: AutoencoderKLTemporalDecoder, frames: Tensor) -> Any:
        tried.append(len(frames))
        if len(frames) > 2:
            raise torch.OutOfMemoryError(FULL)
        return encode(self, frames)

    plain = Refiner(model)(*clip(), 8)
    monkeypatch.setattr(AutoencoderKLTemporalDecoder, "encode", limited)
    refiner = Refiner(model, window=4)
    torch.testing.assert_close(refiner(*clip(), 8), plain)
    assert tried == [4, 2, 2, 2, 2]  # the left and the warped view
    assert refiner.memory.plan == Plan(4, 0, 4, encode_chunk=2)


def small_memory(monkeypatch, frames: int, after: int = 0) -> None:
    """Decoding more than some frames fails, from the call after some others on."""
    decode, calls = SVDAutoencoder.decode, []

    def limited(self: SVDAutoencoder, latent: Tensor) -> Tensor:
        calls.append(latent)
        if latent.shape[1] > frames and len(calls) > after:
            raise torch.OutOfMemoryError(FULL)
        return decode(self, latent)

    monkeypatch.setattr(SVDAutoencoder, "decode", limited)


@pytest.fixture
def film(model, tmp_path):
    """Runs `convert` on a film of three windows."""
    model.save_pretrained(tmp_path / "model")
    source = make_film(tmp_path / "film.mp4", 18, size=(32, 24))
    options = {"depth": str(make_depth(tmp_path / "depth.npz", 18)), "weights": str(tmp_path / "model")}
    options |= {"window": 8, "codec": "ffv1", "progress": "json"}
    return lambda name, **more: convert(str(source), tmp_path / name, **(options | more))


def test_a_film_goes_on_with_less_says_so_and_keeps_what_is_done(film, tmp_path, monkeypatch, capsys):
    film("whole.mkv")
    film("chunks.mkv", decode_chunk=4)
    capsys.readouterr()
    small_memory(monkeypatch, frames=4, after=1)  # the first window is decoded as a whole
    film("out.mkv")
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    told = [event for event in events if event["event"] == "memory"]
    assert [(event["offload"], event["decode_chunk"]) for event in told] == [(True, 8), (True, 4)]
    text = "out of memory: the model continues with windows of 8 frames, whole frames, 4 frames decoded"
    assert told[1]["text"].startswith(text)
    assert events[-1]["memory"]["model"]["decode_chunk"] == 4
    out, whole, chunks = (read_rgb(tmp_path / f"{name}.mkv") for name in ("out", "whole", "chunks"))
    assert (out[:6] == whole[:6]).all() and (out[:6] != chunks[:6]).any()  # made before, and kept
    assert (out[8:] != whole[8:]).any()


def test_a_continued_run_takes_up_the_plan_and_needs_no_equal_memory(film, tmp_path, monkeypatch):
    """Killed after memory had run out: the next run, with memory, makes the same film."""
    small_memory(monkeypatch, frames=4)
    film("straight.mkv")
    with monkeypatch.context() as patch:
        patch.setattr(WorkFolder, "load_tail", stop)
        with pytest.raises(KeyboardInterrupt):
            film("broken.mkv")
    work = tmp_path / "broken.mkv.work"
    assert json.loads((work / "memory.json").read_text())["model"]["decode_chunk"] == 4
    assert len(list((work / "film").iterdir())) == 1
    monkeypatch.undo()
    film("broken.mkv")
    assert (tmp_path / "broken.mkv").read_bytes() == (tmp_path / "straight.mkv").read_bytes()


def stop(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_new_film_begins_with_the_first_plan(film, monkeypatch, capsys):
    small_memory(monkeypatch, frames=4)
    film("one.mkv")
    monkeypatch.undo()
    capsys.readouterr()
    film("two.mkv")
    assert "out of memory" not in capsys.readouterr().err


def test_devices_share_the_plan(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    options = StereoOptions(weights=str(tmp_path / "model"), devices="cpu,cpu,cpu")
    first, *others = Models(options).inpainters(options)
    assert all(other.memory is first.memory is not None for other in others)


def test_a_limit_is_real_on_a_gpu_and_refused_elsewhere(monkeypatch):
    class Card:
        total_memory = 24_000_000_000

    limits = []
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Card)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *given: limits.append(given))
    for size in ("8G", "auto", "48G"):
        limit_memory(size, torch.device("cuda", 1))
    assert [share for share, _ in limits] == [pytest.approx(1 / 3), 1, 1]
    assert {device.index for _, device in limits} == {1}
    limit_memory("auto", torch.device("cpu"))
    with pytest.raises(UserError, match="--vram 8G limits GPUs, but the models run on cpu"):
        limit_memory("8G", torch.device("cpu"))


def test_sizes_are_read():
    assert parse_bytes("8G") == parse_bytes("8gb") == parse_bytes("8000M") == 8 * 10**9
    for wrong in ("much", "0", "-3G", ""):
        with pytest.raises(UserError, match="--vram must be auto or a size"):
            parse_bytes(wrong)


def test_decode_tiles_are_multiples_of_64():
    with pytest.raises(UserError, match="--decode-tile must be a multiple of 64 px, or 0, not 100"):
        Options(refine="none", decode_tile=100)


def test_auto_is_float16_on_a_gpu_and_float32_elsewhere():
    assert pick_dtype("auto", torch.device("cuda", 0)) is torch.float16
    assert pick_dtype("auto", torch.device("cpu")) is torch.float32
    assert pick_dtype("bfloat16", torch.device("cuda")) is torch.bfloat16
