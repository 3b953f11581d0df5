"""What a worker has open: stored objects, and files that a flight is still writing."""

from __future__ import annotations

import contextlib
import os
from bisect import bisect_right
from socket import MSG_MORE
from typing import TYPE_CHECKING

from edge.errors import DiskError
from edge.http.cors import CorsPolicy
from edge.limits import SMALL_BYTES, SMALL_BYTES_IN_ALL
from edge.serve.heads import NOT_OF_A_PART, age_lines, response_lines, status_line
from edge.store.disk import Disk
from edge.store.reader import StoreReader
from edge.store.record import Record
from edge.store.slots import WORDS
from edge.terms import Reason, TierName

if TYPE_CHECKING:
    from edge.serve.connection import Connection
    from edge.serve.delivery import Delivery


class OpenObject:
    """An object file held open, with its response's head ready.

    `users` counts the deliveries under way; the descriptor is closed when the object is let go and the last has ended.
    """

    __slots__ = (
        "_response",
        "_response_from_zero",
        "_response_from_zero_s",
        "_response_s",
        "body",
        "body_offset",
        "disk",
        "fd",
        "fresh_until",
        "hits",
        "is_let_go",
        "is_memory",
        "is_plain",
        "key",
        "lines",
        "part_lines",
        "record",
        "resident_until_s",
        "send_flags",
        "size",
        "source",
        "stamp",
        "status",
        "users",
        "word",
    )

    def __init__(
        self, key: bytes, record: Record, fd: int, tier: TierName, disk: Disk | None, cors: CorsPolicy | None = None
    ) -> None:
        self.key = key
        self.record = record
        self.fd = fd
        self.disk = disk
        self.source = tier.source
        self.is_memory = disk is None or disk.in_memory
        self.size = record.size
        self.body_offset = record.body_offset
        self.word = record.slot * WORDS
        self.stamp = record.stamp
        self.fresh_until = record.fresh_until
        self.status = record.status
        self.is_plain = record.status == 200
        self.lines = self.part_lines = response_lines(record.fields, cors)
        if any(name.lower() in NOT_OF_A_PART for name, _ in record.fields):
            self.part_lines = response_lines(record.fields, cors, NOT_OF_A_PART)
        self.resident_until_s = 0.0
        """Until when the whole of it was seen in the page cache recently enough."""
        self.hits = 0
        self.users = 0
        self.is_let_go = False
        self.body: bytes | None = None
        """The body itself where it is small: one send of bytes costs less than a sendfile behind a head."""
        self.send_flags = MSG_MORE if record.size > 0 else 0
        self._response = b""
        self._response_s = 0
        self._response_from_zero = b""
        self._response_from_zero_s = 0

    def response(self, now: float) -> bytes:
        """The head of a hit that sends all of it, the body behind it where it is small; good for the second."""
        second = int(now)
        if second != self._response_s:
            self._response_s = second
            self._response = b"%b%b%bContent-Length: %d\r\nAccept-Ranges: bytes\r\n\r\n%b" % (
                status_line(self.status),
                self.lines,
                age_lines(self.record, now, self.source, None),
                self.size,
                self.body or b"",
            )
        return self._response

    def response_from_zero(self, now: float) -> bytes:
        """The same for a request with Range: bytes=0-, of an object that is not empty."""
        second = int(now)
        if second != self._response_from_zero_s:
            self._response_from_zero_s = second
            self._response_from_zero = (
                b"%b%b%bContent-Range: bytes 0-%d/%d\r\nContent-Length: %d\r\nAccept-Ranges: bytes\r\n\r\n%b"
                % (
                    status_line(206),
                    self.part_lines,
                    age_lines(self.record, now, self.source, None),
                    self.size - 1,
                    self.size,
                    self.size,
                    self.body or b"",
                )
            )
        return self._response_from_zero

    def keep_body(self) -> None:
        """Hold the whole body in memory from now on; OSError when it cannot be read."""
        body = os.pread(self.fd, self.size, self.body_offset)
        if len(body) == self.size:
            self.body = body
            self.send_flags = 0
            self._response_s = self._response_from_zero_s = 0

    def let_go(self) -> None:
        """Close as soon as nobody reads it."""
        self.is_let_go = True
        if not self.users and self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def release(self) -> None:
        """A delivery has ended."""
        self.users -= 1
        if self.is_let_go and not self.users and self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class FlightView:
    """How far a flight has come, for all of this worker's deliveries that follow it."""

    __slots__ = ("awaiting", "deliveries", "has_landed", "number", "object", "reason", "runs", "size")

    def __init__(self, number: int, opened: OpenObject) -> None:
        self.number = number
        self.object = opened
        self.size = opened.size
        """Bytes of the whole body; -1 while unknown."""
        self.runs: list[tuple[int, int]] = []
        self.has_landed = False
        self.reason: Reason | None = None
        self.deliveries: set[Delivery] = set()
        self.awaiting: list[Connection] = []
        """Connections that cannot be answered before the body's length is known."""

    def add(self, start: int, end: int) -> None:
        """Bytes [start, end) are in the file."""
        runs = self.runs
        position = bisect_right(runs, (start, end))
        if position and runs[position - 1][1] >= start:
            position -= 1
            start = runs[position][0]
            end = max(end, runs[position][1])
            del runs[position]
        while position < len(runs) and runs[position][0] <= end:
            end = max(end, runs[position][1])
            del runs[position]
        runs.insert(position, (start, end))

    def reach(self, position: int) -> int:
        """The end of what is there from `position` on without a gap; `position` itself when nothing is."""
        index = bisect_right(self.runs, (position, 1 << 62)) - 1
        if index >= 0 and self.runs[index][1] > position:
            return self.runs[index][1]
        return position


class HotTable:
    """Objects held open, bounded; the one unused for longest goes first, roughly."""

    def __init__(self, store: StoreReader, most: int) -> None:
        self._store = store
        self._most = most
        self._objects: dict[bytes, OpenObject] = {}
        self._small_bytes = 0

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, key: bytes) -> OpenObject | None:
        """An open object that is still what the store holds."""
        found = self._objects.get(key)
        if found is not None and self._store.slots.words[found.word] != found.stamp:
            self.forget(found)
            return None
        return found

    def put(self, opened: OpenObject) -> None:
        before = self._objects.pop(opened.key, None)
        if before is not None:
            self._let_go(before)
        while len(self._objects) >= self._most:
            self._make_room()
        self._objects[opened.key] = opened

    def forget(self, opened: OpenObject) -> None:
        if self._objects.get(opened.key) is opened:
            del self._objects[opened.key]
            self._let_go(opened)

    def keep_small(self, opened: OpenObject) -> None:
        """Hold a small object's body in memory, within a bound for all of them."""
        if (
            opened.body is None
            and opened.is_memory
            and 0 < opened.size <= SMALL_BYTES
            and self._small_bytes + opened.size <= SMALL_BYTES_IN_ALL
            and self._objects.get(opened.key) is opened
        ):
            with contextlib.suppress(OSError):
                opened.keep_body()
                self._small_bytes += opened.size

    def _let_go(self, opened: OpenObject) -> None:
        if opened.body is not None:
            self._small_bytes -= opened.size
        opened.let_go()

    def _make_room(self) -> None:
        """Second chance: the oldest goes unless it was used since it was last looked at."""
        for key in list(self._objects)[:_CHANCES]:
            oldest = self._objects.pop(key)
            if oldest.hits == 0:
                self._let_go(oldest)
                return
            oldest.hits = 0
            self._objects[key] = oldest
        self._let_go(self._objects.pop(next(iter(self._objects))))

    def sweep(self) -> None:
        """Let go of what the store has dropped or moved: an open descriptor keeps a dead file's space."""
        words = self._store.slots.words
        for opened in [one for one in self._objects.values() if words[one.word] != one.stamp]:
            self.forget(opened)


_CHANCES = 8


def open_file(disk: Disk, key: bytes, record: Record) -> int:
    """A descriptor of a stored object's file. Raises DiskError when it is not there or too short. May block."""
    try:
        fd = disk.open(key, record.generation)
    except OSError as error:
        raise DiskError(f"{disk.root}: {error}", Reason.DISK_LOST_FILE) from error
    if record.complete and os.fstat(fd).st_size < record.body_offset + record.size:
        os.close(fd)
        raise DiskError(f"{disk.root}: an object file is too short", Reason.DISK_LOST_FILE)
    return fd
