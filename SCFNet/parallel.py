"""Work on many files side by side: results in order, flat memory, as many workers as cores."""

import os
from collections import deque
from concurrent.futures import Executor, Future, ThreadPoolExecutor
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
    function: Callable[[Item], Result],
    items: Iterable[Item],
    ahead: Optional[int] = None,
    pool: Optional[Executor] = None,
) -> Iterator[Result]:
    """Yield `function(item)` of each of `items`, in order, while those that follow are worked on.

    On an exception or Ctrl-C, or if the iteration ends early, what has not begun is dropped.

    Args:
        function: for a pool of processes one that pickles, as its items and results must.
        items: taken one by one, no sooner than they are worked on.
        ahead: how many may be under way beyond the one that is yielded; default: twice as many as
            `workers()`.
        pool: of threads or processes, left open; default: `workers()` threads.
    """
    if pool is None:
        with ThreadPoolExecutor(workers()) as threads:
            yield from in_parallel(function, items, ahead, threads)
        return
    ahead = 2 * workers() if ahead is None else ahead
    pending: Deque[Future[Result]] = deque()
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
