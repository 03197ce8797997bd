"""Which tokens get full attention, and what gathering and replacing them does."""

from __future__ import annotations

import torch

from m2svid.attention import Disoccluded, Factorized, Full, Selection


def chosen(mask, cap, seed=0, training=True):
    """(B, T·N) bool, from the indices of a selection."""
    strategy = Disoccluded(max_train_tokens_per_frame=cap)
    selection = strategy.select(mask, mask.shape[-2:], training, torch.Generator().manual_seed(seed))
    B, tokens = len(mask), mask[0].numel()
    result = torch.zeros(B * tokens, dtype=torch.bool)
    result[selection.target] = True
    return result.view(B, tokens)


def test_gather_and_replace_by_hand():
    tokens = torch.arange(12.0).view(2, 2, 3, 1)  # clip 0 holds 0..5, clip 1 holds 6..11
    selected = torch.tensor(
        [[False, True, False, False, True, True], [False, False, True, False, False, False]]
    )
    selection = Selection.from_mask(selected)
    gathered = selection.gather(tokens)
    assert gathered[0].flatten().tolist() == [1, 4, 5]
    assert gathered[1].flatten().tolist()[0] == 8  # the rest is padding
    replaced = selection.replace(tokens, -torch.ones(2, 3, 1))
    assert replaced.flatten().tolist() == [0, -1, 2, 3, -1, -1, 6, 7, -1, 9, 10, 11]


def test_tokens_above_zero_are_selected(mask):
    assert torch.equal(chosen(mask, cap=None), (mask > 0).flatten(1))


def test_mask_is_resized_to_the_layer():
    mask = torch.full((1, 1, 1, 4, 4), -1.0)
    mask[..., :2, :2] = 1
    mask[..., 3, 3] = 1  # a quarter of its token: -0.5 after the resize
    selection = Disoccluded().select(mask, (2, 2), training=False)
    assert selection.target.tolist() == [0]


def test_cap_holds_for_each_clip_and_keeps_only_holes(mask):
    kept = chosen(mask, cap=1)  # 1 token × 4 frames
    assert kept.sum(dim=1).tolist() == [4, 0, 2]
    assert not (kept & (mask <= 0).flatten(1)).any()


def test_capped_choice_is_uniform_and_repeatable():
    mask = torch.ones(1, 2, 1, 4, 4)
    counts = sum(chosen(mask, cap=4, seed=seed).float() for seed in range(400))
    assert torch.all((counts - 100).abs() < 45)  # 5 standard deviations
    assert torch.equal(chosen(mask, cap=4, seed=7), chosen(mask, cap=4, seed=7))


def test_inference_takes_all(mask):
    assert torch.equal(chosen(mask, cap=1, training=False), (mask > 0).flatten(1))


def test_strategies_without_holes_select_nothing(mask):
    for strategy in (Factorized(), Full()):
        assert strategy.select(mask, (2, 5), training=True) is None
