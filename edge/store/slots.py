"""The slot table: one small fixed place for each object, mapped by every process.

A worker compares the stamp, so that a purge, an eviction, a move or a replacement is seen by all at the next request
with no message; and it notes the access, so that popularity costs no message and outlives a restart. The index is the
truth; a slot that disagrees with it only sends the worker to the manager.

Twelve 32-bit words a slot. Each is written with one aligned store (memoryview cast to "I"), so that no reader sees half
of one.
"""

from __future__ import annotations

import mmap
import os
import struct

WORDS = 12
SLOT_BYTES = WORDS * 4

STAMP = 0
"""Changes whenever the object is replaced, moved or dropped; 0: the slot is free."""
LAST_ACCESS = 1
"""Unix seconds."""
HITS = 2
"""Decayed number of accesses at LAST_ACCESS, in 1/256."""
SIZE_KIB = 3
PLACE = 4
"""Number of the home disk + 1 in the low half, of the RAM copy's disk + 1 in the high half."""
FLAGS = 5
CREATED = 6
"""Unix seconds."""
KEY = 8
"""Four words: the key's 16 bytes."""

HIT = 256
HALF_LIFE_S = 36 * 3600.0
"""Popularity halves in a day and a half: the best of those tried on a week of video on demand."""
_NEGLIGIBLE_S = 60
_WORD_MAX = 0xFFFFFFFF


class SlotTable:
    def __init__(self, path: str, slots: int, *, write: bool) -> None:
        """Map the table at `path`; the manager (`write`) makes or grows it."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            if write and os.fstat(fd).st_size < slots * SLOT_BYTES:
                os.ftruncate(fd, slots * SLOT_BYTES)
            size = os.fstat(fd).st_size // SLOT_BYTES * SLOT_BYTES
            self._map = mmap.mmap(fd, size)
        finally:
            os.close(fd)
        self.words = memoryview(self._map).cast("I")
        self.slots = size // SLOT_BYTES
        self.top = self._find_top() if write else 0
        """No slot at or above this one was ever used: what sampling needs to know."""
        self._free: list[int] = []
        self._cursor = self.top
        self._all_taken = False
        """Seen when the table was searched: since then only released slots are free."""

    def stamp(self, slot: int) -> int:
        return self.words[slot * WORDS]

    def touch(self, slot: int, now_s: int, accesses: int = 1) -> None:
        """Note accesses at `now_s`. Two processes at once may lose one: popularity is an estimate."""
        base = slot * WORDS
        words = self.words
        passed = now_s - words[base + LAST_ACCESS]
        hits = words[base + HITS]
        if passed > _NEGLIGIBLE_S:
            hits = int(hits * 2.0 ** (-passed / HALF_LIFE_S))
        words[base + LAST_ACCESS] = now_s
        words[base + HITS] = min(hits + accesses * HIT, _WORD_MAX)

    def hits(self, slot: int, now_s: int) -> float:
        """The decayed number of accesses."""
        base = slot * WORDS
        passed = max(0, now_s - self.words[base + LAST_ACCESS])
        return float(self.words[base + HITS] / HIT * 2.0 ** (-passed / HALF_LIFE_S))

    def last_access(self, slot: int) -> int:
        return self.words[slot * WORDS + LAST_ACCESS]

    def size_kib(self, slot: int) -> int:
        return self.words[slot * WORDS + SIZE_KIB]

    def home(self, slot: int) -> int:
        """Number of the disk that keeps the object, or -1."""
        return (self.words[slot * WORDS + PLACE] & 0xFFFF) - 1

    def copy(self, slot: int) -> int:
        """Number of the RAM disk with a copy, or -1."""
        return (self.words[slot * WORDS + PLACE] >> 16) - 1

    def key(self, slot: int) -> bytes:
        base = slot * WORDS + KEY
        return struct.pack("=4I", *self.words[base : base + 4])

    # the manager's part

    def allocate(self) -> int | None:
        """A free slot, or None when all are taken."""
        while self._free:
            slot = self._free.pop()
            if not self.words[slot * WORDS]:
                return slot
        for _ in range(0 if self._all_taken else self.slots):
            slot = self._cursor % self.slots
            self._cursor = slot + 1
            if not self.words[slot * WORDS]:
                self.top = max(self.top, slot + 1)
                return slot
        self._all_taken = True
        return None

    def _find_top(self) -> int:
        block = 48 << 16
        for start in range((len(self._map) - 1) // block * block, -1, -block):
            used = len(self._map[start : start + block].rstrip(b"\0"))
            if used:
                return (start + used + SLOT_BYTES - 1) // SLOT_BYTES
        return 0

    def bind(self, slot: int, key: bytes, stamp: int, now_s: int) -> None:
        """Give a slot to an object; the stamp is stored last, since it makes the rest visible."""
        base = slot * WORDS
        words = self.words
        words[base] = 0
        words[base + LAST_ACCESS] = now_s
        words[base + HITS] = 0
        words[base + SIZE_KIB] = 0
        words[base + PLACE] = 0
        words[base + FLAGS] = 0
        words[base + CREATED] = now_s
        for position, word in enumerate(struct.unpack("=4I", key)):
            words[base + KEY + position] = word
        words[base] = stamp

    def settle(self, slot: int, home: int, copy: int, size_bytes: int) -> None:
        """Say where an object lies and how much it holds."""
        base = slot * WORDS
        self.words[base + PLACE] = (home + 1) | (copy + 1) << 16
        self.words[base + SIZE_KIB] = min((size_bytes + 1023) >> 10, _WORD_MAX)

    def rebind(self, slot: int, key: bytes, stamp: int) -> None:
        """Make a slot agree with the index, keeping the popularity it remembers of that key."""
        if self.key(slot) != key:
            self.bind(slot, key, stamp, self.last_access(slot))
        self.words[slot * WORDS] = stamp
        self.top = max(self.top, slot + 1)

    def release(self, slot: int) -> None:
        """Free a slot: every worker sees at its next request that the object is gone."""
        self.words[slot * WORDS] = 0
        self.words[slot * WORDS + PLACE] = 0
        self._free.append(slot)

    def close(self) -> None:
        self.words.release()
        self._map.close()


def stamp_of(number: int) -> int:
    """A counter's value as a slot holds it: never 0, which means free."""
    return number & _WORD_MAX or _WORD_MAX
