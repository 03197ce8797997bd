"""Statistics of two methods' values on the same videos.

Shapes: V videos, S sources that they are from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

DRAWS = 10_000
CONFIDENCE = 0.95
_SEED = 0
_AT_ONCE = 500  # draws, to bound the memory


def bootstrap(values: Sequence[float], sources: Sequence[str]) -> tuple[float, float]:
    """Percentile interval of the mean of V values, with whole sources drawn: videos of one source are alike.

    The draws are seeded, so methods are compared on the same ones.

    Returns:
        The 95 % interval; NaN where there is only one source, which says nothing of others.
    """
    sums, counts = _by_source(values, sources)
    if len(sums) < 2:
        return np.nan, np.nan
    generator = np.random.default_rng(_SEED)
    means = []
    for _ in range(DRAWS // _AT_ONCE):
        drawn = generator.integers(0, len(sums), (_AT_ONCE, len(sums)))
        means.append(sums[drawn].sum(1) / counts[drawn].sum(1))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(np.concatenate(means), [tail, 100 - tail])
    return float(low), float(high)


def _by_source(values: Sequence[float], sources: Sequence[str]) -> tuple[NDArray, NDArray]:
    """(S,) sums and (S,) numbers of the values of each source."""
    _, index = np.unique(np.asarray(sources), return_inverse=True)
    return np.bincount(index, np.asarray(values, np.float64)), np.bincount(index)


@dataclass(frozen=True)
class Comparison:
    """A method's values minus a reference's on the same videos.

    Attributes:
        videos: V, with a finite value of both.
        sources: S.
        difference: mean over videos.
        interval: of the difference, see `bootstrap`.
        won: share of the videos in which the method is better.
        tied: share in which both are equal.
        p: two-sided Wilcoxon signed-rank test over the means of sources, which are independent; videos of one
            source aren't. NaN for fewer than two sources.
    """

    videos: int
    sources: int
    difference: float
    interval: tuple[float, float]
    won: float
    tied: float
    p: float


def compare(
    values: Sequence[float], reference: Sequence[float], sources: Sequence[str], higher_is_better: bool
) -> Comparison | None:
    """Compare V pairs of values; None where no pair is finite."""
    pairs = np.array([values, reference], np.float64)
    finite = np.isfinite(pairs).all(0)
    if not finite.any():
        return None
    difference = (pairs[0] - pairs[1])[finite]
    kept = np.asarray(sources)[finite]
    sums, counts = _by_source(difference, kept)
    better = difference > 0 if higher_is_better else difference < 0
    return Comparison(
        videos=len(difference),
        sources=len(sums),
        difference=float(difference.mean()),
        interval=bootstrap(difference, kept),
        won=float(better.mean()),
        tied=float((difference == 0).mean()),
        p=_wilcoxon(sums / counts),
    )


def _wilcoxon(differences: NDArray) -> float:
    if len(differences) < 2:
        return np.nan
    if not differences.any():
        return 1.0
    return float(wilcoxon(differences).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values of a family of tests, adjusted by Holm's step-down method; NaN stays and doesn't count."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p)[: np.isfinite(p).sum()]
    adjusted = np.full(len(p), np.nan)
    stepped = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.maximum.accumulate(stepped).clip(max=1)
    return adjusted.tolist()
