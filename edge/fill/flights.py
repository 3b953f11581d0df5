"""The manager's desk: every request of every worker arrives here, and one flight an object leaves."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Coroutine, Sequence
from typing import Any

from edge.config import Site
from edge.errors import EdgeError, LoopDetected, OnlyIfCached
from edge.fill.asking import wanted_span
from edge.fill.base import Base
from edge.fill.flight import Flight
from edge.fill.follower import Client, Follower, Nobody, same_object
from edge.fill.messages import FromWorker, Hot, Leave, Lost, Opened, Uploaded, Want
from edge.fill.passing import pass_request
from edge.fill.reuse import may_replace_error, verdict
from edge.http.cachestatus import Forward
from edge.http.freshness import Reuse, ReuseReason, only_if_cached
from edge.http.via import is_looping
from edge.logs import get_logger
from edge.metrics import FILLS_COLLAPSED
from edge.store.mover import Mover
from edge.store.record import Held, Record
from edge.store.variants import find, settle
from edge.terms import Outcome

_FORWARDED = {
    ReuseReason.REQUEST_NO_CACHE: Forward.REQUEST,
    ReuseReason.REQUEST_MAX_AGE: Forward.REQUEST,
    ReuseReason.REQUEST_MIN_FRESH: Forward.REQUEST,
}
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
        base.rekey = self._rekey
        base.invalidate = self._invalidate

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
        site = base.site(want.site)
        if is_looping(follower.request, base.origins.loop_id):
            base.refuse(follower.client, want, LoopDetected(f"through {base.origins.loop_id} again"))
            if body_fd is not None:
                os.close(body_fd)
            return
        is_head = want.method == "HEAD" and body_fd is None
        if not want.shared and not is_head:
            follower.forward = Forward.METHOD
            self._pass(follower, body_fd)
            return
        key, record = find(base.store, want.key, want.url, follower.request)
        is_usable, is_fresh = want.continues is not None, False
        if record is not None:
            found = verdict(record, follower.directives, site, base.clock.wall())
            follower.forward = _FORWARDED.get(found.reason, Forward.STALE) if found.reason else Forward.PARTIAL
            is_fresh = found.reuse is Reuse.FRESH
            is_usable = is_usable or is_fresh or found.reuse is Reuse.STALE_ALLOWED
            if is_usable and self._holds(record, want):
                self._spawn(self._hand(follower, key, record, Outcome.HIT if is_fresh else Outcome.STALE))
                if found.reason is ReuseReason.STALE_WHILE_REVALIDATE:
                    self._refresh(follower, key, record)
                return
        elif key != want.key:
            follower.forward = Forward.VARY_MISS
        if want.continues is None and self._is_settled_alone(follower, site, key, record):
            return
        flight = self._flights.get(key)
        if flight is not None and flight.is_open_to_all:
            base.page.add(FILLS_COLLAPSED)
            flight.join(follower)
            return
        self._fly(follower, key, record, fresh=is_usable)

    def _is_settled_alone(self, follower: Follower, site: Site, key: bytes, record: Record | None) -> bool:
        """Deal with what no flight is for: who takes nothing but what is here, and who has to ask for itself."""
        base, want = self._base, follower.want
        if site.request_directives and only_if_cached(follower.directives):
            follower.fail(OnlyIfCached())
        elif record is not None and want.shared and base.is_held_off(key) and self._is_left_to(follower, site, record):
            # the origin failed a moment ago
            self._spawn(self._hand(follower, key, record, Outcome.STALE))
        elif not want.shared or base.is_bypassed(want.key):
            self._pass(follower, None)
        elif site.request_directives and follower.directives.has("no-store"):
            follower.forward = Forward.REQUEST
            self._pass(follower, None)
        else:
            return False
        return True

    def _is_left_to(self, follower: Follower, site: Site, record: Record) -> bool:
        now = self._base.clock.wall()
        return self._holds(record, follower.want) and may_replace_error(record, follower.directives, site, now)

    def _refresh(self, follower: Follower, key: bytes, record: Record) -> None:
        """Bring what was given stale up to date, with nobody waiting (RFC 5861, 3)."""
        if key not in self._flights and not self._base.is_held_off(key):
            self._fly(Follower(Nobody(), follower.want), key, record, fresh=False)

    def _pass(self, follower: Follower, body_fd: int | None) -> None:
        uploaded = asyncio.Event()
        name = (id(follower.client), follower.want.id)
        task = self._spawn(pass_request(self._base, follower, body_fd, uploaded))
        self._passing[name] = task, uploaded
        task.add_done_callback(lambda _: self._passing.pop(name, None))

    def _rekey(self, flight: Flight, key: bytes) -> None:
        """A flight turned out to be one of a variant."""
        self._ended(flight)
        flight.key = key
        self._begun(flight)

    def _begun(self, flight: Flight) -> None:
        self._flights[flight.key] = flight
        self._base.store.busy[flight.key] += 1

    def _ended(self, flight: Flight) -> None:
        busy = self._base.store.busy
        if self._flights.get(flight.key) is flight:
            del self._flights[flight.key]
        busy[flight.key] -= 1
        if not busy[flight.key]:
            del busy[flight.key]

    def _invalidate(self, key: bytes) -> None:
        """What is stored of a resource is not true any more, nor what is on its way."""
        store = self._base.store
        for flight in self._flights.values():
            if flight.want.key == key:
                flight.invalidate()
        record = store.index.get(key)
        if record is not None:
            store.drop(key, record)

    def _fly(self, follower: Follower, key: bytes, record: Record | None, *, fresh: bool) -> None:
        base = self._base
        site = base.site(follower.want.site)
        flight = Flight(base, next(self._numbers), site, key, follower, record, fresh=fresh)
        self._begun(flight)
        self._spawn(self._run(flight))

    async def _run(self, flight: Flight) -> None:
        try:
            await flight.run()
        finally:
            self._ended(flight)
            settle(self._base.store, flight.key, flight.want.key)

    @staticmethod
    def _holds(record: Record, want: Want) -> bool:
        if record.size < 0:
            return False
        if record.held is None:
            return True
        return not Held(record.size, record.slice_size, record.held).missing(*wanted_span(want, record.size))

    async def _hand(self, follower: Follower, key: bytes, record: Record, outcome: Outcome) -> None:
        """All that is wanted is here: hand over the file."""
        base, want = self._base, follower.want
        disk = base.store.disk_of(record)
        try:
            fd = await disk.run(disk.open, key, record.generation)
        except OSError as error:
            _log.warning("a file is gone", disk=disk.root, error=str(error))
            self._forget(key, record)
            self._request(follower, None)
            return
        try:
            if want.continues is not None and not same_object(want, record):
                base.refuse(follower.client, want, EdgeError("the object is another one now"))
                return
            follower.client.send(Opened(want.id, 0, record, [], outcome, disk.tier, key), (fd,))
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
