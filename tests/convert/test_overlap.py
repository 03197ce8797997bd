"""What overlaps comes in order, ends with the caller, and runs side by side."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest

from m2svid.convert.overlap import Worker, ahead, side_by_side


def test_the_next_item_is_made_while_one_is_used_and_no_more():
    begun = []

    def items():
        for place in range(4):
            begun.append(place)
            yield place

    for place in ahead(items()):
        expected = list(range(min(place + 2, 4)))
        deadline = time.monotonic() + 5
        while begun != expected and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.01)
        assert begun == expected


def test_an_error_comes_where_its_item_is_asked_for():
    def items():
        yield 1
        raise ValueError("of the second")

    before = threading.active_count()
    iterator = ahead(items())
    assert next(iterator) == 1
    with pytest.raises(ValueError, match="of the second"):
        next(iterator)
    assert threading.active_count() == before


def test_what_is_closed_leaves_no_thread():
    before = threading.active_count()
    with closing(ahead(iter(range(9)))) as numbers, closing(side_by_side(str, range(9), 3)) as words:
        assert next(numbers) == 0 and next(words) == "0"
    assert threading.active_count() == before


def test_work_runs_side_by_side_and_comes_in_order():
    together = threading.Barrier(3, timeout=5)  # which only three at once can pass

    def work(place: int) -> int:
        together.wait()
        return place**2

    assert list(side_by_side(work, range(9), 3)) == [place**2 for place in range(9)]


def test_a_worker_makes_calls_in_order_and_is_no_more_than_some_behind():
    open_gate, made = threading.Event(), []
    with Worker(2) as worker:
        worker.do(open_gate.wait, 5)
        for place in range(2):
            worker.do(made.append, place)
        late = threading.Thread(target=worker.do, args=(made.append, 2))
        late.start()
        late.join(0.05)
        assert late.is_alive() and made == []
        open_gate.set()
        late.join(5)
        worker.wait()
        assert made == [0, 1, 2]


def test_a_worker_makes_no_call_after_one_that_failed():
    made = []
    with Worker(9) as worker:
        worker.do(made.append, 0)
        worker.do([].pop)
        worker.do(made.append, 1)
        with pytest.raises(IndexError, match="empty"):
            worker.wait()
    assert made == [0]


def test_a_worker_makes_the_calls_that_are_waiting_when_its_context_ends_in_an_error():
    made = []
    with pytest.raises(KeyboardInterrupt), Worker(9) as worker:
        for place in range(5):
            worker.do(lambda place=place: (time.sleep(0.01), made.append(place)))
        raise KeyboardInterrupt
    assert made == [0, 1, 2, 3, 4]
