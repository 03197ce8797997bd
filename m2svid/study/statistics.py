"""Statistics of rankings, by people and films.

Shapes: R rankings, N methods, P pairs of methods, D draws of the bootstrap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, friedmanchisquare

Array = NDArray[np.float64]

DRAWS = 10_000
CONFIDENCE = 0.95
_SEED = 0
_AT_ONCE = 500  # draws, to bound the memory
_RIDGE = 1e-4  # keeps strengths finite where a method never loses
_ITERATIONS = 200


def competition_ranks(ranks: Array) -> Array:
    """(R, N) ranks as the paper counts them: tied methods share the best of their places (1, 1, 3, 4).

    Only the order of what was given counts: 1, 1, 2, 3 becomes 1, 1, 3, 4. NaN stays: not in that ranking.
    """
    better = (ranks[:, None, :] < ranks[:, :, None]).sum(-1)
    return np.where(np.isnan(ranks), np.nan, 1 + better)


def mean_ranks(ranks: Array) -> Array:
    """(R, N) ranks at which tied methods share the mean of their places (1.5, 1.5, 3, 4)."""
    equal = (ranks[:, None, :] == ranks[:, :, None]).sum(-1)
    return competition_ranks(ranks) + np.where(np.isnan(ranks), np.nan, (equal - 1) / 2)


def outcomes(ranks: Array) -> NDArray[np.bool_]:
    """(R, P, 3): in each pair of methods (i, j), i < j, is i better, j better, are they equal."""
    pairs = list(combinations(range(ranks.shape[1]), 2))
    first, second = (ranks[:, [pair[side] for pair in pairs]] for side in (0, 1))
    return np.stack([first < second, first > second, first == second], -1)


@dataclass(frozen=True)
class Agreement:
    """Friedman's test with ties, and Kendall's W.

    Attributes:
        blocks: n, rankings or people.
        chi2: the statistic, corrected for ties.
        p: of chi2 with N - 1 degrees of freedom.
        w: 0 (no agreement) to 1 (everybody ranks alike).
    """

    blocks: int
    chi2: float
    p: float
    w: float


def friedman(blocks: Array) -> Agreement | None:
    """Friedman's test of (n, N) values; None for fewer than 3 methods or 2 blocks, or where all are tied."""
    count, methods = blocks.shape
    if count < 2 or methods < 3 or np.isnan(blocks).any() or not np.ptp(blocks, axis=1).any():
        return None
    chi2, p = friedmanchisquare(*blocks.T)
    return Agreement(count, float(chi2), float(p), float(chi2 / (count * (methods - 1))))


def by_person(values: Array, people: Sequence[str]) -> Array:
    """(people, ...) means of the values (R, ...) of each person."""
    _, index = np.unique(np.asarray(people), return_inverse=True)
    return np.stack([values[index == person].mean(0) for person in range(index.max() + 1)])


def sign_test(first: int, second: int) -> float:
    """Two-sided p of so many answers for either side; ties don't count. 1 without an answer."""
    return float(binomtest(first, first + second).pvalue) if first + second else 1.0


def davidson(counts: Array, methods: int) -> tuple[Array, Array]:
    """Bradley-Terry strengths with Davidson's parameter for ties, by maximum likelihood (Newton's method).

    P(i better) : P(j better) : P(equal) = s_i : s_j : v sqrt(s_i s_j). Davidson, "On extending the
    Bradley-Terry model to accommodate ties in paired comparison experiments", JASA 1970. A faint ridge on
    log s and log v keeps them finite: a method that never loses gets a strength of almost 1.

    Args:
        counts: (D, P, 3) weights of the `outcomes`.
        methods: N.

    Returns:
        (D, N) strengths, which sum to 1, and (D,) v.
    """
    features = np.zeros((counts.shape[1], 3, methods + 1))
    for pair, (i, j) in enumerate(combinations(range(methods), 2)):
        features[pair, 0, i] = features[pair, 1, j] = features[pair, 2, -1] = 1
        features[pair, 2, [i, j]] = 0.5
    total = counts.sum(-1, keepdims=True)
    parameters = np.zeros((len(counts), methods + 1))
    for _ in range(_ITERATIONS):
        odds = np.exp(np.einsum("dk,pok->dpo", parameters, features))
        expected = total * odds / odds.sum(-1, keepdims=True)
        gradient = np.einsum("dpo,pok->dk", counts - expected, features) - _RIDGE * parameters
        mean = np.einsum("dpo,pok->dpk", expected, features)
        spread = np.einsum("dpk,dpl->dkl", mean / np.maximum(total, 1e-12), mean)
        curvature = np.einsum("dpo,pok,pol->dkl", expected, features, features) - spread
        curvature += _RIDGE * np.eye(methods + 1)
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0].clip(-2, 2)
        parameters += step
        if np.abs(step).max() < 1e-9:
            break
    strengths = np.exp(parameters[:, :-1])
    return strengths / strengths.sum(-1, keepdims=True), np.exp(parameters[:, -1])


def draws(people: Sequence[str], films: Sequence[str]) -> Iterator[Array]:
    """(D, R) weights of the rankings, some draws at a time: people and films are both drawn with replacement.

    A ranking counts as often as its person was drawn, times as often as its film was: answers of one person
    are alike, and so are those about one film. Owen, "The pigeonhole bootstrap", 2007. The draws are seeded.
    """
    generator = np.random.default_rng(_SEED)
    codes = [np.unique(np.asarray(each), return_inverse=True)[1] for each in (people, films)]
    for _ in range(DRAWS // _AT_ONCE):
        weights = np.ones((_AT_ONCE, len(codes[0])))
        for code in codes:
            count = code.max() + 1
            drawn = generator.multinomial(count, np.full(count, 1 / count), _AT_ONCE)
            weights *= drawn[:, code]
        yield weights[weights.any(1)]  # of a sparse table, a draw can miss all answers


@dataclass(frozen=True)
class Estimates:
    """By method (N values each), or by draw and method (D, N).

    Attributes:
        average: competition ranks.
        mean_at_ties: ranks with the mean of places at ties.
        best_share: share of the rankings in which the method has competition rank 1.
        strength: Bradley-Terry.
        ties: Davidson's v, () or (D,).
    """

    average: Array
    mean_at_ties: Array
    best_share: Array
    strength: Array
    ties: Array


def estimate(ranks: Array, weights: Array) -> Estimates:
    """Estimates of (R, N) ranks for each row of weights (D, R)."""
    there = ~np.isnan(ranks)
    places = np.nan_to_num(competition_ranks(ranks))
    total = weights @ there
    total = np.where(total > 0, total, np.nan)
    strength, ties = davidson(np.einsum("dr,rpo->dpo", weights, outcomes(ranks)), ranks.shape[1])
    return Estimates(
        average=weights @ places / total,
        mean_at_ties=weights @ np.nan_to_num(mean_ranks(ranks)) / total,
        best_share=weights @ (places == 1) / total,
        strength=strength,
        ties=ties,
    )


def intervals(ranks: Array, people: Sequence[str], films: Sequence[str]) -> dict[str, Array]:
    """95 % percentile intervals of all estimates, by bootstrap over people and films: (2, N), for ties (2,).

    NaN for fewer than two people or two films, which say nothing of others.
    """
    drawn = [estimate(ranks, weights) for weights in draws(people, films)]
    tail = 50 * (1 - CONFIDENCE)
    known = len(set(people)) > 1 and len(set(films)) > 1
    found = {}
    for name in Estimates.__dataclass_fields__:
        values = np.concatenate([getattr(each, name) for each in drawn])
        ends = np.nanpercentile(values, [tail, 100 - tail], axis=0)
        found[name] = ends if known else np.full_like(ends, np.nan)
    return found
