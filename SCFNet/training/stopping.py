"""Requests to stop a run: Ctrl-C, SIGTERM, and SIGHUP of a terminal that is closed."""

import signal
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List


@contextmanager
def stop_requests() -> Iterator[List[int]]:
    """Collect the numbers of the signals that come within the block.

    A second Ctrl-C acts at once; a second SIGTERM does not: `paddle.distributed.launch` sends
    three. A SIGHUP that is ignored, as under nohup, stays so.
    """
    came: List[int] = []

    def note(number: int, _: Any) -> None:
        came.append(number)
        if number == signal.SIGINT:
            signal.signal(number, before[number])

    handled = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        handled.append(signal.SIGHUP)
    before: Dict[int, Any] = {number: signal.signal(number, note) for number in handled}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
