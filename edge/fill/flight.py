"""A flight: the one fill of an object, and all who follow it.

Life of a flight:

    phase      what is so                                   who may join
    asking     a request is at the origin, no head yet      anyone: waits for the head
    filling    the object file is there, fetches run        anyone: is opened at once, missing slices are fetched
    landing    it failed, its fetches come to an end        nobody: who comes waits for the end, and begins again
    ended      no fetch runs, or only one client is served  nobody: the next request looks in the store first

Single flight: worker A and worker B ask for the same cold object.

    A: Want ── no record, no flight ── flight starts ── asks the origin
    B: Want ── no record, but a flight ── joins
    origin's head ── file made ── Opened to A and B ── each follows the file as Arrived comes

Between B's look-up and its joining nothing awaits, so there is no moment in which B could start a second one.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Any

from edge.config import Site
from edge.errors import DiskError, EdgeError, OriginChanged, OriginError, StoreFull
from edge.fill.asking import shared_fields, wanted_span
from edge.fill.base import Base, as_edge_error
from edge.fill.enquiry import Enquiry
from edge.fill.fetch import Fetch
from edge.fill.follower import Client, Follower, same_object
from edge.fill.gaps import fetches_for
from edge.fill.messages import Arrived, Fate, Hinted, Landed, Opened, Pair
from edge.fill.origin import OriginResponse
from edge.fill.reuse import verdict
from edge.http.fields import Fields
from edge.http.freshness import Reuse
from edge.http.validators import strongest
from edge.store.record import Record
from edge.store.writer import ObjectWriter
from edge.terms import Outcome, Reason


class Flight:
    def __init__(
        self, base: Base, number: int, site: Site, key: bytes, first: Follower, record: Record | None, *, fresh: bool
    ) -> None:
        self.base = base
        self.number = number
        self.site = site
        self.want = first.want
        self.key = key
        """The object's: the resource's own, or one variant's."""
        self.first = first
        first.asked_before = False
        self.followers: list[Follower] = [first]
        self.fetches: list[Fetch] = []
        self.writer: ObjectWriter | None = None
        self.ended = False
        self.record = record
        self._fresh = fresh
        self.outcome = Outcome.MISS
        self._read_fd = -1
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: EdgeError | None = None
        self._is_settling = False
        self._has_opened = False
        self.also: tuple[Pair, ...] = ()
        self._late: list[Follower] = []
        """Who came while it was landing, or may not have this answer."""
        self.has_asked = False
        self.is_obsolete = False
        self.status = 0
        """The origin's answer's."""
        self.fields = shared_fields(first.want.fields, self.site)

    # followers

    @property
    def is_landing(self) -> bool:
        return self._is_settling or self._failure is not None

    @property
    def is_open_to_all(self) -> bool:
        """Whether who comes now may join."""
        return not self.ended and not self.is_obsolete

    def invalidate(self) -> None:
        """What it brings is no longer true: those it is for get it, and nobody else."""
        self.is_obsolete = True
        if self.writer is not None:
            self.writer.drop()

    def hinted(self, status: int, fields: tuple[Pair, ...]) -> None:
        """The origin says something ahead of its answer (RFC 8297): passed on to those who wait, never stored."""
        for follower in self.followers:
            if not follower.is_open:
                follower.client.send(Hinted(follower.want.id, status, fields))

    def join(self, follower: Follower) -> None:
        if self.is_landing:
            self._late.append(follower)
            return
        follower.asked_before = self.has_asked
        self.followers.append(follower)
        if self.writer is not None:
            self._open(follower)

    def leave(self, client: Client, request: int) -> bool:
        """A client needs no more; whether it was one of ours."""
        for followers in (self.followers, self._late):
            for follower in followers:
                if follower.want.id == request and follower.client is client:
                    followers.remove(follower)
                    self._shorten()
                    return True
        return False

    def leave_all(self, client: Client) -> None:
        """A worker is gone, and its clients with it."""
        self.followers = [follower for follower in self.followers if follower.client is not client]
        self._late = [follower for follower in self._late if follower.client is not client]
        self._shorten()

    def _shorten(self) -> None:
        """What nobody wants any more is fetched only if little is left of it."""
        for fetch in self.fetches:
            wanted = any(fetch.serves(follower.start, follower.end) for follower in self.followers)
            fetch.limit = None if wanted else fetch.enough(self.base.config.fill.finish)

    # the flight itself

    async def run(self) -> None:
        """Fly until nothing is under way. Raises no EdgeError: the followers are told."""
        try:
            if self.record is not None and self._fresh:
                await self.resume(self.record, Outcome.PARTIAL)
            else:
                await Enquiry(self).run()
            while self._tasks:
                await asyncio.wait(self._tasks)
        except Exception as error:
            self._fail(error)
        finally:
            self._is_settling = True
            for task in self._tasks:
                task.cancel()
            while self._tasks:
                await asyncio.wait(self._tasks)
            self._land()

    def _fail(self, error: Exception) -> None:
        """The first failure is what the followers are told; what else runs is of no use now."""
        if self._failure is None:
            self._failure = as_edge_error(error)
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()

    def _land(self) -> None:
        self.ended = True
        failure = self._failure
        if failure is not None:
            self.base.failed(failure, self.want.url, self.site.name)
        if self.writer is not None:
            if isinstance(failure, OriginChanged):
                self.writer.drop()
            message = Landed(self.number, self.writer.record.size, failure.reason if failure else None)
            for client in {id(f.client): f.client for f in self.followers if f.is_open}.values():
                client.send(message)
            self.writer.close()
            os.close(self._read_fd)
        waiting = [follower for follower in self.followers if not follower.is_open]
        if failure is not None and not (isinstance(failure, OriginChanged) and self.writer is not None):
            for follower in waiting:
                follower.fail(failure)
            waiting = []
        # they have nothing yet of what has changed
        for follower in waiting:
            if follower.want.continues is not None:
                follower.fail(OriginChanged())
        self.base.dispatch([one for one in waiting if one.want.continues is None] + self._late)
        self._late = []

    def current(self, record: Record) -> Record | None:
        """A stored object as it stands now: it may have been moved since we looked, or be gone."""
        found = self.base.store.index.get(self.key)
        return found if found is not None and found.generation == record.generation else None

    def let_go_of_stored(self) -> None:
        """What is stored is not true any more."""
        if self.record is not None and (current := self.current(self.record)) is not None:
            self.base.store.drop(self.key, current)

    # filling

    async def receive_first(self, fetch: Fetch, response: OriginResponse) -> None:
        """Open the object to all, and take the body of the first answer to its end."""
        self._enlist(fetch)
        self.open_all()
        await asyncio.wait((self._task(self._receive(fetch, response)),))
        if fetch.broken is not None and not self.is_landing:
            self._task(self._fetch(fetch))

    async def _receive(self, fetch: Fetch, response: OriginResponse) -> None:
        """The body of the first answer; where it breaks, the fetch stays enlisted, to be resumed."""
        try:
            await fetch.receive(response)
        except OriginError as error:
            fetch.broken = error
            return
        except StoreFull as error:
            # only a body whose length was not told can turn out too long: the next who ask get it past the store
            self.base.remember_bypass(self.want.key)
            self._fail(error)
        except Exception as error:
            self._fail(error)
        self.fetches.remove(fetch)

    async def resume(self, record: Record, outcome: Outcome) -> None:
        """Go on with a stored object: all that is missing of what is wanted is fetched."""
        record = self.current(record) or record
        disk = self.base.store.disk_of(record)
        self.outcome = outcome
        try:
            fd = await disk.run(disk.open, self.key, record.generation, write=True)
        except OSError as error:
            self.base.failed(DiskError(f"{disk.root}: {error}", Reason.DISK_LOST_FILE), self.want.url, self.site.name)
            self.let_go_of_stored()
            self.record = None
            await Enquiry(self).run()
            return
        store = self.base.store
        await self.enter(ObjectWriter(store, self.key, self.want.url, record, fd, disk, parts=self.joins(record)))
        self.open_all()

    async def enter(self, writer: ObjectWriter) -> None:
        try:
            self._read_fd = await writer.disk.run(writer.disk.open, self.key, writer.record.generation)
        except OSError as error:
            writer.close()
            raise DiskError(str(error)) from error
        self.writer = writer

    @staticmethod
    def joins(record: Record) -> bool:
        return strongest(Fields(record.fields)).strong_for_range(record.field("date")) is not None

    def open_all(self) -> None:
        for follower in list(self.followers):
            self._open(follower)
        self._has_opened = True
        self._shorten()  # all may have left before the head came

    def _open(self, follower: Follower) -> None:
        """Hand the file to a client, and see to it that what it wants is on its way."""
        writer = self.writer
        assert writer is not None
        record = writer.record
        if follower.asked_before and follower.want.continues is None and not self._may_have(follower, record):
            self._turn_away(follower)
            return
        if follower.want.continues is not None and not same_object(follower.want, record):
            follower.fail(OriginChanged("the object is another one now"))
            self.followers.remove(follower)
            return
        if record.size >= 0:
            follower.start, follower.end = wanted_span(follower.want, record.size)
            self._fetch_missing(follower.start, follower.end)
            if not self._is_sure(follower.start, follower.end):
                return  # until the origin has answered for its first byte: then a failure can still be told as such
        self._hand(follower)

    def _may_have(self, follower: Follower, record: Record) -> bool:
        """Whether one that came after the origin was asked may have the answer: only if it may be reused at all."""
        if self.outcome is Outcome.STALE:
            return True
        return verdict(record, follower.directives, self.site, self.base.clock.wall()).reuse is not Reuse.VALIDATE

    def _turn_away(self, follower: Follower) -> None:
        """It needs an answer of its own: after this flight, or at once where that takes long."""
        assert self.writer is not None
        self.followers.remove(follower)
        if 0 <= self.writer.record.size <= self.base.config.fill.finish:
            self._late.append(follower)
        else:
            self.base.pass_each([follower])

    def _is_sure(self, start: int, end: int) -> bool:
        """Whether the first byte wanted is here, or an answer that brings it."""
        assert self.writer is not None
        assert self.writer.held is not None
        if start >= end or start // self.writer.record.slice_size in self.writer.held:
            return True
        return any(one.is_sure and one.start <= start and (one.end is None or start < one.end) for one in self.fetches)

    def answered(self) -> None:
        """The origin has answered a fetch, and it is the same object: who waited for that has the file now."""
        for follower in self.followers:
            if not follower.is_open and self._is_sure(follower.start, follower.end or 0):
                self._hand(follower)

    def _hand(self, follower: Follower) -> None:
        assert self.writer is not None
        follower.is_open = True
        record, tier, held = self.writer.record, self.writer.disk.tier, self.writer.held
        # who comes when all of it is here has a hit, though the flight is still landing
        is_here = self._has_opened and held is not None and not held.missing(follower.start, follower.end or 0)
        outcome = Outcome.HIT if is_here else self.outcome
        fate = None if is_here else self._fate(follower)
        also = self.also if follower is self.first else ()
        message = Opened(
            follower.want.id, self.number, record, self._runs(), outcome, tier, self.key, fate=fate, also=also
        )
        follower.client.send(message, (self._read_fd,))

    def _fate(self, follower: Follower) -> Fate:
        """What the client is told of how its request was answered."""
        is_stored = self.outcome is not Outcome.STALE and not self.is_obsolete
        return Fate(follower.forward, self.status, stored=is_stored, collapsed=follower is not self.first)

    def _runs(self) -> list[tuple[int, int]]:
        assert self.writer is not None
        runs = self.writer.held.runs() if self.writer.held is not None else []
        return runs + [(fetch.start, fetch.position) for fetch in self.fetches if fetch.position > fetch.start]

    def _fetch_missing(self, start: int, end: int) -> None:
        """Start fetches for the slices of [start, end) that are neither here nor soon to arrive."""
        writer = self.writer
        assert writer is not None
        assert writer.held is not None
        size, slice_size = writer.record.size, writer.record.slice_size
        gaps = [(first * slice_size, min(last * slice_size, size)) for first, last in writer.held.missing(start, end)]
        # parts can only be joined by a strong validator: without one all wait for the one fetch
        reach = self.base.config.fill.reach if writer.parts else None
        for new in fetches_for(gaps, self.fetches, reach=reach):
            if new.cuts is not None:
                new.cuts.end = new.start
            fetch = Fetch(self, new.start, new.end)
            self._enlist(fetch, reserve=new.cuts is None)
            self._task(self._fetch(fetch))
        self._shorten()

    def _enlist(self, fetch: Fetch, *, reserve: bool = True) -> None:
        assert self.writer is not None
        self.fetches.append(fetch)
        if fetch.end is not None and reserve:
            self.writer.reserve(fetch.end - fetch.start)

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _fetch(self, fetch: Fetch) -> None:
        try:
            await fetch.run()
        except Exception as error:
            self._fail(error)
        finally:
            self.fetches.remove(fetch)

    def arrived(self, start: int, end: int) -> None:
        """Tell the workers of bytes that are in the file."""
        message = Arrived(self.number, start, end)
        for client in {id(f.client): f.client for f in self.followers if f.is_open}.values():
            client.send(message)
