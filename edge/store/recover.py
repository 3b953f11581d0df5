"""After a start: make disks, slots and index agree again, in the background, while serving.

The RAM tier is listed at every start (its roster is not kept), the disks and the slots only when the last stop was not
orderly. A file that the index does not name is space that leaked, and goes; a record whose file is missing is found
when it is asked for.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

from edge.logs import get_logger
from edge.store.disk import Disk
from edge.store.tiers import Store

_SLOTS_A_TURN = 2000
_FILES_A_TURN = 500
_log = get_logger()
Found = tuple[bytes, int]
"""Key and generation, as a file's name says them."""


async def recover(store: Store) -> None:
    """Bring the store in order; returns when it is."""
    first_new = store.index.meta("numbers") or 1
    await asyncio.sleep(0)
    for disk in store.disks.values():
        if disk.number in store.space.rosters or not store.was_clean:
            leaked = await _reconcile(store, disk, min(first_new, store.number()))
            if leaked:
                _log.info("leaked files removed", disk=disk.root, files=leaked)
    if not store.was_clean:
        freed = await _release_slots(store)
        _log.info("recovered", slots_freed=freed)


async def _reconcile(store: Store, disk: Disk, first_new: int) -> int:
    """Compare a disk's files with the index; returns the number of files removed."""
    believed = disk.used_bytes
    found_bytes = 0
    leaked: list[Found] = []
    roster = store.space.rosters.get(disk.number)
    root = os.path.join(disk.root, "objects")
    for prefix in await disk.in_pool(_listing, root):
        files = await disk.in_pool(lambda folder: list(_files(folder)), os.path.join(root, prefix))
        for position, (key, generation) in enumerate(files):
            if position % _FILES_A_TURN == _FILES_A_TURN - 1:
                await asyncio.sleep(0)
            if generation >= first_new:
                continue  # made since the start: whoever made it counts it
            record = store.index.get(key)
            if record is not None and record.generation == generation and disk.number in (record.home, record.copy):
                found_bytes += store.charge(record)
                store.lookup(key)
                if roster is not None:
                    roster.add(record.slot)
            elif key not in store.busy:
                leaked.append((key, generation))
    # what changed meanwhile was counted as it changed
    disk.used_bytes = max(0, disk.used_bytes + found_bytes - believed)
    for key, generation in leaked:
        await disk.in_pool(disk.unlink, key, generation)
    return len(leaked)


def _listing(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def _files(folder: str) -> Iterator[Found]:
    for inner in _listing(folder):
        for name in _listing(os.path.join(folder, inner)):
            key, _, generation = name.partition(".")
            try:
                yield bytes.fromhex(key), int(generation, 16)
            except ValueError:
                continue  # not ours


async def _release_slots(store: Store) -> int:
    """Free the slots of what was being filled when the daemon died."""
    freed = 0
    slots = store.slots
    for slot in range(slots.top):
        if slot % _SLOTS_A_TURN == _SLOTS_A_TURN - 1:
            await asyncio.sleep(0)
        stamp = slots.stamp(slot)
        if not stamp:
            continue
        key = slots.key(slot)
        if key in store.busy:
            continue
        record = store.index.get(key)
        if record is None or record.slot != slot:
            slots.release(slot)
            freed += 1
    return freed
