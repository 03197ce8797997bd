"""ReplaceFrames against the distribution that the paper's Appendix E and REFERENCE §6 describe."""

import math

import pytest
import torch

from m2svid.batch import StereoBatch
from m2svid.errors import UserError
from m2svid.recipes import ReplaceFrames


def make_batch(B=1, T=6, size=8):
    g = torch.Generator().manual_seed(1)
    left, right, warped = (torch.rand(B, T, 3, size, size, generator=g) for _ in range(3))
    hole = torch.rand(B, T, 1, size, size, generator=g) < 0.5
    return StereoBatch(left, warped, hole, torch.full((B,), 5.0), right, keys=("k",) * B)


@pytest.mark.parametrize(("draw", "seed"), [("clip", 0), ("batch", 1)])
def test_replaced_frames_are_the_truth_and_others_untouched(draw, seed):
    batch = make_batch(B=64)
    out = ReplaceFrames(probability=1.0, draw=draw)(batch, torch.Generator().manual_seed(seed))
    assert out.replaced.any() and not out.replaced.all()
    for b in range(64):
        for t in range(6):
            source = batch.right if out.replaced[b, t] else batch.warped
            assert torch.equal(out.warped[b, t], source[b, t])
            hole = torch.zeros_like(batch.hole[b, t]) if out.replaced[b, t] else batch.hole[b, t]
            assert torch.equal(out.hole[b, t], hole)


def test_drawn_for_each_clip_the_distribution_is_half_of_them_and_rounded_exponential():
    B, T = 40000, 25
    batch = make_batch(B=B, T=T, size=1)
    replaced = ReplaceFrames(0.5, draw="clip")(batch, torch.Generator().manual_seed(0)).replaced
    count = replaced.sum(1)
    # P(round(Exp(1)) = 0) = 1 - e^-0.5, P(= k) = e^-(k-0.5) - e^-(k+0.5); half of the clips are left alone.
    for k in (1, 2, 3):
        expected = 0.5 * (math.exp(-(k - 0.5)) - math.exp(-(k + 0.5)))
        assert (count == k).float().mean().item() == pytest.approx(expected, abs=4 * math.sqrt(0.25 / B))
    # Of the clips with one replaced frame, half have it first for sure, the other half by chance 1/T.
    one = replaced[count == 1]
    assert one[:, 0].float().mean().item() == pytest.approx(0.5 + 0.5 / T, abs=0.02)


def test_drawn_for_the_batch_as_in_the_published_training():
    """Half of the batches; in half of those the first n of each clip, else n positions in all its frames."""
    B, T, trials = 3, 4, 20000
    batch, g = make_batch(B=B, T=T, size=1), torch.Generator().manual_seed(0)
    replace_frames = ReplaceFrames(0.5)
    replaced = torch.stack([replace_frames(batch, g).replaced for _ in range(trials)])  # (trials, B, T)
    close = {"abs": 4 * math.sqrt(0.25 / trials)}
    zero = 1 - math.exp(-0.5)  # P(round(Exp(1)) = 0)
    nothing = (~replaced).all(dim=2).all(dim=1).float().mean().item()
    assert nothing == pytest.approx(0.5 + 0.25 * zero**B + 0.25 * zero, **close)
    # A later frame without the one before it comes from random positions only. P(frame 2 of clip 0, not 1)
    # = 1/4 · E[(1 - 1/12)^n - (1 - 2/12)^n] with n = round(Exp(1)).
    count = [zero] + [math.exp(-(k - 0.5)) - math.exp(-(k + 0.5)) for k in range(1, 60)]
    gap = sum(p * ((11 / 12) ** k - (10 / 12) ** k) for k, p in enumerate(count))
    alone = (replaced[:, 0, 1] & ~replaced[:, 0, 0]).float().mean().item()
    assert alone == pytest.approx(0.25 * gap, abs=4 * math.sqrt(0.25 * gap / trials))
    # The first frame of a clip: by its own n > 0, or as one of the positions.
    first = 0.25 * (1 - zero) + 0.25 * sum(p * (1 - (11 / 12) ** k) for k, p in enumerate(count))
    assert replaced[:, 2, 0].float().mean().item() == pytest.approx(first, **close)


def test_probability_zero_replaces_nothing_and_a_wrong_one_is_refused():
    assert not ReplaceFrames(0.0)(make_batch(B=50)).replaced.any()
    with pytest.raises(UserError, match=r"replace_frames.probability.*1.5"):
        ReplaceFrames(1.5)
    with pytest.raises(UserError, match=r"replace_frames.draw.*'frame'"):
        ReplaceFrames(draw="frame")
