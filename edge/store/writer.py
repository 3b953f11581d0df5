"""Writing an object: slices, each sealed with its checksum when its last byte is in the file.

A slice that is not sealed did not happen. An object of unknown length, or one that may not be held in part (no strong
validator joins the parts), did not happen until it is whole.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import ParamSpec

import msgspec
import xxhash

from edge.errors import DiskError, StoreFull
from edge.metrics import MOVED_BYTES
from edge.store.disk import Disk
from edge.store.object import Header, header_bytes, write_all, write_checksum, write_checksums
from edge.store.record import Held, Record
from edge.store.tiers import Store
from edge.terms import Reason

P = ParamSpec("P")


class SliceStream:
    """Bytes on their way in, ascending from a slice's beginning."""

    __slots__ = ("hasher", "position")

    def __init__(self, start: int) -> None:
        self.position = start
        self.hasher = xxhash.xxh3_64()


class ObjectWriter:
    """The one writer of one object file; several streams may be under way at different places of it."""

    def __init__(self, store: Store, key: bytes, url: str, record: Record, fd: int, disk: Disk, *, parts: bool) -> None:
        self._store = store
        self._key = key
        self._url = url
        self._fd = fd
        self._disk = disk
        self.parts = parts
        self._published = record if store.index.get(key) == record else None
        self._is_dropped = False
        self._at_work: set[asyncio.Future[None]] = set()
        self._sums: list[int] = []
        self._reserved = 0
        self._unwritten = 0
        self._closing_fd = -1
        self.record = record
        self.held: Held | None = None
        if record.size >= 0:
            self.held = Held(record.size, record.slice_size, record.held)
        if record.size == 0 and self._published is None:
            self.publish(record)  # nothing is missing of it

    @property
    def disk(self) -> Disk:
        return self._disk

    @property
    def is_published(self) -> bool:
        return self._published is not None

    def reserve(self, size_bytes: int) -> None:
        """Take room for what is about to come, so that other fills do not count on it."""
        self._reserved += size_bytes
        self._unwritten += size_bytes
        self._disk.reserve(size_bytes)

    def stream(self, start: int) -> SliceStream:
        assert start % self.record.slice_size == 0
        return SliceStream(start)

    async def write(self, stream: SliceStream, data: bytes) -> None:
        """Put the stream's next bytes into the file. Raises DiskError, StoreFull."""
        slice_size = self.record.slice_size
        view = memoryview(data)
        if self.held is None:
            self._grow(len(data))
        try:
            await self._run(write_all, self._fd, view, self.record.body_offset + stream.position)
            self._wrote(min(len(data), self._unwritten))
            while view:
                room = slice_size - stream.position % slice_size
                piece, view = view[:room], view[room:]
                stream.hasher.update(piece)
                stream.position += len(piece)
                if len(piece) == room or stream.position == self.record.size:
                    await self._seal(stream)
        except OSError as error:
            raise DiskError(f"{self._disk.root}: {error}", Reason.DISK_WRITE) from error
        self._store.page.add(MOVED_BYTES, len(data), self._disk.tier.source, "fill")

    def _grow(self, size_bytes: int) -> None:
        """Take room for a body of unknown length as it comes."""
        self.reserve(size_bytes)
        if not self._store.space.has_room(self._disk, 0) and not self._store.make_room(self._disk, 0):
            raise StoreFull(f"{self._disk.root}: no room for more of a body of unknown length")

    def _wrote(self, size_bytes: int) -> None:
        self._unwritten -= size_bytes
        self._disk.unwritten_bytes -= size_bytes

    async def _run(self, function: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """In the disk's pool, and to its end even when the caller is cancelled: a thread that still writes must not
        find its descriptor closed, or another file's.
        """
        if self._disk.in_memory:
            function(*args, **kwargs)
            return
        work = self._disk.in_pool(function, *args, **kwargs)
        self._at_work.add(work)
        work.add_done_callback(self._done)
        await asyncio.shield(work)

    def _done(self, work: asyncio.Future[None]) -> None:
        self._at_work.discard(work)
        if not work.cancelled():
            work.exception()  # seen, though nobody may wait for it any more
        self._close_when_idle()

    def _close_when_idle(self) -> None:
        if self._closing_fd >= 0 and not self._at_work:
            os.close(self._closing_fd)
            self._closing_fd = -1

    async def _seal(self, stream: SliceStream) -> None:
        digest = stream.hasher.intdigest() or 1
        stream.hasher.reset()
        if self.held is None:
            self._sums.append(digest)
            return
        position = (stream.position - 1) // self.record.slice_size
        await self._run(write_checksum, self._fd, self.record, position, digest)
        self.held.add(position)
        if self.parts or self.held.complete:
            self.publish(msgspec.structs.replace(self.record, held=self.held.bitmap()))

    async def finish(self, stream: SliceStream) -> None:
        """The end of a body of unknown length: now it is known. Raises DiskError."""
        size = stream.position
        if size % self.record.slice_size:
            self._sums.append(stream.hasher.intdigest() or 1)
        record = msgspec.structs.replace(self.record, size=size, held=None)
        header = header_bytes(Header(self._key, self._url, record), record.body_offset)
        try:
            await self._run(write_checksums, self._fd, record, self._sums)
            await self._run(write_all, self._fd, header, 0)
        except OSError as error:
            raise DiskError(f"{self._disk.root}: {error}", Reason.DISK_WRITE) from error
        self.held = Held(size, record.slice_size, None)
        self.publish(record)

    def publish(self, record: Record) -> None:
        """Tell the index how the object stands, unless it was told to forget it."""
        if self._is_dropped:
            self.record = record
            return
        before = self._published or self.record
        spent = min(self._reserved, max(0, self._store.charge(record) - self._store.charge(before)))
        self._reserved -= spent
        self._disk.used_bytes -= spent
        self._store.publish(self._key, record, before)
        self.record = self._published = record

    def drop(self) -> None:
        """Forget the object; whoever has the file open may go on reading, and we writing."""
        if self._is_dropped:
            return
        if self._published is None:
            self._store.discard(self._key, self.record)
        elif self._store.index.get(self._key) == self._published:
            self._store.drop(self._key, self._published)
        self._published = None
        self._is_dropped = True

    def close(self) -> None:
        """Give back what was not used. An object nobody may hold in part goes unless it is whole."""
        if self._fd < 0:
            return
        self._disk.used_bytes -= self._reserved
        self._reserved = 0
        self._wrote(self._unwritten)
        if self._published is None and not self._is_dropped:
            self._store.discard(self._key, self.record)
        self._fd, self._closing_fd = -1, self._fd
        self._close_when_idle()
