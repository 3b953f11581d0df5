"""Moves between tiers, in the background: demotion before a disk is full, promotion of what is hot."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Iterator

from edge.errors import DiskError
from edge.limits import MOVES_AT_ONCE
from edge.logs import get_logger
from edge.metrics import EVICTIONS, MOVED_BYTES
from edge.store.disk import Disk
from edge.store.object import copy_verified
from edge.store.policy import Candidate, is_admitted, victim
from edge.store.record import Held, Record
from edge.store.tiers import Store
from edge.terms import Reason, TierName

_IDLE_S = 0.05
_PROMOTIONS_WAITING = 1024
_REST_S = 1.0
"""A disk that could not be written is not tried again before."""

_log = get_logger()


class Mover:
    """Keeps every disk below its high water mark and RAM filled with what is hottest."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._wanted: dict[bytes, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving: Counter[int] = Counter()
        """Bytes of each disk that are on their way to another."""
        self._resting: dict[int, float] = {}
        self._stopping = threading.Event()

    def hot(self, key: bytes) -> None:
        """A worker saw repeated hits of an object that lies on a disk."""
        if len(self._wanted) < _PROMOTIONS_WAITING:
            self._wanted[key] = None

    async def run(self) -> None:
        """Move until cancelled; at most MOVES_AT_ONCE at a time."""
        try:
            while True:
                started = self._demotions() + self._promotions()
                if not started:
                    await asyncio.sleep(_IDLE_S)
                elif len(self._tasks) >= MOVES_AT_ONCE:
                    await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
                else:
                    await asyncio.sleep(0)
        finally:
            # a cancelled task would leave its thread behind, and the thread a file that nobody knows
            self._stopping.set()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, key: bytes, record: Record, target: Disk, *, copy: bool) -> None:
        size = self._store.charge(record)
        target.reserve(size)  # before the copy, so that nothing else counts on the room
        self._leaving[-1 if copy else record.home] += size
        self._store.busy[key] += 1
        task = asyncio.get_running_loop().create_task(self._move(key, record, target, copy=copy))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _demotions(self) -> int:
        store = self._store
        started = 0
        for disk in store.disks.values():
            if len(self._tasks) >= MOVES_AT_ONCE:
                break
            if store.space.below_high_water(disk, -self._leaving[disk.number]):
                continue
            leaver = victim(store.policy(disk), store.candidates(disk))
            if leaver is None:
                continue
            started += 1
            key = store.slots.key(leaver.slot)
            record = store.index.get(key)
            target = self._next_home(disk, record, leaver) if record is not None else None
            if record is None or target is None:
                store.evict(disk, leaver)
            else:
                self._start(key, record, target, copy=False)
        return started

    def _next_home(self, disk: Disk, record: Record, leaver: Candidate) -> Disk | None:
        """The slower disk that takes what leaves this one, or None: it is dropped, or only a copy goes."""
        if record.copy == disk.number:
            return None
        store = self._store
        size = store.charge(record)
        for tier in TierName:
            if tier <= disk.tier:
                continue
            disks = [
                one
                for one in store.disks.values()
                if one.tier is tier and store.accepts(one, record.size) and not self._is_resting(one)
            ]
            for target in sorted(disks, key=lambda one: one.used_bytes / max(1, store.space.capacity_bytes(one))):
                room = store.space.below_high_water(target, size)
                rivals = [] if room else store.candidates(target)
                if is_admitted(store.policy(target), leaver, rivals, has_room=room):
                    return target
        return None

    def _is_resting(self, disk: Disk) -> bool:
        return self._store.clock.monotonic() < self._resting.get(disk.number, 0.0)

    def _promotions(self) -> int:
        store = self._store
        ram = [disk for disk in store.disks.values() if disk.tier is TierName.RAM]
        started = 0
        while self._wanted and ram and len(self._tasks) < MOVES_AT_ONCE:
            key = next(iter(self._wanted))
            del self._wanted[key]
            record = store.lookup(key)
            if record is None or not record.complete or record.copy >= 0 or key in store.busy:
                continue
            if store.disks[record.home].tier is TierName.RAM:
                continue
            size = store.charge(record)
            disk = min(ram, key=lambda one: one.used_bytes)
            if not store.accepts(disk, record.size) or self._is_resting(disk):
                continue
            room = store.space.below_high_water(disk, size)
            candidate = store.space.candidate(record.slot, int(store.clock.wall()))
            rivals = [] if room else store.candidates(disk)
            if is_admitted(store.policy(disk), candidate, rivals, has_room=room) and store.space.has_room(disk, size):
                # never by dropping what lies in RAM alone: demotion makes the room, and this comes again
                self._start(key, record, disk, copy=True)
                started += 1
        return started

    async def _move(self, key: bytes, record: Record, target: Disk, *, copy: bool) -> None:
        store = self._store
        try:
            copied = await target.in_pool(_copy_file, store.disk_of(record), target, key, record, self._stopping)
            if store.index.get(key) != record or store.busy[key] > 1:
                # dropped or replaced meanwhile, or a fill that began meanwhile goes by the record as it is
                await target.in_pool(target.unlink, key, record.generation)
                return
        except _Stopped:
            return
        except (DiskError, OSError) as error:
            self._failed(key, record, target, error)
            return
        finally:
            size = store.charge(record)
            target.reserve(-size)
            self._leaving[-1 if copy else record.home] -= size
            store.busy[key] -= 1
            if not store.busy[key]:
                del store.busy[key]
        if copy:
            store.replace_place(key, record, home=record.home, copy=target.number)
        else:
            left = store.disks[record.home]
            store.replace_place(key, record, home=target.number, copy=record.copy)
            store.page.add(EVICTIONS, 1, left.tier.source, target.tier.source)
        store.page.add(MOVED_BYTES, copied, target.tier.source, "promotion" if copy else "demotion")

    def _failed(self, key: bytes, record: Record, target: Disk, error: DiskError | OSError) -> None:
        store = self._store
        if isinstance(error, DiskError):
            disk, reason, cause = store.disk_of(record), error.reason, error.cause
            if store.index.get(key) != record:
                return  # dropped meanwhile, and its file with it
            if store.busy[key] > 1:
                pass  # a fill works on it, and will see for itself
            elif disk.number == record.copy:
                store.uncopy(key, record)
            else:
                store.drop(key, record)
        else:
            disk, reason, cause = target, Reason.DISK_WRITE, str(error)
            self._resting[target.number] = store.clock.monotonic() + _REST_S
        store.page.error(reason)
        _log.warning("move failed", disk=disk.root, reason=reason, cause=cause)


class _Stopped(Exception):
    """The daemon ends: the copy was given up."""


def _until(stopping: threading.Event, slices: list[int]) -> Iterator[int]:
    for position in slices:
        if stopping.is_set():
            raise _Stopped
        yield position


def _copy_file(source: Disk, target: Disk, key: bytes, record: Record, stopping: threading.Event) -> int:
    """Copy an object file slice by slice, verified; the copy is whole or is not there."""
    held = Held(record.size, record.slice_size, record.held)
    slices = [position for position in range(record.slices) if position in held]
    target.unlink(key, record.generation)
    try:
        incoming = source.open(key, record.generation)
    except OSError as error:
        raise DiskError(str(error), Reason.DISK_LOST_FILE) from error
    try:
        outgoing = target.create(key, record.generation)
        try:
            copied = copy_verified(incoming, outgoing, record, _until(stopping, slices))
            if not target.in_memory:
                os.fdatasync(outgoing)
                # what was just written is not what will be read next: leave the page cache to what is
                os.posix_fadvise(outgoing, 0, 0, os.POSIX_FADV_DONTNEED)
            return copied
        except BaseException:
            target.unlink(key, record.generation)
            raise
        finally:
            os.close(outgoing)
    finally:
        os.close(incoming)
