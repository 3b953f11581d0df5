"""The object file: what it says of itself, and that damage is seen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import DiskError
from edge.store.object import (
    PAGE,
    Header,
    body_offset,
    checksum,
    copy_verified,
    file_size,
    header_bytes,
    read_checksums,
    read_header,
    read_into,
    trailer_offset,
    write_all,
    write_checksum,
    write_checksums,
)
from edge.store.record import Record
from edge.terms import Reason
from tests.store.making import SLICE, body, draft, key

SIZE = 3 * SLICE + 100


def placed(size: int = SIZE) -> Record:
    return msgspec.structs.replace(draft(size), body_offset=PAGE, generation=7)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[int, int]]:
    fds = [os.open(tmp_path / name, os.O_RDWR | os.O_CREAT) for name in ("source", "target")]
    yield fds[0], fds[1]
    for fd in fds:
        os.close(fd)


def write(fd: int, record: Record, slices: list[int]) -> bytes:
    """An object file with some of its slices."""
    data = body("x", record.size)
    write_all(fd, header_bytes(Header(key("x"), "x", record), record.body_offset), 0)
    for position in slices:
        piece = data[position * SLICE : (position + 1) * SLICE]
        write_all(fd, piece, record.body_offset + position * SLICE)
        write_checksum(fd, record, position, checksum(piece))
    return data


def test_a_header_tells_key_url_and_record(two: tuple[int, int]) -> None:
    header = Header(key("x"), "http://a/é?x", placed())
    write_all(two[0], header_bytes(header), 0)
    assert read_header(two[0]) == header


@given(st.text(max_size=5000), st.integers(0, 60))
def test_a_header_fits_before_the_body_with_room_for_a_revalidation(url: str, fields: int) -> None:
    record = msgspec.structs.replace(draft(1), fields=tuple(("X-Field", "v" * 50) for _ in range(fields)))
    offset = body_offset(Header(key("x"), url, record))
    assert offset % PAGE == 0
    later = msgspec.structs.replace(record, size=1 << 60, body_offset=offset, generation=1 << 40, stamp=1 << 31)
    assert len(header_bytes(Header(key("x"), url, later), offset)) == offset


def test_a_header_that_outgrew_its_place_is_refused() -> None:
    with pytest.raises(ValueError, match="outgrew"):
        header_bytes(Header(key("x"), "u" * 5000, placed()), PAGE)


@pytest.mark.parametrize("at", [0, 7, 8, 12, 20, 60])
def test_a_header_with_a_flipped_byte_is_damaged(two: tuple[int, int], at: int) -> None:
    block = bytearray(header_bytes(Header(key("x"), "url", placed())))
    block[at] ^= 0x40
    write_all(two[0], bytes(block), 0)
    with pytest.raises(DiskError) as caught:
        read_header(two[0])
    assert caught.value.reason is Reason.CHECKSUM


def test_a_header_that_claims_gigabytes_costs_none(two: tuple[int, int]) -> None:
    block = bytearray(header_bytes(Header(key("x"), "url", placed())))
    block[8:12] = b"\xff\xff\xff\xff"
    write_all(two[0], bytes(block), 0)
    os.ftruncate(two[0], 1 << 40)
    with pytest.raises(DiskError):
        read_header(two[0])


@pytest.mark.parametrize("content", [b"", b"EDGEOBJ1", b"\0" * 8192])
def test_what_is_no_object_file(two: tuple[int, int], content: bytes) -> None:
    write_all(two[0], content, 0)
    with pytest.raises(DiskError):
        read_header(two[0])


@pytest.mark.parametrize(
    ("size", "whole"),
    [(0, PAGE), (1, 3 * PAGE), (PAGE, 3 * PAGE), (PAGE + 1, 4 * PAGE), (513 * SLICE, PAGE + 513 * SLICE + 2 * PAGE)],
)
def test_where_things_lie(size: int, whole: int) -> None:
    assert file_size(placed(size)) == whole
    assert trailer_offset(placed(size)) % PAGE == 0


def test_a_missing_slice_has_no_checksum(two: tuple[int, int]) -> None:
    record = placed()
    data = write(two[0], record, [1, 3])
    assert read_checksums(two[0], record) == [0, checksum(data[SLICE : 2 * SLICE]), 0, checksum(data[3 * SLICE :])]


def test_a_checksum_is_never_what_means_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xxhash.xxh3_64_intdigest", lambda data: 0)
    assert checksum(b"unlucky") == 1


def test_a_copy_is_the_same_file_slice_for_slice(two: tuple[int, int]) -> None:
    record = placed()
    data = write(two[0], record, [0, 1, 2, 3])
    assert copy_verified(*two, record, [0, 1, 2, 3]) == SIZE
    assert read_header(two[1]) == read_header(two[0])
    assert read_checksums(two[1], record) == read_checksums(two[0], record)
    assert os.pread(two[1], SIZE, record.body_offset) == data


def test_a_copy_of_a_part_holds_that_part_only(two: tuple[int, int]) -> None:
    record = placed()
    data = write(two[0], record, [0, 1, 3])
    assert copy_verified(*two, record, [1, 3]) == SLICE + 100
    assert [bool(value) for value in read_checksums(two[1], record)] == [False, True, False, True]
    assert os.pread(two[1], SLICE, record.body_offset + SLICE) == data[SLICE : 2 * SLICE]
    assert os.pread(two[1], SLICE, record.body_offset) == bytes(SLICE)


@pytest.mark.parametrize("at", [0, SLICE - 1, SLICE, SIZE - 1])
def test_a_flipped_byte_is_seen_by_the_copy(two: tuple[int, int], at: int) -> None:
    record = placed()
    data = write(two[0], record, [0, 1, 2, 3])
    os.pwrite(two[0], bytes([data[at] ^ 1]), record.body_offset + at)
    with pytest.raises(DiskError) as caught:
        copy_verified(*two, record, [0, 1, 2, 3])
    assert caught.value.reason is Reason.CHECKSUM


def test_a_flipped_byte_in_a_slice_that_is_not_held_does_not_matter(two: tuple[int, int]) -> None:
    record = placed()
    write(two[0], record, [0])
    os.pwrite(two[0], b"stray", record.body_offset + SLICE)
    assert copy_verified(*two, record, [0]) == SLICE


def test_a_file_cut_short_is_seen_by_the_copy(two: tuple[int, int]) -> None:
    record = placed()
    write(two[0], record, [0, 1, 2, 3])
    os.ftruncate(two[0], record.body_offset + SLICE + 5)
    with pytest.raises(DiskError) as caught:
        copy_verified(*two, record, [0, 1])
    assert caught.value.reason is Reason.CHECKSUM


def test_an_unreadable_source_is_not_the_targets_fault(two: tuple[int, int], tmp_path: Path) -> None:
    record = placed()
    write(two[0], record, [0])
    blind = os.open(tmp_path / "source", os.O_WRONLY)
    with pytest.raises(DiskError) as caught:
        copy_verified(blind, two[1], record, [0])
    assert caught.value.reason is Reason.DISK_READ
    os.close(blind)


def test_a_target_that_cannot_be_written_is_not_the_sources_fault(two: tuple[int, int], tmp_path: Path) -> None:
    record = placed()
    write(two[0], record, [0])
    deaf = os.open(tmp_path / "target", os.O_RDONLY)
    with pytest.raises(OSError, match="Bad file descriptor"):
        copy_verified(two[0], deaf, record, [0])
    os.close(deaf)


@pytest.mark.timeout(10)
def test_many_slices_are_copied_in_time_proportional_to_them(two: tuple[int, int]) -> None:
    record = msgspec.structs.replace(placed(40_000), slice_size=1)
    write_all(two[0], bytes(record.size), record.body_offset)
    write_checksums(two[0], record, [checksum(b"\0")] * record.size)
    assert copy_verified(*two, record, list(range(40_000))) == 40_000


def test_reading_goes_on_until_the_view_is_full_or_the_file_ends(two: tuple[int, int]) -> None:
    write_all(two[0], b"0123456789", 0)
    view = memoryview(bytearray(8))
    assert (read_into(two[0], view, 0), bytes(view)) == (8, b"01234567")
    assert (read_into(two[0], view, 7), bytes(view[:3])) == (3, b"789")
    assert read_into(two[0], view, 10) == 0
