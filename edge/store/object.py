"""The object file: one stored representation, self-describing, so that the index can be rebuilt from the disks.

    0            magic, length and hash of the header, the header (msgpack), padding to a page
    body_offset  the body, sparse: any slice may be missing
    trailer      a checksum of 8 bytes for each slice, 0 where the slice is not here; on the page after the body

Life of a file:

    phase     made by        legal
    filling   create()       write(), seal_slice(); size may be unknown
    settled   settle()       open for reading; further slices may be filled while size is known
    gone      Disk.unlink()  open descriptors go on reading

A slice whose checksum is not there did not happen, whatever bytes lie in its place.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable

import msgspec
import xxhash

from edge.errors import DiskError
from edge.store.record import Record
from edge.terms import Reason

MAGIC = b"EDGEOBJ1"
PAGE = 4096
_PREFIX = struct.Struct("<8sIQ")
_CHECKSUM_BYTES = 8
_HEADER_MAX_BYTES = 1 << 20


class Header(msgspec.Struct, array_like=True):
    """What the file says of itself."""

    key: bytes
    url: str
    record: Record


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Header)


def header_bytes(header: Header, room: int | None = None) -> bytes:
    """The header block, padded to whole pages, or to `room` (ValueError when it does not fit)."""
    body = _encoder.encode(header)
    needed = (_PREFIX.size + len(body) + PAGE - 1) // PAGE * PAGE
    if room is not None and needed > room:
        raise ValueError("the header outgrew its place")
    prefix = _PREFIX.pack(MAGIC, len(body), xxhash.xxh3_64_intdigest(body))
    return (prefix + body).ljust(room or needed, b"\0")


def body_offset(header: Header) -> int:
    """Where the body begins behind `header`, with a page to spare for fields that a revalidation adds."""
    return (_PREFIX.size + len(_encoder.encode(header)) + 256 + PAGE - 1) // PAGE * PAGE


def read_header(fd: int) -> Header:
    """The header of an open file; DiskError when it is not one of ours or was damaged."""
    prefix = os.pread(fd, _PREFIX.size, 0)
    if len(prefix) < _PREFIX.size:
        raise DiskError("an object file without a header", Reason.CHECKSUM)
    magic, length, digest = _PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise DiskError("not an object file", Reason.CHECKSUM)
    body = os.pread(fd, min(length, _HEADER_MAX_BYTES), _PREFIX.size)
    if xxhash.xxh3_64_intdigest(body) != digest:
        raise DiskError("a damaged object header", Reason.CHECKSUM)
    return _decoder.decode(body)


def trailer_offset(record: Record) -> int:
    return record.body_offset + (record.size + PAGE - 1) // PAGE * PAGE


def file_size(record: Record) -> int:
    """Bytes of a whole object file, as counted against its disk's limit."""
    trailer = (record.slices * _CHECKSUM_BYTES + PAGE - 1) // PAGE * PAGE
    return trailer_offset(record) + trailer


def checksum(data: bytes | bytearray | memoryview) -> int:
    """A slice's checksum: never 0, which means that the slice is missing."""
    return xxhash.xxh3_64_intdigest(data) or 1


def write_all(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Pwrite until everything is written."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written


def write_checksum(fd: int, record: Record, position: int, value: int) -> None:
    write_all(fd, value.to_bytes(_CHECKSUM_BYTES, "little"), trailer_offset(record) + position * _CHECKSUM_BYTES)


def write_checksums(fd: int, record: Record, values: list[int]) -> None:
    write_all(fd, struct.pack(f"<{len(values)}Q", *values), trailer_offset(record))


def read_checksums(fd: int, record: Record) -> list[int]:
    """The checksum of each slice, 0 where it is missing."""
    count = record.slices
    data = os.pread(fd, count * _CHECKSUM_BYTES, trailer_offset(record)).ljust(count * _CHECKSUM_BYTES, b"\0")
    return list(struct.unpack(f"<{count}Q", data))


def copy_verified(source: int, target: int, record: Record, slices: Iterable[int]) -> int:
    """Copy an object file's header and the given slices, each checked on the way; returns the bytes of body copied.

    Raises DiskError(CHECKSUM) at the first slice that is not what was written, DiskError(DISK_READ) where the source
    cannot be read, OSError where the target cannot be written. Blocks: for a disk's pool.
    """
    try:
        header = os.pread(source, record.body_offset, 0)
        sums = read_checksums(source, record)
    except OSError as error:
        raise DiskError(str(error), Reason.DISK_READ) from error
    write_all(target, header, 0)
    copied = 0
    copied_sums = [0] * len(sums)
    buffer = bytearray(record.slice_size)
    for position in slices:
        start = position * record.slice_size
        length = min(record.slice_size, record.size - start)
        view = memoryview(buffer)[:length]
        try:
            got = read_into(source, view, record.body_offset + start)
        except OSError as error:
            raise DiskError(str(error), Reason.DISK_READ) from error
        if got != length or checksum(view) != sums[position]:
            raise DiskError(f"slice {position} is damaged", Reason.CHECKSUM)
        write_all(target, view, record.body_offset + start)
        copied_sums[position] = sums[position]
        copied += length
    write_checksums(target, record, copied_sums)
    return copied


def damaged_slices(fd: int, record: Record, slices: Iterable[int]) -> list[int]:
    """Those of the slices that are not what was written. Blocks: for a disk's pool."""
    sums = read_checksums(fd, record)
    buffer = bytearray(record.slice_size)
    damaged = []
    for position in slices:
        start = position * record.slice_size
        view = memoryview(buffer)[: min(record.slice_size, record.size - start)]
        if read_into(fd, view, record.body_offset + start) != len(view) or checksum(view) != sums[position]:
            damaged.append(position)
    return damaged


def read_into(fd: int, view: memoryview, offset: int) -> int:
    """Preadv until the view is full or the file ends; returns the bytes read."""
    done = 0
    while done < len(view):
        got = os.preadv(fd, [view[done:]], offset + done)
        if not got:
            break
        done += got
    return done
