"""Timing: ways that take turns, so that other work weighs on all, and a process of its own."""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Callable, Dict, List, Mapping

import numpy as np

from SCFNet.errors import InputError
from SCFNet.packages import why_not_imported

Way = Callable[[], object]


def time_in_turns(
    ways: Mapping[str, Way], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> Dict[str, np.ndarray]:
    """Call each way in turn and return the seconds of its calls, [rounds], by name.

    A first call of each does not count. `clock` gives seconds; `time.process_time` counts the
    processor's alone.
    """
    times: Dict[str, List[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            start = clock()
            way()
            if turn:
                times[name].append(clock() - start)
    return {name: np.array(seconds) for name, seconds in times.items()}


def seconds_per_call(call: Way, seconds: float) -> np.ndarray:
    """Time calls [n >= 1] for about `seconds` in all, after one that does not count."""
    call()
    times: List[float] = []
    while not times or sum(times) < seconds:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return np.array(times)


def _call(function: Callable[..., Any], *args: object) -> Any:
    try:
        return function(*args)
    except BaseException as error:
        fault = why_not_imported(error)  # told by what does not pass to another process
        if fault is None:
            raise
        raise InputError(fault) from error


def in_own_process(function: Callable[..., Any], *args: object) -> Any:
    """Return `function(*args)`, called in a new process: its peak memory is that of the call."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(_call, function, *args).result()
