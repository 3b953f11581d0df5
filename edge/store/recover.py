"""After a start: make disks, slots and index agree again, in the background, while serving.

The RAM tier is listed at every start (its roster is not kept), the disks and the slots only when the last stop was not
orderly. A file that the index does not name is space that leaked, and goes; a record whose file is missing goes too,
unless it had just been moved: then the file lies on another disk.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator

from edge.errors import DiskError
from edge.logs import get_logger
from edge.store.disk import Disk
from edge.store.object import damaged_slices
from edge.store.record import Held, Record
from edge.store.tiers import Store

_TURN = 1000
_BUSY_S = 0.2
_HOME = 1
_COPY = 2
_log = get_logger()
Found = tuple[bytes, int]
"""Key and generation, as a file's name says them."""

Stray = tuple[Disk, bytes, int]


async def recover(store: Store) -> None:
    """Bring the store in order; returns when it is."""
    await asyncio.sleep(0)
    found = bytearray(store.slots.slots)
    """Of each slot, whether the file was met: at home, as a copy."""
    counted: set[int] = set()
    unlisted = False
    strays: list[Stray] = []
    for number in list(store.reckonings):
        disk = store.disks[number]
        try:
            leaked = await _reconcile(store, disk, found, strays)
        except OSError as error:
            _log.error("disk cannot be listed", disk=disk.root, error=str(error))
            unlisted = True
            continue
        finally:
            del store.reckonings[number]
        counted.add(number)
        if leaked:
            _log.info("leaked files removed", disk=disk.root, files=leaked)
    gone = set(store.index.meta("memory") or ()) - set(store.disks)
    """Disks whose content went with the memory it lay in."""
    strays = await _settle_strays(store, strays, counted | gone)
    lost = await _forget_lost(store, found, counted, gone)
    freed = 0 if store.was_clean else await _free_slots(store)
    while strays:  # what a fill or a move works on
        await asyncio.sleep(_BUSY_S)
        strays = await _settle_strays(store, strays, counted | gone)
    if lost or not store.was_clean:
        _log.info("recovered", slots_freed=freed, objects_lost=lost)
    store.is_recovered = not unlisted


async def _reconcile(store: Store, disk: Disk, found: bytearray, strays: list[Stray]) -> int:
    """Compare a disk's files with the index; returns the number of files removed.

    Files of objects that the index knows, but elsewhere, are added to `strays`.
    """
    reckoning = store.reckonings[disk.number]
    found_bytes = 0
    removed = 0
    root = os.path.join(disk.root, "objects")
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
                    if (roster := store.space.rosters.get(disk.number)) is not None:
                        roster.add(record.slot)
                elif key in store.busy or _is_current(store, key, generation):
                    strays.append((disk, key, generation))
                else:
                    removed += await _remove(store, disk, key, generation)
    # what changed meanwhile was counted as it changed
    disk.used_bytes += found_bytes - reckoning.believed_bytes
    return removed


def _is_current(store: Store, key: bytes, generation: int) -> bool:
    record = store.index.get(key)
    return record is not None and record.generation == generation


async def _settle_strays(store: Store, strays: list[Stray], suspects: set[int]) -> list[Stray]:
    """Deal with all that nobody works on; returns the others."""
    waiting: list[Stray] = []
    for disk, key, generation in strays:
        if key in store.busy:
            waiting.append((disk, key, generation))
        else:
            await _settle_stray(store, disk, key, generation, suspects)
    return waiting


async def _settle_stray(store: Store, disk: Disk, key: bytes, generation: int, suspects: set[int]) -> None:
    """A file of an object that lies elsewhere: all there is of it where that was lost, else a move's that did not end.

    A move out of memory gives the memory back before the index is on the disk.
    """
    if _record(store, disk, key, generation) is not None:
        return
    record = store.index.get(key)
    store.busy[key] += 1
    try:
        if record is not None and record.generation == generation and record.home in suspects:
            lost = store.disks.get(record.home)
            there = lost is not None and await lost.in_pool(os.path.exists, lost.path(key, generation))
            whole = not there and await disk.in_pool(_is_whole, disk, key, record)
            if store.index.get(key) != record or store.busy[key] > 1:
                return  # a fill began meanwhile: the next start sees what became of it
            if whole:
                if lost is not None:
                    lost.used_bytes += store.charge(record)  # it was not counted: that it leaves does not count either
                store.replace_place(key, record, home=disk.number, copy=-1)
                return
        await disk.in_pool(disk.unlink, key, generation)
    finally:
        _release(store, key)


def _is_whole(disk: Disk, key: bytes, record: Record) -> bool:
    held = Held(record.size, record.slice_size, record.held)
    try:
        fd = disk.open(key, record.generation)
        try:
            return not damaged_slices(fd, record, [position for position in range(record.slices) if position in held])
        finally:
            os.close(fd)
    except OSError:
        return False


def _release(store: Store, key: bytes) -> None:
    store.busy[key] -= 1
    if not store.busy[key]:
        del store.busy[key]


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
        _release(store, key)
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


async def _forget_lost(store: Store, found: bytearray, counted: set[int], gone: set[int]) -> int:
    """Forget what has lost its file; returns how many places of objects that were."""
    slots = store.slots
    lost = 0
    async for key in _suspects(store, counted | gone):
        record = store.index.get(key)
        if record is None or key in store.busy or record.generation >= store.first_number:
            continue
        met = found[record.slot] if slots.key(record.slot) == key else 0
        for number, mark in ((record.copy, _COPY), (record.home, _HOME)):
            if number in gone or (number in counted and not met & mark):
                lost += await _forget(store, key, number)
        if not store.was_clean:
            store.lookup(key)  # so that the slot, and whoever samples it, knows of it
    return lost


async def _suspects(store: Store, disks: set[int]) -> AsyncIterator[bytes]:
    """Keys of what may have lost its file: all, unless the last stop was orderly."""
    if not store.was_clean:
        after = b""
        while keys := store.index.keys(after, _TURN):
            for key in keys:
                yield key
            after = keys[-1]
            await asyncio.sleep(0)
        return
    slots = store.slots
    for slot in range(slots.top):
        if slot % _TURN == _TURN - 1:
            await asyncio.sleep(0)
        if slots.stamp(slot) and (slots.home(slot) in disks or slots.copy(slot) in disks):
            yield slots.key(slot)


async def _free_slots(store: Store) -> int:
    """Free the slots of what was being filled when the daemon died."""
    freed = 0
    slots = store.slots
    for slot in range(slots.top):
        if slot % _TURN == _TURN - 1:
            await asyncio.sleep(0)
        if not slots.stamp(slot) or (key := slots.key(slot)) in store.busy:
            continue
        record = store.index.get(key)
        if record is None or record.slot != slot:
            slots.release(slot)
            freed += 1
    return freed


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
        _release(store, key)
