"""The index: key hash → record, in LMDB, shared by all processes, crash-safe, open in milliseconds.

The manager alone writes: into an overlay at once, and from there in batches, synced, by a thread. Its own reads see the
overlay first. A worker sees what was committed; what it does not find, or finds out of date, it asks the manager for.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import lmdb
import msgspec

from edge.store.record import Record

COMMIT_INTERVAL_S = 0.2
"""At most this much of what was filled is unknown to the index after a crash."""

_BYTES_AN_OBJECT = 16 << 10
"""Of address space, not of disk: a full map cannot be written to any more, and some origins send many header fields."""

_SPARE_BYTES = 1 << 30
_decoder = msgspec.msgpack.Decoder(Record)
_encoder = msgspec.msgpack.Encoder()

_OBJECTS = b"objects"
_META = b"meta"


def _open(path: str, objects_max: int, *, readonly: bool) -> lmdb.Environment:
    return lmdb.open(
        path,
        map_size=objects_max * _BYTES_AN_OBJECT + _SPARE_BYTES,
        max_dbs=4,
        max_readers=512,
        readonly=readonly,
        create=not readonly,
        subdir=True,
        mode=0o640,
    )


class IndexReader:
    """A worker's view."""

    def __init__(self, path: str, objects_max: int) -> None:
        self._env = _open(path, objects_max, readonly=True)
        self._objects = self._env.open_db(_OBJECTS, create=False)
        self._meta = self._env.open_db(_META, create=False)

    def meta(self, name: str) -> Any:
        with self._env.begin(db=self._meta) as transaction:
            data = transaction.get(name.encode())
        return None if data is None else msgspec.msgpack.decode(data)

    def get(self, key: bytes) -> Record | None:
        with self._env.begin(db=self._objects) as transaction:
            data = transaction.get(key)
        return None if data is None else _decoder.decode(data)

    def close(self) -> None:
        self._env.close()


class Index:
    """The manager's view: it reads what it wrote, committed or not."""

    def __init__(self, path: str, objects_max: int, committed: Callable[[], None] = lambda: None) -> None:
        os.makedirs(path, mode=0o750, exist_ok=True)
        self._env = _open(path, objects_max, readonly=False)
        self._objects = self._env.open_db(_OBJECTS)
        self._meta = self._env.open_db(_META)
        self._overlay: dict[bytes, Record | None] = {}
        self._writing: dict[bytes, Record | None] = {}
        self._meta_overlay: dict[bytes, bytes] = {}
        self._meta_writing: dict[bytes, bytes] = {}
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, "index")
        self._wanted = asyncio.Event()
        self._committed = committed
        self._after: list[Callable[[], None]] = []
        self._after_write: list[Callable[[], None]] = []
        self._env.reader_check()

    def get(self, key: bytes) -> Record | None:
        for layer in (self._overlay, self._writing):
            if key in layer:
                return layer[key]
        with self._env.begin(db=self._objects) as transaction:
            data = transaction.get(key)
        return None if data is None else _decoder.decode(data)

    def put(self, key: bytes, record: Record) -> None:
        self._overlay[key] = record
        self._wanted.set()

    def delete(self, key: bytes) -> None:
        self._overlay[key] = None
        self._wanted.set()

    def after_commit(self, action: Callable[[], None]) -> None:
        """Call `action` when all that was put or deleted until now is on the disk."""
        self._after.append(action)
        self._wanted.set()

    def meta(self, name: str) -> Any:
        """A small value of the store's own, or None."""
        data = self._meta_overlay.get(name.encode()) or self._meta_writing.get(name.encode())
        if data is None:
            with self._env.begin(db=self._meta) as transaction:
                data = transaction.get(name.encode())
        return None if data is None else msgspec.msgpack.decode(data)

    def set_meta(self, name: str, value: Any) -> None:
        self._meta_overlay[name.encode()] = _encoder.encode(value)
        self._wanted.set()

    def count(self) -> int:
        """Objects committed."""
        with self._env.begin() as transaction:
            return int(transaction.stat(self._objects)["entries"])

    def keys(self, after: bytes, most: int) -> list[bytes]:
        """The committed keys that follow `after`, ascending."""
        with self._env.begin(db=self._objects) as transaction:
            cursor = transaction.cursor()
            if not cursor.set_range(after + b"\0"):
                return []
            return [bytes(key) for key in islice(cursor.iternext(values=False), most)]

    def records(self) -> Iterator[tuple[bytes, Record]]:
        """Every committed record, under one read transaction: for start-up and checks, not for long work."""
        with self._env.begin(db=self._objects) as transaction:
            for key, data in transaction.cursor():
                yield bytes(key), _decoder.decode(data)

    def commit(self) -> None:
        """Write everything now, in this thread."""
        self._take()
        self._write()
        self._finish()

    async def run(self) -> None:
        """Commit in batches until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._wanted.wait()
            await asyncio.sleep(COMMIT_INTERVAL_S)
            self._take()
            await asyncio.shield(loop.run_in_executor(self._thread, self._write))
            self._committed()
            self._finish()

    def close(self) -> None:
        self._thread.shutdown(wait=True)
        self.commit()
        self._env.close()

    def _take(self) -> None:
        self._wanted.clear()
        self._writing = {**self._writing, **self._overlay}
        self._overlay = {}
        self._meta_writing = {**self._meta_writing, **self._meta_overlay}
        self._meta_overlay = {}
        self._after_write += self._after
        self._after = []

    def _finish(self) -> None:
        actions, self._after_write = self._after_write, []
        for action in actions:
            action()

    def _write(self) -> None:
        """Write what was taken; what is taken meanwhile, by commit() in the other thread, waits for its own turn."""
        with self._lock:
            records, meta = self._writing, self._meta_writing
            with self._env.begin(write=True) as transaction:
                for key, record in records.items():
                    if record is None:
                        transaction.delete(key, db=self._objects)
                    else:
                        transaction.put(key, _encoder.encode(record), db=self._objects)
                for name, data in meta.items():
                    transaction.put(name, data, db=self._meta)
            self._env.reader_check()  # a worker that died while reading holds on to old pages
            if self._writing is records:
                self._writing = {}
            if self._meta_writing is meta:
                self._meta_writing = {}
