"""Compiled functions, also where no folder can keep them."""

import numba
import numpy as np
import pytest

from m2svid.warping.frames import compiled, find


def test_a_function_is_compiled_where_nothing_can_be_written(monkeypatch):
    monkeypatch.setattr("numba.core.caching.CacheImpl._locator_classes", [])

    def total(values):
        found = 0
        for value in values:
            found += value
        return found

    made = compiled(total)
    assert isinstance(made, numba.core.dispatcher.Dispatcher)
    assert made(np.arange(5)) == 10 and made.nopython_signatures


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 300])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 1])
def test_flags_are_found_in_order(length, share):
    flags = np.random.default_rng(0).random(length) < share
    places = np.empty(length, np.int32)
    count = find(flags, places)
    np.testing.assert_array_equal(places[:count], np.flatnonzero(flags))
