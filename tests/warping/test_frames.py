"""Compiled functions where no folder can keep them."""

import numba
import numpy as np

from m2svid.warping.frames import compiled


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
