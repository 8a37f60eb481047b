"""The photos in work, so many at a time, and the few that wait for their turn."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

WAITING = 16  # photos that may wait; one more is refused


class Busy(Exception):
    """As many photos wait as may."""


class ClientLeft(Exception):
    """The client has closed its connection, and wants no answer."""


class Queue:
    """Work in threads, `workers` at a time. Make it in the event loop that uses it."""

    def __init__(self, workers: int) -> None:
        self.pool = ThreadPoolExecutor(workers)
        self.places = workers + WAITING
        self.turns = asyncio.Semaphore(workers)

    async def run(self, work: Callable[[], bytes], left: "asyncio.Future[Any]") -> bytes:
        """Wait for a turn, and return what `work` returns in its thread.

        Raises Busy at once if all places are taken, and ClientLeft if `left` is done before the
        turn has come. What has begun is finished, so that no more than `workers` ever run.
        """
        if not self.places:
            raise Busy
        self.places -= 1
        turn: asyncio.Future[Any] = asyncio.ensure_future(self.turns.acquire())
        try:
            await asyncio.wait([turn, left], return_when=asyncio.FIRST_COMPLETED)
            if left.done():
                raise ClientLeft
            return await asyncio.get_running_loop().run_in_executor(self.pool, work)
        finally:
            self.places += 1
            if not turn.cancel():  # the turn had come
                self.turns.release()
