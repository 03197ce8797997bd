"""Statistics against textbooks, enumeration and other algorithms."""

from itertools import product
from math import comb, log

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import rankdata

from m2svid.study.statistics import (
    by_person,
    competition_ranks,
    davidson,
    draws,
    estimate,
    friedman,
    intervals,
    mean_ranks,
    outcomes,
    sign_test,
)

# Twelve home owners rank four grasses: Conover, Practical Nonparametric Statistics, 3rd ed., section 5.8.
GRASSES = np.array(
    [
        [4, 3, 2, 1], [4, 2, 3, 1], [3, 1.5, 1.5, 4], [3, 1, 2, 4], [4, 2, 1, 3], [2, 2, 2, 4],
        [1, 3, 2, 4], [2, 4, 1, 3], [3.5, 1, 2, 3.5], [4, 1, 3, 2], [4, 2, 3, 1], [3.5, 1, 2, 3.5],
    ]
)  # fmt: skip


def test_ranks_of_all_orders_of_four():
    """Every answer that the page can give, against SciPy's ranks."""
    given = np.array(list(product(range(1, 5), repeat=4)), float)
    np.testing.assert_array_equal(competition_ranks(given), rankdata(given, "min", axis=1))
    np.testing.assert_array_equal(mean_ranks(given), rankdata(given, "average", axis=1))
    some = np.array([[2, np.nan, 1.0]])
    np.testing.assert_array_equal(competition_ranks(some), some)
    np.testing.assert_array_equal(mean_ranks(some), some)


def test_friedman_and_kendall_of_a_textbook():
    found = friedman(GRASSES)
    sums = GRASSES.sum(0)
    assert sums.tolist() == [38, 23.5, 24.5, 34]
    by_hand = 3 * ((sums - 30) ** 2).sum() / ((GRASSES**2).sum() - 300)
    assert found.chi2 == pytest.approx(by_hand)
    assert round(found.chi2, 3) == 8.097  # the book's
    assert 0.025 < found.p < 0.05
    assert found.w == pytest.approx(8.097 / 36, abs=1e-4)
    assert friedman(np.tile([1.0, 2, 3], (5, 1))).w == pytest.approx(1)
    for none in (np.ones((5, 3)), GRASSES[:1], GRASSES[:, :2]):
        assert friedman(none) is None


def test_sign_test_by_hand():
    """The paper's headset study, 39 against 9: twice the tail of the binomial distribution."""
    assert sign_test(39, 9) == pytest.approx(2 * sum(comb(48, k) for k in range(10)) / 2**48)
    assert round(sign_test(39, 9), 6) == 1.5e-5
    assert sign_test(5, 0) == 2 / 2**5
    assert sign_test(0, 0) == 1


def test_davidson_of_two_methods_by_hand():
    """As many parameters as free counts: the model gives the counts themselves."""
    (strengths,), (ties,) = davidson(np.array([[[39.0, 9, 57]]]), 2)
    assert strengths == pytest.approx([39 / 48, 9 / 48], abs=1e-4)
    assert ties == pytest.approx(57 / (39 * 9) ** 0.5, abs=1e-3)


def test_davidson_against_a_general_optimizer():
    counts = np.array([[[12.0, 5, 3], [20, 1, 2], [9, 9, 6], [4, 8, 1], [7, 3, 0], [2, 6, 5]]])
    pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]

    def loss(x):
        s, v = np.exp([0, *x[:3]]), np.exp(x[3])
        total = 0.0
        for (i, j), (first, second, equal) in zip(pairs, counts[0], strict=True):
            tie = v * (s[i] * s[j]) ** 0.5
            whole = s[i] + s[j] + tie
            total -= first * log(s[i] / whole) + second * log(s[j] / whole) + equal * log(tie / whole)
        return total

    best = minimize(
        loss, np.zeros(4), method="Nelder-Mead", options={"maxiter": 9000, "xatol": 1e-9, "fatol": 1e-12}
    )
    expected = np.exp([0, *best.x[:3]])
    (strengths,), (ties,) = davidson(counts, 4)
    assert strengths == pytest.approx(expected / expected.sum(), rel=1e-3)
    assert ties == pytest.approx(np.exp(best.x[3]), rel=1e-3)


def test_a_method_that_never_loses_has_all_the_strength():
    (strengths,), _ = davidson(np.array([[[10.0, 0, 0]]]), 2)
    assert strengths[0] > 0.999
    assert np.isfinite(strengths).all()


def test_outcomes_of_pairs():
    found = outcomes(np.array([[1.0, 2, 2]]))
    # (0, 1), (0, 2), (1, 2): is the first better, the second, or are they equal
    assert found[0].tolist() == [[True, False, False], [True, False, False], [False, False, True]]
    assert not outcomes(np.array([[1, np.nan, 2]]))[0, 0].any()


def test_bootstrap_draws_people_and_films():
    """Two people and two films: all 4 x 4 draws can be listed."""
    people, films = ["a", "a", "b", "b"], ["x", "y", "x", "y"]
    listed = {}
    for who, what in product(product("ab", repeat=2), product("xy", repeat=2)):
        key = tuple(who.count(p) * what.count(f) for p, f in zip(people, films, strict=True))
        listed[key] = listed.get(key, 0) + 1 / 16
    weights = np.concatenate(list(draws(people, films)))
    found = {key: np.mean((weights == key).all(1)) for key in listed}
    assert sum(found.values()) == pytest.approx(1)
    assert found == pytest.approx(listed, abs=0.02)


def test_intervals_know_that_answers_of_one_person_are_alike():
    """Four people who always say the same: 40 answers are no more than 4."""
    ranks = np.array([[1.0, 2]] * 30 + [[2.0, 1]] * 10)
    people = [name for name in "abcd" for _ in range(10)]
    films = [str(film) for _ in range(4) for film in range(10)]
    found = intervals(ranks, people, films)
    assert estimate(ranks, np.ones((1, 40))).average[0].tolist() == [1.25, 1.75]
    # That b 1/4 is drawn k times of 4 has binomial odds; 2.5 % and 97.5 % lie at k = 0 and k = 3.
    assert found["average"][:, 0].tolist() == [1, 1.75]
    independent = intervals(ranks, [str(i) for i in range(40)], ["f", "g"] * 20)
    assert np.ptp(independent["average"][:, 0]) < 0.5
    assert np.isnan(intervals(ranks, ["a"] * 40, films)["average"]).all()


def test_means_by_person():
    assert by_person(np.array([[1.0, 2], [3, 4], [5, 6]]), ["b", "a", "b"]).tolist() == [[3, 4], [3, 4]]
