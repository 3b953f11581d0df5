"""After a start: make disks, slots and index agree again, in the background, while serving.

The RAM tier is listed at every start (its roster is not kept), the disks and the slots only when the last stop was not
orderly. A file that the index does not name is space that leaked, and goes; a record whose file is missing goes too.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

from edge.errors import DiskError
from edge.logs import get_logger
from edge.store.disk import Disk
from edge.store.record import Record
from edge.store.space import Reckoning
from edge.store.tiers import Store

_SLOTS_A_TURN = 2000
_BUSY_S = 0.2
_HOME = 1
_COPY = 2
_log = get_logger()
Found = tuple[bytes, int]
"""Key and generation, as a file's name says them."""


async def recover(store: Store) -> None:
    """Bring the store in order; returns when it is."""
    await asyncio.sleep(0)
    found = bytearray(store.slots.slots)
    """Of each slot, whether the file was met: at home, as a copy."""
    counted: set[int] = set()
    for disk in store.disks.values():
        if disk.number in store.space.rosters or disk.number in store.uncounted or not store.was_clean:
            try:
                leaked = await _reconcile(store, disk, found)
            except OSError as error:
                _log.error("disk cannot be listed", disk=disk.root, error=str(error))
                continue
            counted.add(disk.number)
            if leaked:
                _log.info("leaked files removed", disk=disk.root, files=leaked)
    freed, lost = await _sweep(store, found, counted)
    if freed or lost or not store.was_clean:
        _log.info("recovered", slots_freed=freed, objects_lost=lost)


async def _reconcile(store: Store, disk: Disk, found: bytearray) -> int:
    """Compare a disk's files with the index; returns the number of files removed."""
    believed = disk.used_bytes
    found_bytes = 0
    removed = 0
    moving: list[Found] = []
    store.reckoning = reckoning = Reckoning(disk, store.first_number)
    root = os.path.join(disk.root, "objects")
    try:
        for outer in await disk.in_pool(_folders, root):
            for inner in await disk.in_pool(_folders, os.path.join(root, outer)):
                reckoning.reach(outer + inner)
                for key, generation in await disk.in_pool(_files, os.path.join(root, outer, inner)):
                    if generation >= store.first_number:
                        continue  # made since the start: whoever made it counted it
                    if (record := _record(store, disk, key, generation)) is not None:
                        if reckoning.meet(key):
                            found_bytes += store.charge(record)
                        found[record.slot] |= _HOME if disk.number == record.home else _COPY
                        if roster := store.space.rosters.get(disk.number):
                            roster.add(record.slot)
                    elif key in store.busy:
                        moving.append((key, generation))
                    else:
                        removed += await _remove(store, disk, key, generation)
        # what changed meanwhile was counted as it changed
        disk.used_bytes += found_bytes - believed
    finally:
        store.reckoning = None
    while moving:
        await asyncio.sleep(_BUSY_S)
        for key, generation in [one for one in moving if one[0] not in store.busy]:
            moving.remove((key, generation))
            if _record(store, disk, key, generation) is None:
                removed += await _remove(store, disk, key, generation)
    return removed


def _record(store: Store, disk: Disk, key: bytes, generation: int) -> Record | None:
    """The record that says this file lies here."""
    record = store.lookup(key)
    if record is None or record.generation != generation or disk.number not in (record.home, record.copy):
        return None
    return record


async def _remove(store: Store, disk: Disk, key: bytes, generation: int) -> int:
    store.busy[key] += 1  # or a move could bring the same file meanwhile
    try:
        await disk.in_pool(disk.unlink, key, generation)
    finally:
        store.busy[key] -= 1
        if not store.busy[key]:
            del store.busy[key]
    return 1


def _listing(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _folders(folder: str) -> list[str]:
    return [name for name in _listing(folder) if len(name) == 2]


def _files(folder: str) -> list[Found]:
    return list(_found(folder))


def _found(folder: str) -> Iterator[Found]:
    for name in _listing(folder):
        key, _, generation = name.partition(".")
        try:
            found = bytes.fromhex(key), int(generation, 16)
        except ValueError:
            continue  # not ours
        if (
            name == f"{found[0].hex()}.{found[1]:x}"
            and len(found[0]) == 16
            and folder.endswith(f"{key[:2]}/{key[2:4]}")
        ):
            yield found


async def _sweep(store: Store, found: bytearray, counted: set[int]) -> tuple[int, int]:
    """Free the slots of what was being filled when the daemon died, and forget what has lost its file."""
    freed = lost = 0
    slots = store.slots
    gone = set(store.index.meta("memory") or ()) - set(store.disks)
    """Disks whose content went with the memory it lay in."""
    suspects = counted | gone
    for slot in range(slots.top):
        if slot % _SLOTS_A_TURN == _SLOTS_A_TURN - 1:
            await asyncio.sleep(0)
        if not slots.stamp(slot):
            continue
        if store.was_clean and slots.home(slot) not in suspects and slots.copy(slot) not in suspects:
            continue
        key = slots.key(slot)
        if key in store.busy:
            continue
        record = store.index.get(key)
        if record is None or record.slot != slot:
            slots.release(slot)
            freed += 1
        elif record.generation < store.first_number:
            for number, mark in ((record.copy, _COPY), (record.home, _HOME)):
                if number in gone or (number in counted and not found[slot] & mark):
                    lost += await _forget(store, key, number)
    return freed, lost


async def _forget(store: Store, key: bytes, number: int) -> int:
    """Let go of what the index has of an object on a disk, unless the file is there after all (it was moved there)."""
    store.busy[key] += 1
    try:
        disk = store.disks.get(number)
        record = store.index.get(key)
        if disk is not None and record is not None:
            try:
                os.close(await disk.run(disk.open, key, record.generation))
                return 0
            except (OSError, DiskError):
                pass
        if record is None or record != store.index.get(key) or number not in (record.home, record.copy):
            return 0
        if store.busy[key] > 1:
            return 0  # a fill began: it finds out by itself
        if disk is not None:
            disk.used_bytes += store.charge(record)  # it was not counted: that it leaves does not count either
        if number == record.copy:
            store.uncopy(key, record)
        else:
            store.drop(key, record)
        return 1
    finally:
        store.busy[key] -= 1
        if not store.busy[key]:
            del store.busy[key]
