"""Which objects lie on a disk, by sampling, and whether it has room."""

from __future__ import annotations

import random
from collections.abc import Callable

from edge.store.disk import Disk
from edge.store.policy import SAMPLE, Candidate
from edge.store.slots import SlotTable
from edge.terms import TierName

HIGH_WATER = {TierName.RAM: 0.85, TierName.SSD: 0.95, TierName.HDD: 0.97}
"""Above this share of its capacity a disk is emptied in the background, so that a fill finds room at once."""

_TRIES = 2048
_CAPACITY_AGE_S = 1.0


class Roster:
    """The slots of what lies on a RAM disk: too small a share of all objects to be found by sampling the table."""

    def __init__(self) -> None:
        self._slots: list[int] = []
        self._positions: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._slots)

    def add(self, slot: int) -> None:
        if slot not in self._positions:
            self._positions[slot] = len(self._slots)
            self._slots.append(slot)

    def discard(self, slot: int) -> None:
        position = self._positions.pop(slot, None)
        if position is None:
            return
        last = self._slots.pop()
        if last != slot:
            self._slots[position] = last
            self._positions[last] = position

    def pick(self) -> int:
        return random.choice(self._slots)


class Space:
    """Room and candidates of every disk."""

    def __init__(self, disks: dict[int, Disk], slots: SlotTable, monotonic: Callable[[], float]) -> None:
        self._disks = disks
        self._slots = slots
        self._monotonic = monotonic
        self.rosters = {number: Roster() for number, disk in disks.items() if disk.tier is TierName.RAM}
        self._capacity: dict[int, tuple[float, int]] = {}

    def capacity_bytes(self, disk: Disk) -> int:
        """Statvfs is asked at most once a second."""
        now = self._monotonic()
        known = self._capacity.get(disk.number)
        if known is None or now - known[0] > _CAPACITY_AGE_S:
            known = now, disk.capacity_bytes()
            self._capacity[disk.number] = known
        return known[1]

    def has_room(self, disk: Disk, size_bytes: int) -> bool:
        return disk.used_bytes + size_bytes <= self.capacity_bytes(disk)

    def below_high_water(self, disk: Disk, size_bytes: int = 0) -> bool:
        return disk.used_bytes + size_bytes <= self.capacity_bytes(disk) * HIGH_WATER[disk.tier]

    def candidate(self, slot: int, now_s: int) -> Candidate:
        slots = self._slots
        return Candidate(slot, slots.hits(slot, now_s), slots.last_access(slot), slots.size_kib(slot))

    def sample(self, disk: Disk, now_s: int) -> list[Candidate]:
        """Random objects that lie on the disk."""
        found: list[Candidate] = []
        roster = self.rosters.get(disk.number)
        if roster is not None:
            picked = {roster.pick() for _ in range(min(SAMPLE, 2 * len(roster)))} if len(roster) else set()
            return [self.candidate(slot, now_s) for slot in picked]
        slots = self._slots
        for _ in range(_TRIES if slots.top else 0):
            slot = random.randrange(slots.top)
            if slots.stamp(slot) and slots.home(slot) == disk.number:
                found.append(self.candidate(slot, now_s))
                if len(found) == SAMPLE:
                    break
        return found
