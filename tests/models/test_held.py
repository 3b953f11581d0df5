"""Held against a set of slice numbers."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edge.store.record import Held

SLICE = 10


@st.composite
def objects(draw: st.DrawFn) -> tuple[int, set[int]]:
    size = draw(st.integers(0, 900))
    slices = -(-size // SLICE)
    return size, draw(st.sets(st.integers(0, slices - 1))) if slices else set()


def holding(size: int, slices: set[int]) -> Held:
    held = Held(size, SLICE)
    for position in slices:
        held.add(position)
    return held


def as_bytes(size: int, slices: set[int]) -> set[int]:
    return {byte for byte in range(size) if byte // SLICE in slices}


@given(objects())
def test_a_bitmap_goes_out_and_comes_back(one: tuple[int, set[int]]) -> None:
    size, slices = one
    again = Held(size, SLICE, holding(size, slices).bitmap())
    assert {position for position in range(again.slices) if position in again} == slices
    assert again.count == len(slices)
    assert again.complete == (len(slices) == -(-size // SLICE))


@given(objects())
def test_runs_are_the_bytes_held_ascending_and_apart(one: tuple[int, set[int]]) -> None:
    size, slices = one
    held = holding(size, slices)
    runs = held.runs()
    assert {byte for start, end in runs for byte in range(start, end)} == as_bytes(size, slices)
    assert all(start < end for start, end in runs)
    assert all(before[1] < after[0] for before, after in pairwise(runs))
    assert held.bytes_held() == len(as_bytes(size, slices))


@given(objects(), st.integers(0, 1000), st.integers(0, 1000))
def test_missing_is_what_is_wanted_and_not_held(one: tuple[int, set[int]], start: int, length: int) -> None:
    size, slices = one
    gaps = holding(size, slices).missing(start, start + length)
    wanted = {byte // SLICE for byte in range(start, min(start + length, size))}
    found = {position for first, last in gaps for position in range(first, last)}
    assert found == wanted - slices
    assert all(before[1] < after[0] for before, after in pairwise(gaps))


@given(objects(), st.lists(st.tuples(st.booleans(), st.integers(0, 89)), max_size=30))
def test_adding_and_discarding(one: tuple[int, set[int]], steps: list[tuple[bool, int]]) -> None:
    size, slices = one
    held = holding(size, slices)
    for adds, position in steps:
        if position >= held.slices:
            continue
        if adds:
            held.add(position)
            slices.add(position)
        else:
            held.discard(position)
            slices.discard(position)
        assert held.count == len(slices)
    assert {position for position in range(held.slices) if position in held} == slices
