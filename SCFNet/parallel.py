"""Threads that share the work on many files, in order and with flat memory."""

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, Deque, Iterable, Iterator, Optional, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """Count the CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def workers() -> int:
    """Count the threads to share the work: one more than there are cores, as one waits for files;
    not above nine, as each holds a photo.
    """
    return min(8, cores()) + 1


def in_parallel(
    function: Callable[[Item], Result], items: Iterable[Item], ahead: Optional[int] = None
) -> Iterator[Result]:
    """Do `map` by threads, in order, with at most `ahead` items in flight (default: twice as many
    as threads); on an exception or Ctrl-C those that have not begun are dropped.
    """
    ahead = 2 * workers() if ahead is None else ahead
    pending: Deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers()) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
