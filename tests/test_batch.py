"""Operations of a batch on all its tensors at once."""

from dataclasses import replace

import torch

from tests.model import tiny


def test_bytes_become_the_unit_interval():
    shape = (1, 1, 3, 16, 16)
    video = torch.arange(256).repeat(3).view(shape).to(torch.uint8)
    batch = replace(tiny.batch(B=1, T=1, H=16, W=16), left=video, right=video)
    left = batch.as_float().left
    assert torch.equal(left, torch.linspace(0, 1, 256, dtype=torch.float64).repeat(3).view(shape).float())
    assert left.max() == 1 and torch.equal(batch.as_float().right, left)
    assert torch.equal(batch.as_float().hole, batch.hole)
    assert torch.equal(batch.as_float().warped, batch.warped)  # was float


def test_one_clip_of_a_batch():
    batch = tiny.batch()
    batch = replace(batch, keys=("a", "b"), replaced=torch.tensor([[False] * 3, [True] * 3]), index=5)
    second = batch.clip(1)
    assert second.keys == ("b",) and second.index == 5
    for name in ("left", "warped", "hole", "fps", "right", "replaced"):
        assert torch.equal(getattr(second, name), getattr(batch, name)[1:])
    assert replace(batch, right=None, replaced=None).clip(0).right is None


def test_pinned_memory_is_asked_of_every_tensor(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor.to("meta"))
    batch = tiny.batch().pin_memory()
    tensors = (batch.left, batch.warped, batch.hole, batch.fps, batch.right)
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_a_batch_moves_with_all_its_tensors():
    batch = tiny.batch().to("meta")
    tensors = (batch.left, batch.warped, batch.hole, batch.fps, batch.right)
    assert {tensor.device.type for tensor in tensors} == {"meta"} and batch.replaced is None
