"""Room, samples and rosters."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.clock import ManualClock
from edge.config import DiskConfig
from edge.store.disk import Disk, prepare
from edge.store.policy import SAMPLE
from edge.store.slots import SlotTable
from edge.store.space import HIGH_WATER, Reckoning, Roster, Space
from edge.terms import TierName
from tests.store.making import NOW


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


def made(path: Path, clock: ManualClock, slots: int = 1000, tier: TierName = TierName.SSD) -> tuple[Space, list[Disk]]:
    disks = []
    for number in range(2):
        config = DiskConfig(path=str(path / f"disk{number}"), size=1 << 20, reserve=0)
        disks.append(Disk(number, tier, config, prepare(config)))
    table = SlotTable(str(path / "slots"), slots, write=True)
    return Space({disk.number: disk for disk in disks}, table, clock.monotonic), disks


def occupy(space: Space, disk: Disk, slot: int, copy: int = -1) -> None:
    space._slots.bind(slot, slot.to_bytes(16, "big"), 1, NOW)
    space._slots.settle(slot, disk.number, copy, 1000)
    space._slots.top = max(space._slots.top, slot + 1)
    disk.used_bytes += 1000


class TestRoom:
    def test_to_the_last_byte(self, tmp_path: Path, clock: ManualClock) -> None:
        space, (disk, _) = made(tmp_path, clock)
        disk.used_bytes = (1 << 20) - 10
        assert space.has_room(disk, 10)
        assert not space.has_room(disk, 11)

    def test_the_mark_below_which_nobody_is_moved(self, tmp_path: Path, clock: ManualClock) -> None:
        space, (disk, _) = made(tmp_path, clock)
        disk.used_bytes = int((1 << 20) * HIGH_WATER[disk.tier])
        assert space.below_high_water(disk)
        assert not space.below_high_water(disk, 1)

    def test_the_file_system_is_asked_once_a_second(
        self, tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        space, (disk, _) = made(tmp_path, clock)
        asked: list[int] = []

        def asking() -> int:
            asked.append(1)
            return 5

        monkeypatch.setattr(disk, "capacity_bytes", asking)
        for _ in range(3):
            space.capacity_bytes(disk)
        clock.advance(1.1)
        space.capacity_bytes(disk)
        assert len(asked) == 2

    def test_a_file_system_that_cannot_be_asked_any_more(self, tmp_path: Path, clock: ManualClock) -> None:
        space, (disk, other) = made(tmp_path, clock)
        assert space.capacity_bytes(disk) == 1 << 20
        for one in (disk, other):
            shutil.rmtree(one.root)
        clock.advance(2)
        assert space.capacity_bytes(disk) == 1 << 20
        assert space.capacity_bytes(other) == 0


class TestSamples:
    def test_only_what_lies_on_the_disk(self, tmp_path: Path, clock: ManualClock) -> None:
        space, (disk, other) = made(tmp_path, clock)
        for slot in range(200):
            occupy(space, (disk, other)[slot % 2], slot)
        sample = space.sample(disk, NOW)
        assert len(sample) == SAMPLE
        assert {one.slot % 2 for one in sample} == {0}

    def test_not_what_was_dropped(self, tmp_path: Path, clock: ManualClock) -> None:
        space, (disk, _) = made(tmp_path, clock)
        occupy(space, disk, 0)
        occupy(space, disk, 1)
        space._slots.release(0)
        assert {one.slot for one in space.sample(disk, NOW)} == {1}

    def test_an_empty_store_has_no_candidates(self, tmp_path: Path, clock: ManualClock) -> None:
        space, (disk, _) = made(tmp_path, clock)
        assert space.sample(disk, NOW) == []
        disk.used_bytes = 1
        assert space.sample(disk, NOW) == []

    @pytest.mark.parametrize("copy", [-1, 0])
    @pytest.mark.parametrize("slot", [0, 65_535, 65_536, 149_999])
    def test_the_few_objects_of_a_small_disk_beside_a_large_one_are_found(
        self, tmp_path: Path, clock: ManualClock, slot: int, copy: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        space, (disk, other) = made(tmp_path, clock, 150_000)
        space.rosters[0] = Roster()
        space._slots.words[0::12] = memoryview(b"\1\0\0\0" * 150_000).cast("I")
        space._slots.words[4::12] = memoryview(b"\1\0\0\0" * 150_000).cast("I")
        space._slots.top = 150_000
        disk.used_bytes = 10**9
        occupy(space, other, slot, copy)
        monkeypatch.setattr(random, "randrange", lambda top: (slot + 1) % top)  # bad luck
        assert [one.slot for one in space.sample(other, NOW)] == [slot]
        assert [one.slot for one in space.sample(other, NOW)] == [slot]

    def test_of_a_few_objects_not_always_the_same_is_found(
        self, tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        space, (disk, other) = made(tmp_path, clock)
        for slot in range(1000):
            occupy(space, other if slot in (5, 900) else disk, slot)
        monkeypatch.setattr(random, "randrange", lambda top: 0)
        assert {space.sample(other, NOW)[0].slot for _ in range(2)} == {5, 900}

    def test_memory_is_sampled_from_its_roster(self, tmp_path: Path, clock: ManualClock) -> None:
        space, (disk, other) = made(tmp_path, clock, tier=TierName.RAM)
        for slot in range(3):
            occupy(space, disk, slot)
            space.rosters[disk.number].add(slot)
        assert sorted(one.slot for one in space.sample(disk, NOW)) == [0, 1, 2]
        assert space.sample(other, NOW) == []

    def test_a_candidate_is_as_its_slot_says(self, tmp_path: Path, clock: ManualClock) -> None:
        space, (disk, _) = made(tmp_path, clock)
        occupy(space, disk, 3)
        space._slots.touch(3, NOW + 7, 4)
        assert space.candidate(3, NOW + 7) == (3, 4.0, NOW + 7, 1)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20))))
def test_a_roster_is_a_set_to_pick_from(steps: list[tuple[bool, int]]) -> None:
    roster = Roster()
    model: set[int] = set()
    for adds, slot in steps:
        if adds:
            roster.add(slot)
            model.add(slot)
        else:
            roster.discard(slot)
            model.discard(slot)
        assert len(roster) == len(model)
        assert set(roster._slots) == model
        assert set(roster.sample(100)) == model
        assert len(roster.sample(3)) == min(3, len(model))


def test_a_count_under_way_takes_each_change_once() -> None:
    early, here, late = (bytes([first]) * 16 for first in (0x10, 0x20, 0x30))
    count = Reckoning(0, first_new=100)
    assert not count.counts(early, 5), "not reached yet"
    count.reach("2020")
    assert count.counts(early, 5), "counted before"
    assert not count.counts(here, 5), "not met yet"
    assert count.meet(here)
    assert not count.meet(here)
    assert count.counts(here, 5)
    assert not count.counts(late, 5)
    assert count.counts(late, 100), "made since the start"
    assert count.counts(late, 5, arrives=True)
    assert count.counts(late, 5, leaves=True)
    assert not count.counts(late, 5), "gone, and may come again with its folder"
    assert count.counts(late, 5, arrives=True)
    count.reach("3030")
    assert not count.meet(late), "counted when it came"
