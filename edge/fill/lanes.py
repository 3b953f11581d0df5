"""Who may ask an origin next: demand before prefill before repair, a bounded number at a time."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from enum import IntEnum

from edge.errors import Overloaded

_WAITING_MAX = 20_000
_KEPT_FOR_DEMAND = 4
"""A fourth of an origin's requests are never given to the lower lanes: a viewer's miss need not wait for one to end."""


class Lane(IntEnum):
    """In their order: who waits in a lower one goes after all in a higher one."""

    DEMAND = 0
    PREFILL = 1
    REPAIR = 2


class Lanes:
    """Requests under way and waiting, by origin."""

    def __init__(self, most: int) -> None:
        self._most = most
        """Requests to one origin at a time."""
        self._running: Counter[str] = Counter()
        self._low: Counter[str] = Counter()
        """Those of the running that are not demand."""
        self._waiting: dict[str, list[tuple[Lane, int, asyncio.Future[None]]]] = {}
        self._numbers = itertools.count()

    def running(self, origin: str) -> int:
        return self._running[origin]

    def waiting(self, origin: str) -> int:
        return sum(not future.done() for _, _, future in self._waiting.get(origin, ()))

    @contextlib.asynccontextmanager
    async def place(self, origin: str, lane: Lane) -> AsyncIterator[None]:
        """Wait for one's turn, and hold a place for as long as the request takes. Raises Overloaded."""
        if self._waiting.get(origin) or not self._has_room(origin, lane):
            await self._turn(origin, lane)
        else:
            self._enter(origin, lane)
        try:
            yield
        finally:
            self._leave(origin, lane)

    def _has_room(self, origin: str, lane: Lane) -> bool:
        if self._running[origin] >= self._most:
            return False
        return lane is Lane.DEMAND or self._low[origin] < max(1, self._most - self._most // _KEPT_FOR_DEMAND)

    def _enter(self, origin: str, lane: Lane) -> None:
        self._running[origin] += 1
        self._low[origin] += lane is not Lane.DEMAND

    def _leave(self, origin: str, lane: Lane) -> None:
        self._running[origin] -= 1
        self._low[origin] -= lane is not Lane.DEMAND
        self._let_in(origin)

    async def _turn(self, origin: str, lane: Lane) -> None:
        queue = self._waiting.setdefault(origin, [])
        if len(queue) >= _WAITING_MAX:
            raise Overloaded(f"{origin}: {len(queue)} requests wait already")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(queue, (lane, next(self._numbers), future))
        self._let_in(origin)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():  # let in, and gone in the same moment
                self._leave(origin, lane)
            raise

    def _let_in(self, origin: str) -> None:
        queue = self._waiting.get(origin)
        while queue:
            lane, _, future = queue[0]
            if not future.done():
                if not self._has_room(origin, lane):
                    return
                self._enter(origin, lane)
                future.set_result(None)
            heapq.heappop(queue)
        self._waiting.pop(origin, None)
