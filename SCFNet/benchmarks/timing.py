"""Timing ways to do the same, which take turns, so that other work on the machine weighs on all."""

import time
from typing import Callable, Dict, List, Mapping

import numpy as np

Way = Callable[[], object]


def time_in_turns(
    ways: Mapping[str, Way],
    rounds: int,
    repeats: int = 1,
    warm_up: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> Dict[str, np.ndarray]:
    """Call each way in turn and return the seconds of its calls, [rounds * repeats], by name.

    Args:
        ways: what to time, by name.
        rounds: how often it is each one's turn.
        repeats: calls in a turn.
        warm_up: begin each turn with a call that does not count.
        clock: seconds now; `time.process_time` counts computing alone.
    """
    times: Dict[str, List[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            if warm_up:
                way()
            for _ in range(repeats):
                start = clock()
                way()
                times[name].append(clock() - start)
    return {name: np.array(seconds) for name, seconds in times.items()}


def median_computing(first: Way, second: Way, rounds: int, repeats: int = 1) -> np.ndarray:
    """Measure the median seconds [2] that a call of each of two ways computes; they take turns."""
    ways = {"first": first, "second": second}
    times = time_in_turns(ways, rounds, repeats, warm_up=True, clock=time.process_time)
    return np.median(list(times.values()), axis=1)
