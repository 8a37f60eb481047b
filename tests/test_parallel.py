"""Work side by side: results in order, no item taken too early, nothing begun after an end."""

import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import pytest

from SCFNet.parallel import in_parallel


def test_results_are_in_order_and_items_are_taken_as_they_are_worked_on():
    taken = []
    items = (taken.append(i) or i for i in range(20))
    with ThreadPoolExecutor(3) as pool:
        for i, result in enumerate(in_parallel(lambda item: item**2, items, 4, pool)):
            assert result == i**2 and len(taken) <= i + 5
    assert taken == list(range(20))


def test_processes_do_as_well_and_the_pool_stays_open():
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        for _ in range(2):
            assert list(in_parallel(str.upper, "abc", 2, pool)) == ["A", "B", "C"]


@pytest.mark.parametrize("ending", ["error", "close"])
def test_what_has_not_begun_is_dropped(ending):
    begun, go_on = [], threading.Event()

    def work(item):
        begun.append(item)
        if item:
            go_on.wait(10)
        elif ending == "error":
            raise ValueError("the first item")

    with ThreadPoolExecutor(1) as pool:
        results = in_parallel(work, range(9), 8, pool)
        if ending == "error":
            with pytest.raises(ValueError, match="the first item"):
                next(results)
        else:
            next(results)
            results.close()
        go_on.set()
    assert len(begun) <= 2
