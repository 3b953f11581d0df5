"""Sending: bounded turns of sendfile from an open file, behind a flight where one is still filling it.

A connection has one delivery and uses it for one response after the other. Nothing here waits for a disk: what is not
in the page cache is read ahead in the disk's own pool first.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from socket import MSG_MORE
from typing import TYPE_CHECKING

from edge.errors import DiskError
from edge.fill.messages import Fate, Pair
from edge.http.ranges import MultipartLayout
from edge.limits import SEND_TURN_BYTES
from edge.metrics import READ_AHEADS
from edge.serve.objects import FlightView, OpenObject
from edge.store.residency import resident
from edge.terms import Outcome, Reason, Source

if TYPE_CHECKING:
    from edge.serve.connection import Connection

_RESIDENT_S = 1.0
_CHUNK_BYTES = 128 << 10
_GONE = frozenset((errno.EPIPE, errno.ECONNRESET, errno.ETIMEDOUT, errno.ENOTCONN, errno.EBADF))


class Delivery:
    __slots__ = (
        "_after_out",
        "_parts",
        "_sent_before",
        "_tail",
        "_warm_until",
        "also",
        "chunked",
        "connection",
        "end",
        "fate",
        "first_byte_s",
        "generation",
        "is_busy",
        "is_waiting",
        "object",
        "out",
        "outcome",
        "position",
        "source",
        "start",
        "started_s",
        "status",
        "view",
    )

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.fate: Fate | None = None
        """Why the manager was asked, and what came of it; None: it was not."""
        self.also: tuple[Pair, ...] = ()
        """Fields for this response alone."""
        self.is_busy = False
        """A response is under way, or being prepared."""
        self.is_waiting = False
        """It waits for a disk or an origin, not for the client."""
        self.object: OpenObject | None = None
        self.view: FlightView | None = None
        self.out: bytes | memoryview = b""
        self.chunked = False
        self.start = self.position = self.end = 0
        self.generation = 0
        """Counts responses, so that what comes back late finds its own or none."""
        self.status = 0
        self.outcome = Outcome.HIT
        self.source = Source.EDGE
        self.started_s = self.first_byte_s = 0.0
        self._warm_until = 0
        self._parts: list[tuple[bytes, int, int]] = []
        self._tail = b""
        self._sent_before = 0
        self._after_out: Callable[[], None] | None = None

    @property
    def body_bytes(self) -> int:
        """Bytes of the body sent so far, the heads of parts not counted."""
        return self._sent_before + self.position - self.start

    def send_file(self, head: bytes, opened: OpenObject, view: FlightView | None, start: int, end: int) -> None:
        """Send a head and the file's bytes [start, end); the caller has counted itself in `opened.users`."""
        self.object = opened
        self.view = view
        self.start = self.position = start
        self.end = end
        self.chunked = False
        self._warm_until = start
        connection = self.connection
        try:
            # a head whose body is not here yet goes at once: held back, it would wait for 200 ms
            follows = end > start and (view is None or view.reach(start) > start)
            sent = connection.send(head, MSG_MORE if follows else 0)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            connection.client_left()
            return
        self.first_byte_s = connection.monotonic() - self.started_s
        if sent < len(head):
            self.out = head[sent:]
            connection.await_writable()
            return
        if end > start:
            self.pump()
        else:
            connection.delivered()

    def take_over(
        self, head: bytes, head_sent: int, sent: int, opened: OpenObject, status: int, started_s: float
    ) -> None:
        """Go on with a hit of which the socket has not taken everything at once."""
        self.is_busy = True
        self.started_s = started_s
        self.first_byte_s = self.connection.monotonic() - started_s if head_sent else 0.0
        self.outcome, self.source, self.status = Outcome.HIT, opened.source, status
        self.object, self.view = opened, None
        opened.users += 1
        self.chunked = False
        self.start = self._warm_until = 0
        self.position, self.end = sent, opened.size
        if opened.body is not None:  # what `head` holds is all of it
            self.position = self.end
            self._after_out = self.connection.delivered
        self.out = head[head_sent:]
        if self.out or opened.is_memory:
            self.connection.await_writable()
        else:
            self.pump()

    def send_parts(self, head: bytes, opened: OpenObject, view: FlightView | None, layout: MultipartLayout) -> None:
        """Send a head and several ranges as multipart/byteranges, one after the other."""
        self._parts = list(reversed(layout.parts))
        self._tail = layout.tail
        first, start, end = self._parts.pop()
        self.send_file(head + first, opened, view, start, end)

    def _next_part(self) -> None:
        """The range under way is sent: the next one's head, or the end."""
        connection = self.connection
        if not self._parts:
            tail, self._tail = self._tail, b""
            if tail:
                self.send_bytes(tail, connection.delivered)
            else:
                connection.delivered()
            return
        head, start, end = self._parts.pop()
        self._sent_before += self.position - self.start
        self.start = self.position = self._warm_until = start
        self.end = end
        self.send_bytes(head, self._begin_part)

    def _begin_part(self) -> None:
        if self.view is None or self.connection.worker.misses.covers(self.connection, self.start, self.end):
            self.pump()
        elif not self.connection.worker.misses.want_rest(self.connection):
            self.connection.break_off(Reason.INTERNAL)

    def send_chunks(self, head: bytes, opened: OpenObject, view: FlightView) -> None:
        """Send a head and a body whose length nobody knows yet, in chunked coding."""
        self.object = opened
        self.view = view
        self.start = self.position = 0
        self.end = 1 << 62
        self.chunked = True
        self.send_bytes(head, self.pump)

    def send_bytes(self, data: bytes, after: Callable[[], None]) -> None:
        """Send bytes of our own, then call `after`."""
        self._after_out = after
        self.out = data
        self.on_writable()

    def on_writable(self) -> None:
        """The client has taken something: go on."""
        if self.out and not self._flush():
            return
        after = self._after_out
        if after is not None:
            self._after_out = None
            after()
        else:
            self.pump()

    def _flush(self) -> bool:
        connection = self.connection
        try:
            sent = connection.send(self.out, 0)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            connection.client_left()
            return False
        if not self.first_byte_s and sent:
            self.first_byte_s = connection.monotonic() - self.started_s
        self.out = memoryview(self.out)[sent:] if sent < len(self.out) else b""
        if self.out:
            connection.await_writable()
            return False
        return True

    def pump(self) -> None:
        """One turn."""
        opened = self.object
        assert opened is not None
        position = self.position
        end = self.end
        view = self.view
        if view is not None:
            end = min(view.reach(position), end)
            if self.chunked or end <= position:
                self._pump_behind(view, end)
                return
        count = end - position
        if count > SEND_TURN_BYTES:
            count = SEND_TURN_BYTES
        if not opened.is_memory and position + count > self._warm_until and not self._is_warm(opened, position, end):
            return
        connection = self.connection
        try:
            sent = connection.send_body(opened.fd, opened.body_offset + position, count)
        except (BlockingIOError, InterruptedError):
            connection.await_writable()
            return
        except OSError as error:
            self._broken(error)
            return
        if not sent:
            connection.lost(opened, Reason.DISK_LOST_FILE)
            return
        self.position = position = position + sent
        if position == self.end:
            self._next_part()
        else:
            connection.await_writable()

    def _broken(self, error: OSError) -> None:
        if error.errno in _GONE:
            self.connection.client_left()
        elif self.object is not None:
            self.connection.lost(self.object, Reason.DISK_READ)

    def _pump_behind(self, view: FlightView, end: int) -> None:
        """Behind a flight: a chunk of what has come, or wait for more."""
        connection = self.connection
        if end > self.position:
            count = min(end - self.position, _CHUNK_BYTES)
            assert self.object is not None
            try:
                # just written by the fill, so it is in memory
                data = os.pread(self.object.fd, count, self.object.body_offset + self.position)
            except OSError as error:
                self._broken(error)
                return
            if not data:
                connection.lost(self.object, Reason.DISK_LOST_FILE)
                return
            self.position += len(data)
            self.send_bytes(b"%x\r\n%b\r\n" % (len(data), data), connection.await_writable)
        elif not view.has_landed:
            self.is_waiting = True
            view.deliveries.add(self)
            connection.stop_writing()
        elif view.reason is None and self.chunked and self.position == view.size:
            self.chunked = False
            self.send_bytes(b"0\r\n\r\n", connection.delivered)
        else:
            connection.starved(view.reason)

    def more(self) -> None:
        """The flight has more for us, or has landed."""
        self.is_waiting = False
        if self.is_busy:
            self.pump()

    # disks

    def _is_warm(self, opened: OpenObject, position: int, end: int) -> bool:
        """Whether the next turn's bytes are in memory; if not, they are on their way and pump() is called again.

        `end`: how far the file may be read; behind it a fill may still be writing.
        """
        connection = self.connection
        now = connection.monotonic()
        if opened.resident_until_s > now:
            return True
        disk = opened.disk
        assert disk is not None
        window = min(max(SEND_TURN_BYTES, disk.read_ahead_bytes), end - position)
        if resident(opened.fd, opened.body_offset + position, window):
            self._warm_until = position + window
            if position == 0 and window == opened.size:
                opened.resident_until_s = now + _RESIDENT_S
            return True
        self.is_waiting = True
        connection.stop_writing()
        connection.page.add(READ_AHEADS)
        opened.users += 1
        task = disk.in_pool(disk.read, opened.fd, opened.body_offset + position, window)
        generation = self.generation
        task.add_done_callback(lambda done: self._warmed(done, opened, position + window, generation))
        return False

    def _warmed(self, done: asyncio.Future[None], opened: OpenObject, until: int, generation: int) -> None:
        opened.release()
        error = None if done.cancelled() else done.exception()
        if not self.is_busy or generation != self.generation:
            return
        self.is_waiting = False
        if error is not None or done.cancelled():
            reason = error.reason if isinstance(error, DiskError) else Reason.DISK_READ
            self.connection.lost(opened, reason)
            return
        self._warm_until = until
        self.pump()

    def reset(self) -> None:
        """The response is over."""
        self.generation += 1
        self.is_busy = False
        self.is_waiting = False
        self.first_byte_s = 0.0
        self.out = b""
        self._after_out = None
        self._parts = []
        self._tail = b""
        self._sent_before = 0
        opened = self.object
        if opened is not None:
            self.object = None
            opened.release()
            view = self.view
            if view is not None:
                self.view = None
                view.deliveries.discard(self)
