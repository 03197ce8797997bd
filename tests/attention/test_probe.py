"""Recorded attention weights against the softmax of queries and keys, written out."""

from __future__ import annotations

import pytest
import torch

from m2svid.attention import Disoccluded, Factorized, Full, Probe
from tests.attention.conftest import H, T, W

HOLE, ELSEWHERE = (1, 0, 2), (1, 1, 0)  # frame, row, column in the first clip


def weights_by_hand(block, tokens, place, all_frames):
    """Mean over the heads of softmax(q·k / √d): (T, H, W), 0 in frames that are not seen."""
    frame, row, column = place
    attn, normed = block.attn1, block.norm1(tokens[0])  # T N C
    query = attn.to_q(normed[frame, row * W + column]).unflatten(-1, (attn.heads, -1))
    source = tokens[0].flatten(0, 1) if all_frames else normed[frame]
    key = attn.to_k(source).unflatten(-1, (attn.heads, -1))
    scores = torch.einsum("hd,nhd->hn", query, key) / query.shape[-1] ** 0.5
    weights = scores.softmax(-1).mean(0)
    if all_frames:
        return weights.view(T, H, W)
    found = torch.zeros(T, H, W)
    found[frame] = weights.view(H, W)
    return found


@pytest.mark.parametrize(
    ("strategy", "place", "all_frames"),
    [
        (Disoccluded(), HOLE, True),
        (Disoccluded(), ELSEWHERE, False),
        (Factorized(), HOLE, False),
        (Full(), ELSEWHERE, True),
    ],
)
@torch.no_grad()
def test_weights_are_the_softmax(strategy, place, all_frames, block, tokens, context, mask):
    frame, row, column = place
    probe = Probe(strategy, frame, y=(row + 0.5) / H, x=(column + 0.5) / W)
    out = probe(block, tokens, context, probe.select(mask, (H, W), False))

    (weights,) = probe.maps
    torch.testing.assert_close(weights, weights_by_hand(block, tokens, place, all_frames))
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0))
    expected = strategy(block, tokens, context, strategy.select(mask, (H, W), False))
    assert torch.equal(out, expected)  # watching changes nothing
