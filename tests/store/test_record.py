"""Records, and which slices of an object are held."""

from __future__ import annotations

import msgspec
import pytest

from edge.store.record import Held, Record, key_hash, slice_count
from tests.store.making import NOW, draft


def test_a_record_survives_the_index() -> None:
    record = msgspec.structs.replace(draft(1000), generation=5, held=None, copy=3)
    encoded = msgspec.msgpack.encode(record)
    assert msgspec.msgpack.decode(encoded, type=Record) == record


def test_a_small_record_is_small() -> None:
    assert len(msgspec.msgpack.encode(draft(1 << 30))) < 150


def test_when_it_stops_being_fresh() -> None:
    record = msgspec.structs.replace(draft(1), initial_age_s=100.0, lifetime_s=160.0)
    assert record.fresh_until == NOW + 60


@pytest.mark.parametrize(
    ("size", "held", "complete"), [(10, None, True), (10, b"", False), (0, None, True), (-1, None, False)]
)
def test_when_it_is_complete(size: int, held: bytes | None, complete: bool) -> None:
    assert msgspec.structs.replace(draft(1), size=size, held=held).complete is complete


def test_fields_by_name() -> None:
    record = msgspec.structs.replace(draft(1), fields=(("ETag", '"1"'), ("etag", '"2"')))
    assert record.field("etag") == '"1"'
    assert record.field("age") is None


@pytest.mark.parametrize(("size", "slices"), [(-1, 0), (0, 0), (1, 1), (99, 1), (100, 1), (101, 2), (1 << 50, 1 << 50)])
def test_how_many_slices(size: int, slices: int) -> None:
    assert slice_count(size, 100 if size < 1000 else 1) == slices


def test_a_key_is_sixteen_bytes_and_depends_on_every_character() -> None:
    assert len(key_hash("")) == 16
    assert len({key_hash("a"), key_hash("b"), key_hash("ab"), key_hash("é")}) == 4


def test_the_last_slice_is_shorter() -> None:
    held = Held(250, 100)
    held.add(2)
    assert (held.bytes_held(), held.runs()) == (50, [(200, 250)])
    held.add(0)
    assert (held.bytes_held(), held.runs()) == (150, [(0, 100), (200, 250)])
    assert held.missing(0, 250) == [(1, 2)]
    held.add(1)
    assert (held.complete, held.bitmap(), held.runs()) == (True, None, [(0, 250)])


def test_adding_and_discarding_twice_counts_once() -> None:
    held = Held(250, 100)
    held.add(1)
    held.add(1)
    assert held.count == 1
    held.discard(1)
    held.discard(1)
    assert (held.count, held.bytes_held(), held.runs()) == (0, 0, [])


def test_a_bitmap_that_says_more_than_there_is_is_cut() -> None:
    held = Held(250, 100, b"\xff\xff")
    assert (held.count, held.complete) == (3, True)


def test_nothing_is_missing_behind_the_end() -> None:
    held = Held(250, 100)
    assert held.missing(250, 300) == []
    assert held.missing(240, 1000) == [(2, 3)]


def test_an_empty_object_holds_all_of_it() -> None:
    held = Held(0, 100)
    assert (held.complete, held.bitmap(), held.runs(), held.missing(0, 10)) == (True, None, [], [])
