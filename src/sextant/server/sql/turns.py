"""Whose turn it is: so many queries at once, so many of one caller, and a queue that is bounded in
length and time. Called by the endpoint."""

import asyncio
import collections
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from sextant.kernel.errors import Busy


class _Caller(NamedTuple):
    person: str
    way: str


class Turns:
    """Turns of one event loop.

    at_once     queries that run
    of_one      of them, by one caller in one way
    of_person   of them, and of those that wait, by one person in all ways: (running, waiting)
    waiting     that wait, longest for `wait_s` seconds
    """

    def __init__(
        self, *, at_once: int, of_one: int, of_person: tuple[int, int], waiting: int, wait_s: float
    ) -> None:
        self._at_once, self._of_one, self._waiting_max, self._wait_s = (
            at_once,
            of_one,
            waiting,
            wait_s,
        )
        self._of_person, self._waiting_of_person = of_person
        self._running: collections.Counter[_Caller] = collections.Counter()
        self._queue: collections.deque[tuple[_Caller, asyncio.Future[None]]] = collections.deque()

    @asynccontextmanager
    async def of(self, person: str, way: str = "") -> AsyncIterator[None]:
        """Wait for a turn, and hold it. Busy when too many wait, or it takes too long."""
        caller = _Caller(person, way)
        if self._may(caller):
            self._running[caller] += 1
        else:
            await self._wait(caller)
        try:
            yield
        finally:
            self._running[caller] -= 1
            if not self._running[caller]:
                del self._running[caller]
            self._next()

    def busy(self) -> tuple[int, int]:
        """Return how many run and how many wait."""
        return self._running.total(), len(self._queue)

    def _may(self, caller: _Caller) -> bool:
        return (
            self._running.total() < self._at_once
            and self._running[caller] < self._of_one
            and sum(count for one, count in self._running.items() if one.person == caller.person)
            < self._of_person
        )

    async def _wait(self, caller: _Caller) -> None:
        mine_wait = sum(one.person == caller.person for one, _ in self._queue)
        if len(self._queue) >= self._waiting_max or mine_wait >= self._waiting_of_person:
            raise Busy(
                "SX-SQL-013",
                f"{self._running.total()} queries run and {len(self._queue)} wait already, "
                f"{mine_wait} of them yours",
                hint="ask again in a moment",
                retry_after_s=1.0,
            )
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (caller, mine)
        self._queue.append(entry)
        try:
            await asyncio.wait({mine}, timeout=self._wait_s)
        except asyncio.CancelledError:
            if mine.done():  # the turn came at the same moment: pass it on
                self._running[caller] -= 1
                self._next()
            else:
                self._queue.remove(entry)
            raise
        if not mine.done():
            self._queue.remove(entry)
            raise Busy(
                "SX-SQL-013",
                f"no turn came within {self._wait_s:g} s: {self._running.total()} queries run",
                hint="ask again in a moment",
                retry_after_s=2.0,
            )

    def _next(self) -> None:
        """Give free turns to those who wait longest and may have one."""
        for entry in [one for one in self._queue if not one[1].done()]:
            caller, future = entry
            if self._may(caller):
                self._running[caller] += 1
                self._queue.remove(entry)
                future.set_result(None)
