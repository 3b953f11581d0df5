"""The manager's desk: every request of every worker arrives here, and one flight an object leaves."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Coroutine, Sequence
from typing import Any

from edge.errors import EdgeError
from edge.fill.asking import wanted_span
from edge.fill.base import Base
from edge.fill.flight import Flight
from edge.fill.follower import Client, Follower, same_object
from edge.fill.messages import FromWorker, Hot, Leave, Lost, Opened, Uploaded, Want
from edge.fill.passing import pass_request
from edge.logs import get_logger
from edge.metrics import FILLS_COLLAPSED
from edge.store.mover import Mover
from edge.store.record import Held, Record
from edge.terms import Outcome

_log = get_logger()


class Flights:
    """All flights, by key; all pass-throughs."""

    def __init__(self, base: Base, mover: Mover) -> None:
        self._base = base
        self._mover = mover
        self._flights: dict[bytes, Flight] = {}
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._passing: dict[tuple[int, int], tuple[asyncio.Task[None], asyncio.Event]] = {}
        base.dispatch = self._dispatch
        base.pass_each = self._pass_each

    def __len__(self) -> int:
        return len(self._flights)

    def describe(self) -> list[dict[str, object]]:
        """For the status page: what is in the air."""
        return [
            {
                "url": flight.want.url,
                "followers": len(flight.followers),
                "fetches": [[fetch.start, fetch.position, fetch.end] for fetch in flight.fetches],
            }
            for flight in list(self._flights.values())[:100]
        ]

    def receive(self, client: Client, message: FromWorker, descriptors: list[int]) -> None:
        """A worker's message."""
        match message:
            case Want():
                self._request(Follower(client, message), descriptors[0] if descriptors else None)
                return
            case Leave():
                self._leave(client, message.id)
            case Uploaded():
                passing = self._passing.get((id(client), message.id))
                if passing is not None:
                    passing[1].set()
            case Hot():
                self._mover.hot(message.key)
            case Lost():
                self._lost(message)
        for fd in descriptors:
            os.close(fd)

    def _leave(self, client: Client, request: int) -> None:
        passing = self._passing.get((id(client), request))
        if passing is not None:
            passing[0].cancel()
            return
        for flight in self._flights.values():
            if flight.leave(client, request):
                return

    def gone(self, client: Client) -> None:
        """A worker died or was replaced."""
        for (of, _), (task, _) in list(self._passing.items()):
            if of == id(client):
                task.cancel()
        for flight in self._flights.values():
            flight.leave_all(client)

    def _dispatch(self, followers: Sequence[Follower]) -> None:
        for follower in followers:
            self._request(follower, None)

    def _pass_each(self, followers: Sequence[Follower]) -> None:
        for follower in followers:
            self._pass(follower, None)

    def _request(self, follower: Follower, body_fd: int | None) -> None:
        """What becomes of a request is decided here, at once; what it takes is done in a task."""
        want = follower.want
        base = self._base
        # a delivery that has begun cannot be given an answer with a head of its own
        if not want.shared or (base.is_bypassed(want.key) and want.continues is None):
            self._alone(follower, body_fd)
            return
        flight = self._flights.get(want.key)
        if flight is not None and not flight.ended:
            base.page.add(FILLS_COLLAPSED)
            flight.join(follower)
            return
        record = base.store.lookup(want.key)
        fresh = record is not None and record.fresh_until > base.clock.wall()
        if record is not None and fresh and self._holds(record, want):
            self._spawn(self._hand(follower, record))
            return
        self._fly(follower, record, fresh=fresh)

    def _alone(self, follower: Follower, body_fd: int | None) -> None:
        want = follower.want
        record = self._base.store.lookup(want.key) if want.method == "HEAD" and body_fd is None else None
        if record is not None and record.complete and record.fresh_until > self._base.clock.wall():
            # so new that the worker does not know of it yet
            self._spawn(self._hand(follower, record))
            return
        self._pass(follower, body_fd)

    def _pass(self, follower: Follower, body_fd: int | None) -> None:
        uploaded = asyncio.Event()
        name = (id(follower.client), follower.want.id)
        task = self._spawn(pass_request(self._base, follower.client, follower.want, body_fd, uploaded))
        self._passing[name] = task, uploaded
        task.add_done_callback(lambda _: self._passing.pop(name, None))

    def _fly(self, follower: Follower, record: Record | None, *, fresh: bool) -> None:
        base = self._base
        key = follower.want.key
        flight = Flight(base, next(self._numbers), base.site(follower.want.site), follower, record, fresh=fresh)
        self._flights[key] = flight
        base.store.busy[key] += 1
        self._spawn(self._run(flight))

    async def _run(self, flight: Flight) -> None:
        busy = self._base.store.busy
        try:
            await flight.run()
        finally:
            if self._flights.get(flight.key) is flight:
                del self._flights[flight.key]
            busy[flight.key] -= 1
            if not busy[flight.key]:
                del busy[flight.key]

    @staticmethod
    def _holds(record: Record, want: Want) -> bool:
        if record.size < 0:
            return False
        if record.held is None:
            return True
        return not Held(record.size, record.slice_size, record.held).missing(*wanted_span(want, record.size))

    async def _hand(self, follower: Follower, record: Record) -> None:
        """All that is wanted is here: hand over the file."""
        base, want = self._base, follower.want
        disk = base.store.disk_of(record)
        try:
            fd = await disk.run(disk.open, want.key, record.generation)
        except OSError as error:
            _log.warning("a file is gone", disk=disk.root, error=str(error))
            self._forget(want.key, record)
            self._request(follower, None)
            return
        try:
            if want.continues is not None and not same_object(want, record):
                base.refuse(follower.client, want, EdgeError("the object is another one now"))
                return
            follower.client.send(Opened(want.id, 0, record, [], Outcome.HIT, disk.tier), (fd,))
        finally:
            os.close(fd)

    def _lost(self, message: Lost) -> None:
        self._base.page.error(message.reason)
        record = self._base.store.index.get(message.key)
        if record is None or record.generation != message.generation or message.key in self._base.store.busy:
            return
        if message.disk in (record.home, record.copy):
            _log.warning("object lost", disk=message.disk, reason=message.reason)
            self._forget(message.key, record, message.disk)

    def _forget(self, key: bytes, record: Record, disk: int | None = None) -> None:
        """Drop a place that failed; the object too, unless it lies elsewhere."""
        store = self._base.store
        if store.index.get(key) != record:
            return
        if record.copy >= 0 and (disk is None or disk == record.copy):
            store.uncopy(key, record)
        else:
            store.drop(key, record)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a fill broke", exc_info=error)

    async def close(self) -> None:
        """Cancel everything in the air; nothing begins again."""
        self._base.dispatch = self._base.pass_each = lambda _: None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
