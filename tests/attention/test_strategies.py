"""Each strategy against diffusers' own block and attention modules, token by token."""

from __future__ import annotations

import pytest
import torch

from m2svid.attention import Disoccluded, Factorized, Full
from m2svid.bench.attention import Recomputed
from m2svid.errors import UserError

SIZE = (2, 5)


def apply(strategy, block, tokens, context, mask, training=False, generator=None):
    selection = strategy.select(mask, SIZE, training, generator)
    return strategy(block, tokens, context, selection)


def by_diffusers(block, tokens, context):
    """Factorized attention as diffusers computes it."""
    return block(tokens.flatten(0, 1), encoder_hidden_states=context.flatten(0, 1)).view_as(tokens)


def token_by_token(block, tokens, context, selected):
    """Full attention for the selected tokens, one after the other, by diffusers' attention modules."""
    out = by_diffusers(block, tokens, context).clone()
    for b, t, n in selected.nonzero().tolist():
        token = tokens[b, t, n].view(1, 1, -1)
        clip = tokens[b].flatten(0, 1)[None]
        token = token + block.attn1(block.norm1(token), encoder_hidden_states=clip)
        token = token + block.attn2(block.norm2(token), encoder_hidden_states=context[b].flatten(0, 1)[None])
        out[b, t, n] = (token + block.ff(block.norm3(token))).flatten()
    return out


def test_factorized_is_diffusers_block(block, tokens, context, mask):
    expected = by_diffusers(block, tokens, context)
    torch.testing.assert_close(apply(Factorized(), block, tokens, context, mask), expected)


@pytest.mark.parametrize("strategy", [Disoccluded(), Recomputed()])
def test_disoccluded_is_full_attention_at_the_holes(strategy, block, tokens, context, mask):
    expected = token_by_token(block, tokens, context, (mask > 0).flatten(2))
    torch.testing.assert_close(apply(strategy, block, tokens, context, mask), expected)


def test_full_is_full_attention_everywhere(block, tokens, context):
    expected = token_by_token(block, tokens, context, torch.ones(tokens.shape[:3]))
    torch.testing.assert_close(apply(Full(), block, tokens, context, None), expected)


def test_gradients_are_those_of_the_loop(block, tokens, context, mask):
    weights = torch.randn_like(tokens)

    def gradients(output):
        return torch.autograd.grad((output * weights).sum(), [tokens, context, *block.parameters()])

    tokens.requires_grad_()
    context.requires_grad_()
    ours = gradients(apply(Disoccluded(), block, tokens, context, mask))
    theirs = gradients(token_by_token(block, tokens, context, (mask > 0).flatten(2)))
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)


def test_empty_mask_is_factorized_bit_for_bit(block, tokens, context, mask):
    empty = torch.full_like(mask, -1)
    ours = apply(Disoccluded(), block, tokens, context, empty)
    assert torch.equal(ours, apply(Factorized(), block, tokens, context, empty))


def test_clip_and_tokens_without_hole_are_factorized_bit_for_bit(block, tokens, context, mask):
    ours = apply(Disoccluded(), block, tokens, context, mask)
    factorized = apply(Factorized(), block, tokens, context, mask)
    untouched = (mask <= 0).flatten(2)
    assert untouched[1].all()
    assert torch.equal(ours[untouched], factorized[untouched])
    assert not torch.isclose(ours[~untouched], factorized[~untouched]).all(dim=1).any()


def test_mask_of_ones_is_full(block, tokens, context, mask):
    ours = apply(Disoccluded(), block, tokens, context, torch.ones_like(mask))
    torch.testing.assert_close(ours, apply(Full(), block, tokens, context, mask))


def test_clips_do_not_see_each_other(block, tokens, context, mask):
    together = apply(Disoccluded(), block, tokens, context, mask)
    for b in range(len(tokens)):
        alone = apply(Disoccluded(), block, tokens[b : b + 1], context[b : b + 1], mask[b : b + 1])
        torch.testing.assert_close(together[b : b + 1], alone)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(block, tokens, context, mask, dtype):
    exact = apply(Disoccluded(), block, tokens, context, mask)
    with torch.autocast("cpu", dtype=dtype):
        half = apply(Disoccluded(), block, tokens, context, mask)
    torch.testing.assert_close(half.float(), exact, rtol=0, atol=0.05)


def test_missing_mask_is_an_error():
    with pytest.raises(ValueError, match="mask"):
        Disoccluded().select(None, SIZE, training=False)


def test_wrong_cap_is_refused():
    with pytest.raises(UserError, match="max_train_tokens_per_frame=0"):
        Disoccluded(max_train_tokens_per_frame=0)
