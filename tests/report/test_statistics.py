"""Statistics against SciPy's own bootstrap, enumeration and worked examples."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from m2svid.report.statistics import bootstrap, compare, holm


def test_bootstrap_equals_scipys():
    values = np.random.default_rng(1).normal(3, 2, 40)
    expected = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=2)
    interval = expected.confidence_interval
    assert bootstrap(values, [str(i) for i in range(40)]) == pytest.approx(
        (interval.low, interval.high), abs=0.03
    )


def test_bootstrap_draws_sources_not_videos():
    """Three sources of equal videos: the mean of a draw is one of few values, which can be enumerated."""
    values, sources = [0, 0, 6, 6, 6, 12], list("aabbbc")
    sums, counts = np.array([0, 18, 12]), np.array([2, 3, 1])
    draws = [list(draw) for draw in product(range(3), repeat=3)]
    means = np.sort([sums[draw].sum() / counts[draw].sum() for draw in draws])
    low, high = bootstrap(values, sources)
    assert low == means[0] == 0  # all three drawn from a: 1 of 27, more than 2.5 %
    assert high == means[-1] == 12
    assert all(np.isnan(bootstrap([1, 2, 3], ["a"] * 3)))


def test_comparison_by_hand():
    ours, theirs = [30, 28, 25, 31, np.inf], [29, 28, 26, 28, 20]
    found = compare(ours, theirs, list("abcde"), higher_is_better=True)
    assert (found.videos, found.sources) == (4, 4)  # an infinite value has no difference
    assert found.difference == pytest.approx(0.75)
    assert (found.won, found.tied) == (0.5, 0.25)
    assert compare(ours, theirs, list("abcde"), higher_is_better=False).won == 0.25
    assert found.interval[0] < 0.75 < found.interval[1]
    assert compare([np.nan], [1], ["a"], True) is None


def test_wilcoxon_by_enumeration():
    """Differences 1..6 with one negative: of 64 signings, those at least as extreme on both sides."""
    differences = np.array([1.0, -2, 3, 4, 5, 6])
    found = compare(differences, np.zeros(6), list("abcdef"), higher_is_better=True)
    statistic = [np.dot(signs, np.arange(1, 7)) for signs in product([0, 1], repeat=6)]
    expected = 2 * np.mean([value <= 2 for value in statistic])
    assert found.p == pytest.approx(expected)
    assert compare(np.ones(5), np.ones(5), list("abcde"), True).p == 1


def test_videos_of_one_source_count_once_in_the_test():
    """Ten videos of two sources are no more evidence than two."""
    many = compare([1] * 9 + [2], [0] * 10, ["a"] * 9 + ["b"], True)
    two = compare([1, 2], [0, 0], ["a", "b"], True)
    assert many.p == two.p == 0.5
    assert (many.sources, many.difference) == (2, 1.1)
    assert np.isnan(compare([1, 2], [0, 0], ["a", "a"], True).p)


def test_holm_by_hand():
    # 0.01 * 4, 0.02 * 3, then 0.03 * 2 = 0.06, 0.04 raised to its predecessor
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, np.nan, 0.9]) == pytest.approx([1, np.nan, 1], nan_ok=True)
