"""One request's worth of a fill: bytes of an object from an origin, resumed by range where it breaks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from edge.errors import EdgeError, OriginChanged, OriginError, StoreFull
from edge.fill.asking import Asked
from edge.fill.origin import OriginResponse
from edge.http.fields import Fields
from edge.http.ranges import parse_content_range
from edge.http.validators import strongest
from edge.metrics import FILL_RESUMES
from edge.store.writer import SliceStream
from edge.terms import Reason

if TYPE_CHECKING:
    from edge.fill.flight import Flight


class Fetch:
    """Bytes [start, end) of a flight's object; `end` is None while the body's length is unknown, and may come closer
    when a second fetch takes over what lies far ahead.
    """

    def __init__(self, flight: Flight, start: int, end: int | None) -> None:
        assert flight.writer is not None
        self._flight = flight
        self._writer = flight.writer
        self._stream: SliceStream = flight.writer.stream(start)
        self.start = start
        self.end = end
        self.skip = 0
        """Bytes of the answer before `start`, not kept."""
        self.limit: int | None = None
        """Where to stop, at a slice's end, for want of anyone who wants more; None: at the end."""
        self.is_sure = False
        """Whether the origin has answered, with the same object."""
        self.broken: EdgeError | None = None
        """Why the first answer broke off."""

    @property
    def position(self) -> int:
        return self._stream.position

    def serves(self, start: int, end: int | None) -> bool:
        """Whether bytes still to come lie in [start, end)."""
        return (end is None or end > self.position) and (self.end is None or start < self.end)

    def enough(self, finish: int) -> int | None:
        """The limit when nobody wants more: none if at most `finish` bytes are left."""
        if self.end is None:
            return self.position + finish
        return None if self.end - self.position <= finish else self.position

    async def run(self) -> None:
        """Fetch by range until all is here. Raises the last error when the attempts are spent."""
        base = self._flight.base
        failures = 0
        if self.broken is not None:
            failures = 1
            if failures >= base.config.fill.attempts:
                raise self.broken
            self._check_resumable(self.broken)
            base.retrying(self.broken, self._flight.want.url, failures)
        while not self._done():
            if failures:
                base.page.add(FILL_RESUMES)
                await asyncio.sleep(base.backoff_s(failures))
            before = self.position
            try:
                await self._request(failures)
            except OriginError as error:
                # progress earns new patience: what counts is tries without a byte
                failures = 1 if self.position > before else failures + 1
                if not error.retryable or failures >= base.config.fill.attempts:
                    raise
                self._check_resumable(error)
                base.retrying(error, self._flight.want.url, failures)

    def _check_resumable(self, error: EdgeError) -> None:
        if self.end is None or self._validator() is None or not error.retryable:
            raise error

    def _validator(self) -> str | None:
        record = self._writer.record
        return strongest(Fields(record.fields)).strong_for_range(record.field("date"))

    async def _request(self, attempt: int) -> None:
        flight = self._flight
        validator = self._validator()
        asked = Asked(self.position, self.end)
        fields = [*flight.fields]
        if (value := asked.field()) is not None:
            fields.append(("Range", value))
            if validator is not None:
                fields.append(("If-Range", validator))
        async with flight.base.origins.request(
            flight.site, "GET", flight.want.host, flight.want.target, fields, attempt=attempt
        ) as response:
            flight.status = response.status
            self._verify(asked, response)
            self.is_sure = True
            flight.answered()
            await self.receive(response)

    def _verify(self, asked: Asked, response: OriginResponse) -> None:
        """The answer must be the same object, from where we stand."""
        record = self._writer.record
        if response.status >= 500:
            raise OriginError(f"the origin answered {response.status}", Reason.ORIGIN_STATUS)
        ours, theirs = strongest(Fields(record.fields)), strongest(response.fields)
        same = ours.etag == theirs.etag if ours.etag is not None else ours.last_modified == theirs.last_modified
        if response.status == 206:
            part = parse_content_range(response.fields.combined("content-range") or "")
            if part is None or part.start != asked.start or part.end is None or (asked.end or part.end) < part.end:
                raise OriginError("another range than was asked for", Reason.ORIGIN_RANGE)
            if response.length not in (None, part.end - part.start):
                raise OriginError("Content-Length and Content-Range disagree", Reason.ORIGIN_RANGE)
            if part.size == record.size and same:
                self.skip = 0
                return
        elif response.status == 200 and same and response.length == record.size:
            self.skip = asked.start  # an origin without ranges sends all of it again
            return
        raise OriginChanged(f"status {response.status}, ETag {theirs.etag}, where {ours.etag} was begun")

    async def receive(self, response: OriginResponse) -> None:
        """Put the answer's body into the file. Raises OriginError when it ends early, DiskError when it cannot."""
        writer, flight = self._writer, self._flight
        async for chunk in response.chunks():
            data = chunk
            if self.skip:
                dropped = min(self.skip, len(data))
                self.skip -= dropped
                data = data[dropped:]
            if self.end is not None and self.position + len(data) > self.end:
                data = data[: self.end - self.position]
            if self.end is None and not flight.base.store.accepts(writer.disk, self.position + len(data)):
                raise StoreFull(f"{writer.disk.root}: longer than what is kept there")
            if data:
                before = self.position
                await writer.write(self._stream, data)
                flight.arrived(before, self.position)
            if self._done():
                return
            if self.limit is not None and self.position >= self.limit:
                self._stop_at_slice()
        if self.end is None:
            await writer.finish(self._stream)
            self.end = self.position
        elif not self._done():
            raise OriginError(f"the body ended {self.end - self.position} bytes early", Reason.ORIGIN_RESET)

    def _done(self) -> bool:
        return self.end is not None and self.position >= self.end

    def _stop_at_slice(self) -> None:
        """Nobody wants more: end at the next whole slice, or at once where no part may be kept."""
        if self.end is None or not self._writer.parts:
            raise OriginError("nobody wants it any more", Reason.ORIGIN_ABANDONED)
        slice_size = self._writer.record.slice_size
        self.end = min(self.end, -(-self.position // slice_size) * slice_size)
