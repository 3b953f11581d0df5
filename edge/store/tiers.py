"""The store as the manager has it: the only writer of the index, the slots and the files.

Every change of an object's state happens in one synchronous method here (publish, drop); the files follow. A file is
unlinked only when the index that no longer names it is on the disk, so a crash between the two loses nothing.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from functools import partial
from typing import Any

import msgspec

from edge.clock import Clock
from edge.config import Config
from edge.errors import DiskError, StoreFull
from edge.logs import get_logger
from edge.metrics import EVICTIONS, INDEX_COMMITS, Page
from edge.store import variants
from edge.store.disk import Disk
from edge.store.index import Index
from edge.store.layout import Layout, open_disks
from edge.store.object import Header, body_offset, file_size, header_bytes, write_all
from edge.store.policy import POLICIES, Candidate, Policy, victim
from edge.store.record import Held, Record
from edge.store.slots import SlotTable, stamp_of
from edge.store.space import Reckoning, Space
from edge.terms import Reason, TierName

_NUMBERS_AHEAD = 1 << 16
_EVICTIONS_AT_ONCE = 64
_log = get_logger()


class Store:
    def __init__(self, config: Config, clock: Clock, page: Page) -> None:
        layout = Layout(config)
        layout.make()
        self._config = config
        self.clock = clock
        self.page = page
        self.index = Index(layout.index, config.limits.objects, lambda: page.add(INDEX_COMMITS))
        self.slots = SlotTable(layout.slots, config.limits.objects, write=True)
        self.disks = open_disks(config, self.index)
        self.space = Space(self.disks, self.slots, clock.monotonic)
        self.busy: Counter[bytes] = Counter()
        """Keys that a fill or a move is working on: never evicted."""
        self.first_number: int = self.index.meta("numbers") or 1
        """Lower generations are from before this start."""
        self._next_number = self.first_number
        self._numbers_until = self._numbers_durable = self.first_number + _NUMBERS_AHEAD
        self.index.set_meta("numbers", self._numbers_until)
        used: dict[int, int] = self.index.meta("used") or {}
        for number, disk in self.disks.items():
            disk.used_bytes = used.get(number, 0)
        self._saved_usage: dict[int, int] = {}
        self.was_clean: bool = bool(self.index.meta("clean"))
        """Whether the last stop was orderly; if not, files and index may disagree until `recover` has run."""
        self.reckonings = {
            number: Reckoning(disk.used_bytes, self.first_number)
            for number, disk in self.disks.items()
            if not self.was_clean or number in self.space.rosters or number not in used
        }
        """Disks whose files `recover` has to count: memory, after a crash all, and those that were not there before."""
        self.is_recovered = self.was_clean and self.reckonings.keys() <= self.space.rosters.keys()
        self.index.set_meta("clean", False)
        self.index.commit()

    # reading

    def lookup(self, key: bytes) -> Record | None:
        """What is stored under the key, its slot made to agree. The file may still turn out to be gone."""
        record = self.index.get(key)
        if record is None:
            return None
        if not record.is_marker and record.home not in self.disks and record.copy not in self.disks:
            return None
        if self.slots.stamp(record.slot) != record.stamp:
            if self._is_taken(record.slot, key):
                self.drop(key, record)
                return None
            self.slots.rebind(record.slot, key, record.stamp)
            self.slots.settle(record.slot, record.home, record.copy, self.held_bytes(record))
        return record

    def _is_taken(self, slot: int, key: bytes) -> bool:
        """Whether another object has the slot: after a crash the index may bring back one that was dropped."""
        other = self.slots.key(slot)
        if not self.slots.stamp(slot) or other == key:
            return False
        record = self.index.get(other)
        return other in self.busy or (record is not None and record.slot == slot)

    def disk_of(self, record: Record) -> Disk:
        return self.disks[record.copy] if record.copy in self.disks else self.disks[record.home]

    @staticmethod
    def held_bytes(record: Record) -> int:
        if record.size < 0:
            return 0
        return record.size if record.held is None else Held(record.size, record.slice_size, record.held).bytes_held()

    def charge(self, record: Record) -> int:
        """Bytes of disk an object takes, at each place it lies."""
        if record.size < 0:
            return record.body_offset
        return file_size(record) - record.size + self.held_bytes(record)

    # a new object

    def number(self) -> int:
        """The next generation or stamp: never given twice, whatever crashes."""
        number = self._next_number
        self._next_number += 1
        # a stamp from before a crash that repeats would resurrect a dropped object: reserve ahead, durably
        if number + _NUMBERS_AHEAD // 2 >= self._numbers_until:
            self._numbers_until += _NUMBERS_AHEAD
            self.index.set_meta("numbers", self._numbers_until)
            self.index.after_commit(partial(self._numbers_committed, self._numbers_until))
        if number >= self._numbers_durable:
            self.index.commit()
        return number

    def _numbers_committed(self, until: int) -> None:
        self._numbers_durable = max(self._numbers_durable, until)

    async def create(self, key: bytes, url: str, draft: Record, expected_bytes: int) -> tuple[Record, int, Disk]:
        """A file for a new representation: its record, a descriptor to write it with, and its disk.

        `draft` brings what the response says; generation, slot and place are given here. Raises StoreFull, DiskError.
        """
        around_bytes = body_offset(Header(key, url, draft)) + file_size(draft) - max(0, draft.size)
        disk = self.choose(expected_bytes, around_bytes)
        slot = self.take_slot()
        number = self.number()
        record = msgspec.structs.replace(
            draft, generation=number, stamp=stamp_of(number), slot=slot, home=disk.number, copy=-1
        )
        record = msgspec.structs.replace(record, body_offset=body_offset(Header(key, url, record)))
        self.slots.bind(slot, key, record.stamp, int(self.clock.wall()))
        self.slots.settle(slot, record.home, -1, 0)
        disk.used_bytes += self.charge(record)
        try:
            fd = await self._created(disk, key, record, header_bytes(Header(key, url, record)))
        except OSError as error:
            disk.used_bytes -= self.charge(record)
            self.slots.release(slot)
            raise DiskError(f"{disk.root}: {error}", Reason.DISK_WRITE) from error
        return record, fd, disk

    def take_slot(self) -> int:
        """A free slot; where all are taken, the least worth gives up its own. Raises StoreFull."""
        slot = self.slots.allocate()
        if slot is None:
            self._evict_any()
            slot = self.slots.allocate()
        if slot is None:
            raise StoreFull("no free slot")
        return slot

    async def _created(self, disk: Disk, key: bytes, record: Record, header: bytes) -> int:
        if disk.in_memory:
            return self._create_file(disk, key, record, header)
        making = disk.in_pool(self._create_file, disk, key, record, header)
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            # the thread goes on: what it makes has to be there before it can be undone
            await asyncio.wait((making,))
            if making.exception() is None:
                os.close(making.result())
            self.discard(key, record)
            raise

    @staticmethod
    def _create_file(disk: Disk, key: bytes, record: Record, header: bytes) -> int:
        fd = disk.create(key, record.generation)
        try:
            write_all(fd, header.ljust(record.body_offset, b"\0"), 0)
        except OSError:
            os.close(fd)
            disk.unlink(key, record.generation)
            raise
        return fd

    def choose(self, size_bytes: int, around_bytes: int = 0) -> Disk:
        """The disk for a new object: RAM first; with no room anywhere the least worth goes at once.

        Around its body a file has a header and a trailer.
        """
        usable: list[Disk] = []
        for tier in TierName:
            disks = [disk for disk in self.disks.values() if disk.tier is tier and self.accepts(disk, size_bytes)]
            disks.sort(key=lambda disk: disk.used_bytes / max(1, self.space.capacity_bytes(disk)))
            usable += disks
        for disk in usable:
            if self.space.has_room(disk, size_bytes + around_bytes):
                return disk
        for disk in usable:
            if self.make_room(disk, size_bytes + around_bytes):
                return disk
        raise StoreFull(f"no room for {size_bytes} bytes")

    def accepts(self, disk: Disk, size_bytes: int) -> bool:
        """Whether an object of this size may lie there at all."""
        limit = getattr(self._config.tiers, disk.tier.name.lower()).object_max
        return size_bytes <= (limit if limit is not None else self.space.capacity_bytes(disk) // 8)

    def make_room(self, disk: Disk, size_bytes: int) -> bool:
        """Drop the least worth until there is room; False when that is not to be had."""
        for _ in range(_EVICTIONS_AT_ONCE):
            if self.space.has_room(disk, size_bytes):
                return True
            gone = victim(self.policy(disk), self.candidates(disk))
            if gone is None or not self.evict(disk, gone):
                break
        return self.space.has_room(disk, size_bytes)

    def candidates(self, disk: Disk) -> list[Candidate]:
        """Random objects of the disk that nothing is working on."""
        return self.space.sample(disk, int(self.clock.wall()), lambda slot: self.slots.key(slot) not in self.busy)

    def policy(self, disk: Disk) -> Policy:
        return POLICIES[getattr(self._config.tiers, disk.tier.name.lower()).policy]

    def evict(self, disk: Disk, gone: Candidate) -> bool:
        """Take an object off a disk: a RAM copy alone, or the whole object."""
        key = self.slots.key(gone.slot)
        record = self.index.get(key)
        if record is None or record.slot != gone.slot or disk.number not in _places(record):
            if record is not None and record.slot == gone.slot:
                self.slots.settle(gone.slot, record.home, record.copy, self.held_bytes(record))
            else:
                self.slots.release(gone.slot)
            if (roster := self.space.rosters.get(disk.number)) is not None:
                roster.discard(gone.slot)
            return True
        if record.copy == disk.number:
            self.uncopy(key, record)
            self.page.add(EVICTIONS, 1, disk.tier.source, "copy")
        else:
            self.drop(key, record)
            self.page.add(EVICTIONS, 1, disk.tier.source, "nowhere")
        return True

    def _evict_any(self) -> None:
        for disk in sorted(self.disks.values(), key=lambda disk: -disk.tier):
            gone = victim(self.policy(disk), self.candidates(disk))
            if gone is not None and self.evict(disk, gone):
                return

    # an object's changes, each in one step

    def publish(self, key: bytes, record: Record, before: Record | None) -> Record:
        """Make `record` what the store knows of the key, in place of `before` (the same file's earlier state)."""
        other = self.index.get(key)
        if other is not None and other.generation != record.generation:
            self.drop(key, other)
        if before is not None and before.home == record.home:
            self._count(record.home, key, record, self.charge(record) - self.charge(before))
        self.index.put(key, record)
        self.slots.settle(record.slot, record.home, record.copy, self.held_bytes(record))
        if (roster := self.space.rosters.get(record.home)) is not None:
            roster.add(record.slot)
        return record

    def replace_place(self, key: bytes, before: Record, *, home: int, copy: int) -> Record:
        """The object now lies at `home` (and `copy`): workers are sent there, files elsewhere go."""
        stamp = stamp_of(self.number())
        record = msgspec.structs.replace(before, home=home, copy=copy, stamp=stamp)
        charge = self.charge(record)
        old, new = _places(before), _places(record)
        for number in new - old:
            self._count(number, key, record, charge, arrives=True)
            if (roster := self.space.rosters.get(number)) is not None:
                roster.add(record.slot)
        self.index.put(key, record)
        self.slots.settle(record.slot, home, copy, self.held_bytes(record))
        self.slots.words[record.slot * 12] = stamp
        for number in old - new:
            self._leave(key, before, number, charge)
        return record

    def uncopy(self, key: bytes, record: Record) -> Record:
        return self.replace_place(key, record, home=record.home, copy=-1)

    def drop(self, key: bytes, record: Record) -> None:
        """Forget an object. Workers see it at their next request; its files go."""
        if self.slots.stamp(record.slot) == record.stamp:
            self.slots.release(record.slot)
        self.index.delete(key)
        for number in _places(record):
            self._leave(key, record, number, self.charge(record))
        variants.dropped(self, key, record)

    def discard(self, key: bytes, record: Record) -> None:
        """Undo create() of an object that was never published."""
        if self.slots.stamp(record.slot) == record.stamp:
            self.slots.release(record.slot)
        self._leave(key, record, record.home, self.charge(record))

    def _count(
        self, number: int, key: bytes, record: Record, size_bytes: int, *, arrives: bool = False, leaves: bool = False
    ) -> None:
        """Add to what is used of a disk, unless a count under way has yet to come by."""
        if number not in self.disks:
            return
        counting = self.reckonings.get(number)
        if counting is None or counting.counts(key, record.generation, arrives=arrives, leaves=leaves):
            self.disks[number].used_bytes += size_bytes

    def _leave(self, key: bytes, record: Record, number: int, charge: int) -> None:
        disk = self.disks.get(number)
        if disk is None:
            return
        self._count(number, key, record, -charge, leaves=True)
        if (roster := self.space.rosters.get(number)) is not None:
            roster.discard(record.slot)
        if disk.in_memory:
            # memory is what the next fill is waiting for; a crash here leaves a record that finds no file: a miss
            disk.unlink(key, record.generation)
            return
        self.index.after_commit(partial(self._unlink_later, disk, key, record.generation))

    def _unlink_later(self, disk: Disk, key: bytes, generation: int) -> None:
        try:
            task = disk.in_pool(disk.unlink, key, generation)
        except RuntimeError:  # the pool is closing: recovery finds the file
            return
        task.add_done_callback(_report)

    # the end

    def save_usage(self) -> None:
        used = {number: disk.used_bytes for number, disk in self.disks.items()}
        if used != self._saved_usage:
            self._saved_usage = used
            self.index.set_meta("used", used)

    async def run(self) -> None:
        """Commit until cancelled."""
        await self.index.run()

    def close(self) -> None:
        """An orderly end: all is in the index, and it says so."""
        self.save_usage()
        self.index.commit()
        for disk in self.disks.values():
            disk.close(finish=True)  # files that are to go
        self.index.set_meta("clean", self.is_recovered)
        self.index.set_meta("numbers", self._next_number)
        self.index.close()
        self.slots.close()


def _places(record: Record) -> set[int]:
    return {record.home} | ({record.copy} if record.copy >= 0 else set())


def _report(task: asyncio.Future[Any]) -> None:
    if not task.cancelled() and (error := task.exception()):
        _log.warning("unlink failed", error=str(error))
