"""Which objects lie on a disk, by sampling, and whether it has room."""

from __future__ import annotations

import random
from collections.abc import Callable

from edge.store.disk import Disk
from edge.store.policy import SAMPLE, Candidate
from edge.store.slots import PLACE, WORDS, SlotTable
from edge.terms import TierName

HIGH_WATER = {TierName.RAM: 0.85, TierName.SSD: 0.95, TierName.HDD: 0.97}
"""Above this share of its capacity a disk is emptied in the background, so that a fill finds room at once."""

_TRIES = 2048
_SCAN_SLOTS = 1 << 16
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

    def sample(self, most: int) -> list[int]:
        return random.sample(self._slots, min(most, len(self._slots)))


class Space:
    """Room and candidates of every disk."""

    def __init__(self, disks: dict[int, Disk], slots: SlotTable, monotonic: Callable[[], float]) -> None:
        self._disks = disks
        self._slots = slots
        self._monotonic = monotonic
        self.rosters = {number: Roster() for number, disk in disks.items() if disk.tier is TierName.RAM}
        self._capacity: dict[int, tuple[float, int]] = {}
        self._searched = 0

    def capacity_bytes(self, disk: Disk) -> int:
        """Statvfs is asked at most once a second."""
        now = self._monotonic()
        known = self._capacity.get(disk.number)
        if known is None or now - known[0] > _CAPACITY_AGE_S:
            try:
                known = now, disk.capacity_bytes()
            except OSError:  # what is wrong with it shows when it is read or written
                known = now, known[1] if known is not None else 0
            self._capacity[disk.number] = known
        return known[1]

    def has_room(self, disk: Disk, size_bytes: int) -> bool:
        return disk.used_bytes + size_bytes <= self.capacity_bytes(disk)

    def below_high_water(self, disk: Disk, size_bytes: int = 0) -> bool:
        return disk.used_bytes + size_bytes <= self.capacity_bytes(disk) * HIGH_WATER[disk.tier]

    def candidate(self, slot: int, now_s: int) -> Candidate:
        slots = self._slots
        return Candidate(slot, slots.hits(slot, now_s), slots.last_access(slot), slots.size_kib(slot))

    def sample(self, disk: Disk, now_s: int, may_go: Callable[[int], bool] = lambda _: True) -> list[Candidate]:
        """Random objects that lie on the disk and, by their slots, may go."""
        found: list[Candidate] = []
        roster = self.rosters.get(disk.number)
        if roster is not None:
            picked = [slot for slot in roster.sample(SAMPLE) if may_go(slot)]
            if not picked:  # a few objects, most of them being worked on
                picked = [slot for slot in roster.sample(_TRIES) if may_go(slot)][:SAMPLE]
            return [self.candidate(slot, now_s) for slot in picked]
        slots = self._slots
        for _ in range(_TRIES if slots.top else 0):
            slot = random.randrange(slots.top)
            if slots.stamp(slot) and slots.home(slot) == disk.number and may_go(slot):
                found.append(self.candidate(slot, now_s))
                if len(found) == SAMPLE:
                    break
        if not found and disk.used_bytes > 0 and (one := self._search(disk)) is not None and may_go(one):
            found.append(self.candidate(one, now_s))
        return found

    def _search(self, disk: Disk) -> int | None:
        """The next object of a disk that holds too small a share of all to be met by chance."""
        slots = self._slots
        home = disk.number + 1
        wanted = [home, *(home | (copy + 1) << 16 for copy in self.rosters)]
        for _ in range(0, slots.top + _SCAN_SLOTS, _SCAN_SLOTS):
            first = self._searched if self._searched < slots.top else 0
            last = min(first + _SCAN_SLOTS, slots.top)
            places = slots.words[first * WORDS + PLACE : last * WORDS : WORDS].tolist()
            for place in wanted:
                if place in places and slots.stamp(slot := first + places.index(place)):
                    self._searched = slot + 1
                    return slot
            self._searched = last
        return None


class Reckoning:
    """A disk's files being counted anew, folder by folder, while objects come and go; from the start on.

    What lies in a folder that is not reached yet will be counted as it then stands, so a change there does not count;
    a change of what was counted does, and what arrives meanwhile counts at once.
    """

    def __init__(self, believed_bytes: int, first_new: int) -> None:
        self.believed_bytes = believed_bytes
        """What was used before the start, as it was written down then."""
        self._first_new = first_new
        self._folder = ""
        self._met: set[bytes] = set()
        """Keys counted of the folder reached."""
        self._arrived: set[bytes] = set()

    def reach(self, folder: str) -> None:
        """A folder's first four digits; folders come in ascending order."""
        self._folder = folder
        self._met.clear()

    def meet(self, key: bytes) -> bool:
        """A file of the folder reached; whether it is to be counted."""
        if key in self._arrived or key in self._met:
            return False
        self._met.add(key)
        return True

    def counts(self, key: bytes, generation: int, *, arrives: bool = False, leaves: bool = False) -> bool:
        """Whether a change of an object's bytes on the disk changes what is used there."""
        if generation >= self._first_new:
            return True
        if arrives:
            self._arrived.add(key)
        counted = key.hex()[:4] < self._folder or key in self._met or key in self._arrived
        if leaves:
            self._arrived.discard(key)
            self._met.discard(key)
        return counted
