"""What a flight asks the origin, and what it makes of the answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from edge.errors import EdgeError, OriginError, OriginTimeout, StoreFull
from edge.fill.alone import hand_over, pass_all
from edge.fill.asking import Answer, Asked, Meaning, first_ask, interpret, lower_ask, selecting_names
from edge.fill.fetch import Fetch
from edge.fill.origin import OriginResponse
from edge.fill.records import contradicts, draft_record, freshened_record, unstored_fields
from edge.fill.reuse import is_rigid, may_replace_error
from edge.fill.rules import Rules, rules_for
from edge.http.fields import Fields
from edge.http.statuses import STALE_IF_ERROR
from edge.http.validators import strongest
from edge.metrics import FILLS, REVALIDATIONS
from edge.store.record import Record
from edge.store.variants import choose, find
from edge.store.writer import ObjectWriter
from edge.terms import Outcome, Reason

if TYPE_CHECKING:
    from edge.fill.flight import Flight
    from edge.fill.follower import Follower


class Enquiry:
    def __init__(self, flight: Flight) -> None:
        self._flight = flight
        self._base = flight.base
        self._site = flight.site
        self._want = flight.want

    async def run(self) -> None:
        """Ask the origin; where it fails, what is stored may have to do, though it is stale (RFC 9111, 4.2.4)."""
        flight = self._flight
        stored = flight.record
        try:
            await self._ask()
        except OriginError as error:
            if flight.writer is not None or stored is None or stored is not flight.record:
                raise
            if self._makes_do(stored):
                self._base.failed(error, self._want.url, self._site.name)
                self._base.hold_off(flight.key)
                await flight.resume(stored, Outcome.STALE)
            elif is_rigid(stored):
                raise OriginTimeout(error.cause, error.reason) from error
            else:
                raise

    def _may_have_stale(self, follower: Follower, stored: Record) -> bool:
        return may_replace_error(stored, follower.directives, self._site, self._base.clock.wall())

    def _makes_do(self, stored: Record) -> bool:
        """Whether stale bytes may stand in for those that wait; who may not have them asks for itself."""
        flight = self._flight
        refused = [one for one in flight.followers if not self._may_have_stale(one, stored)]
        if refused and len(refused) == len(flight.followers):
            return False
        flight.followers = [one for one in flight.followers if one not in refused]
        self._base.pass_each(refused)
        return True

    async def _ask(self, asked: Asked | None = None) -> None:
        """Ask the origin until it answers; an answer that is stored is received to its end."""
        flight, want, stored = self._flight, self._want, self._flight.record
        fill = self._base.config.fill
        flight.has_asked = True
        # an outage is not waited for while there is something to give instead
        has_substitute = stored is not None and any(self._may_have_stale(one, stored) for one in flight.followers)
        attempts = min(fill.attempts, len(self._site.origins)) if has_substitute else fill.attempts
        conditions = strongest(Fields(stored.fields)).conditional_fields() if stored is not None else ()
        asked = asked or first_ask(want.start, want.end, fill.slice_size)
        for attempt in range(attempts):
            if attempt:
                await asyncio.sleep(self._base.backoff_s(attempt))
            fields = [*flight.fields, *conditions]
            if (value := asked.field()) is not None:
                fields.append(("Range", value))
            try:
                async with self._base.origins.request(
                    self._site, "GET", want.host, want.target, fields, attempt=attempt, hinted=flight.hinted
                ) as response:
                    if response.status >= 500 and attempt + 1 < min(attempts, len(self._site.origins)):
                        continue
                    flight.status = response.status
                    if has_substitute and response.status in STALE_IF_ERROR:
                        raise OriginError(f"the origin answered {response.status}", Reason.ORIGIN_STATUS)
                    await self._take(asked, response, stored if conditions else None)
                    return
            except OriginError as error:
                if flight.writer is not None or not error.retryable or attempt + 1 == attempts:
                    raise
                self._base.retrying(error, want.url, attempt + 1)

    async def _take(self, asked: Asked, response: OriginResponse, stored: Record | None) -> None:
        flight = self._flight
        rules = rules_for(self._site, response.status, response.fields)
        request = Fields(flight.fields)
        answer = interpret(asked, response.status, request, response.fields, rules, revalidating=stored is not None)
        match answer.meaning:
            case Meaning.BROKEN:
                raise OriginError(f"{answer.why} (status {response.status})", Reason.ORIGIN_PROTOCOL)
            case Meaning.NOT_MODIFIED:
                assert stored is not None
                await self._revalidated(stored, response)
            case Meaning.STORE:
                await self._store(answer, response, rules)
            case Meaning.BEYOND:
                await self._ask(lower_ask(asked, self._base.config.fill.slice_size))
            case Meaning.NO_RANGES:
                pass_all(flight, is_personal=answer.is_personal)
            case Meaning.PASS:
                await hand_over(flight, response, is_personal=answer.is_personal)

    async def _revalidated(self, stored: Record, response: OriginResponse) -> None:
        """What is stored is still true, if it is still there and it is what the origin speaks of."""
        flight = self._flight
        before = flight.current(stored)
        if before is None or contradicts(stored, response):
            flight.let_go_of_stored()
            flight.record = None
            await self._ask()
            return
        self._base.page.add(REVALIDATIONS)
        flight.record = freshened_record(before, response, self._site)
        if not flight.is_obsolete:
            self._base.store.publish(flight.key, flight.record, before)
        await flight.resume(flight.record, Outcome.REVALIDATED)

    async def _store(self, answer: Answer, response: OriginResponse, rules: Rules) -> None:
        flight, store, url = self._flight, self._base.store, self._want.url
        fill = self._base.config.fill
        try:
            self._select(selecting_names(response.fields, self._site))
            primary = self._want.key if flight.key != self._want.key else b""
            draft = draft_record(answer, response, rules, fill.slice_size, primary)
            expected = answer.size if answer.size >= 0 else fill.finish
            record, fd, disk = await store.create(flight.key, url, draft, expected)
        except EdgeError as error:
            # no place to keep it is no reason not to serve it
            self._base.failed(error, url, self._site.name)
            if response.status == 206:
                pass_all(flight)
            else:
                await hand_over(flight, response)
            return
        flight.also = unstored_fields(record, response)
        flight.let_go_of_stored()
        self._base.page.add(FILLS)
        writer = ObjectWriter(store, flight.key, url, record, fd, disk, parts=flight.joins(record))
        if flight.is_obsolete:
            writer.drop()
        await flight.enter(writer)
        # the answer to a suffix begins within a slice: what lies before the first whole one is not kept
        first = -(-answer.start // record.slice_size) * record.slice_size if answer.start else 0
        fetch = Fetch(flight, first, answer.end if answer.size >= 0 else None)
        fetch.skip = first - answer.start
        fetch.is_sure = True
        await flight.receive_first(fetch, response)

    def _select(self, names: tuple[str, ...]) -> None:
        """Go on as the flight of one variant; who wants another one begins again. Raises StoreFull."""
        flight, want, store = self._flight, self._want, self._base.store
        key = choose(store, want.key, want.url, Fields(want.fields), names)
        if key is None:
            raise StoreFull(f"{want.url}: more variants than are kept of a resource")
        if key == flight.key:
            return
        self._base.rekey(flight, key)
        others = [one for one in flight.followers if find(store, want.key, want.url, one.request)[0] != key]
        flight.followers = [one for one in flight.followers if one not in others]
        asyncio.get_running_loop().call_soon(self._base.dispatch, others)
