"""What the index knows of a stored object."""

from __future__ import annotations

import msgspec
import xxhash


class Record(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One stored representation. Times are Unix seconds; sizes bytes."""

    generation: int
    """Tells this representation from every other the store ever held; part of the file's name."""
    stamp: int
    """What the slot holds while this record is true."""
    slot: int
    status: int
    size: int
    """Bytes of the whole body; -1 while a body of unknown length is arriving."""
    body_offset: int
    """Where the body begins in the object file."""
    slice_size: int
    home: int
    """Number of the disk that keeps it."""
    copy: int
    """Number of the RAM disk that holds a copy of it, or -1."""
    held: bytes | None
    """A bit for each slice that is here, lowest first; None: all of them."""
    fields: tuple[tuple[str, str], ...]
    """The response's header fields, as received, hop-by-hop ones removed."""
    response_time: float
    initial_age_s: float
    """The corrected initial age at `response_time`, RFC 9111 section 4.2.3."""
    lifetime_s: float
    request_time: float
    primary: bytes = b""
    """For a variant: the key of its resource, under which the marker is."""
    variants: tuple[bytes, ...] = ()
    """For a marker: the keys of the variants."""

    @property
    def is_marker(self) -> bool:
        """Whether this stands for a resource with variants: `fields` says by which request fields they differ."""
        return self.status == 0

    @property
    def selecting(self) -> tuple[str, ...]:
        """For a marker: the request fields that select a variant, lower-case, sorted."""
        return tuple(name for name, _ in self.fields)

    @property
    def fresh_until(self) -> float:
        """Unix time; 0 for what was stale on arrival: a worker's clock may be late by a moment."""
        if self.lifetime_s <= self.initial_age_s:
            return 0.0
        return self.response_time - self.initial_age_s + self.lifetime_s

    def age_s(self, now: float) -> float:
        """Current age in seconds (RFC 9111, 4.2.3)."""
        return max(0.0, now - self.response_time) + self.initial_age_s

    @property
    def complete(self) -> bool:
        return self.held is None and self.size >= 0

    @property
    def slices(self) -> int:
        return slice_count(self.size, self.slice_size)

    def field(self, name: str) -> str | None:
        """The first value of a field, by its lower-case name."""
        for candidate, value in self.fields:
            if candidate.lower() == name:
                return value
        return None


def slice_count(size: int, slice_size: int) -> int:
    return -(-size // slice_size) if size > 0 else 0


def key_hash(text: str) -> bytes:
    """The 16 bytes a cache key is known by everywhere below the rules of HTTP."""
    return xxhash.xxh3_128_digest(text.encode())


class Held:
    """Which slices are here: a bitmap that turns into runs of bytes."""

    __slots__ = ("bits", "count", "size", "slice_size", "slices")

    def __init__(self, size: int, slice_size: int, bitmap: bytes | None = b"") -> None:
        self.size = size
        self.slice_size = slice_size
        self.slices = slice_count(size, slice_size)
        whole = (1 << self.slices) - 1
        self.bits = whole if bitmap is None else int.from_bytes(bitmap, "little") & whole
        self.count = self.bits.bit_count()

    def __contains__(self, position: int) -> bool:
        return bool(self.bits >> position & 1)

    def add(self, position: int) -> None:
        if position not in self:
            self.bits |= 1 << position
            self.count += 1

    def discard(self, position: int) -> None:
        if position in self:
            self.bits &= ~(1 << position)
            self.count -= 1

    @property
    def complete(self) -> bool:
        return self.count == self.slices

    def bitmap(self) -> bytes | None:
        """As a record keeps it."""
        return None if self.complete else self.bits.to_bytes((self.slices + 7) // 8, "little")

    def bytes_held(self) -> int:
        full = self.count * self.slice_size
        if self.slices and (self.slices - 1) in self:
            full -= self.slices * self.slice_size - self.size
        return full

    def runs(self) -> list[tuple[int, int]]:
        """The bytes that are here, as ascending half-open runs."""
        found: list[tuple[int, int]] = []
        position = 0
        bits = self.bits
        while bits:
            skip = (bits & -bits).bit_length() - 1
            bits >>= skip
            position += skip
            length = (~bits & (bits + 1)).bit_length() - 1
            start = position * self.slice_size
            found.append((start, min((position + length) * self.slice_size, self.size)))
            bits >>= length
            position += length
        return found

    def missing(self, start: int, end: int) -> list[tuple[int, int]]:
        """Runs of slice numbers, half-open, that [start, end) needs and that are not here."""
        end = min(end, self.size)
        first, last = start // self.slice_size, slice_count(end, self.slice_size) if start < end else 0
        gaps: list[tuple[int, int]] = []
        for position in range(first, last):
            if position in self:
                continue
            if gaps and gaps[-1][1] == position:
                gaps[-1] = (gaps[-1][0], position + 1)
            else:
                gaps.append((position, position + 1))
        return gaps
