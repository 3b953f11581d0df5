"""The store as the manager has it: one record, one slot, one file for each object, and the sums right."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import msgspec
import pytest

from edge.clock import ManualClock
from edge.errors import DiskError, StoreFull
from edge.metrics import EVICTIONS, Page
from edge.store import tiers
from edge.store.record import Record
from edge.store.tiers import Store
from edge.terms import TierName
from tests.store.making import (
    NOW,
    SLICE,
    assert_adds_up,
    begin,
    body,
    committed,
    config,
    content,
    crash,
    expected_sha256,
    file_name,
    files,
    fill,
    folder,
    key,
    opened,
    plant,
    put,
    rename,
    sha256,
    stored,
    until,
)


def taken(store: Store) -> set[int]:
    return {slot for slot in range(store.slots.slots) if store.slots.stamp(slot)}


def moved(store: Store, name: str, *, home: int, copy: int = -1) -> Record:
    """As after a move: the file is there, and the store is told."""
    record = stored(store, name)
    for number in {home, copy} - {-1, record.home, record.copy}:
        data = content(store.disk_of(record), name, record.generation)
        plant(store.disks[number], name, record.generation, data)
    return store.replace_place(key(name), record, home=home, copy=copy)


class TestLookingUp:
    async def test_what_was_never_stored(self, tmp_path: Path, ssd: Path) -> None:
        async with opened(config(tmp_path, ssd=[folder(ssd)])) as store:
            assert store.lookup(key("a")) is None

    async def test_a_slot_that_disagrees_is_made_to_agree(self, tmp_path: Path, ssd: Path) -> None:
        async with opened(config(tmp_path, ssd=[folder(ssd)])) as store:
            record = await put(store, "a", SLICE)
            store.slots.words[record.slot * 12] = 0
            assert store.lookup(key("a")) == record
            assert store.slots.stamp(record.slot) == record.stamp
            assert store.slots.home(record.slot) == record.home

    async def test_a_slot_that_is_anothers_is_not_taken_from_it(self, tmp_path: Path, ssd: Path) -> None:
        async with opened(config(tmp_path, ssd=[folder(ssd)])) as store:
            old = await put(store, "old", SLICE)
            store.index.commit()
            store.drop(key("old"), old)
            new = await put(store, "new", SLICE)
            assert new.slot == old.slot
            store.index.put(key("old"), old)  # as a crash before the next commit brings it back
            store.disks[0].used_bytes += store.charge(old)
            assert store.lookup(key("old")) is None
            assert store.lookup(key("new")) == new
            assert store.slots.stamp(new.slot) == new.stamp
            store.index.commit()
            await until(lambda: files(ssd) == {file_name("new", new)})
            assert_adds_up(store)

    async def test_a_slot_that_is_being_filled_is_not_taken_either(self, tmp_path: Path, ssd: Path) -> None:
        async with opened(config(tmp_path, ssd=[folder(ssd)])) as store:
            old = await put(store, "old", SLICE)
            store.drop(key("old"), old)
            writer = await begin(store, "new", SLICE)
            store.busy[key("new")] += 1
            assert writer.record.slot == old.slot
            store.index.put(key("old"), old)
            assert store.lookup(key("old")) is None
            await fill(writer, "new", 0, SLICE)
            writer.close()
            assert store.lookup(key("new")) == writer.record


class TestNumbers:
    async def test_they_ascend_over_restarts(self, tmp_path: Path, ssd: Path) -> None:
        settings = config(tmp_path, ssd=[folder(ssd)])
        numbers = []
        for _ in range(3):
            async with opened(settings) as store:
                numbers += [store.number() for _ in range(3)]
        assert numbers == [1, 2, 3, 4, 5, 6, 7, 8, 9]

    @pytest.mark.parametrize("spent", [0, 1, 5, 9, 10, 11, 100])
    async def test_none_is_given_twice_whenever_it_crashes(
        self, tmp_path: Path, ssd: Path, monkeypatch: pytest.MonkeyPatch, spent: int
    ) -> None:
        monkeypatch.setattr(tiers, "_NUMBERS_AHEAD", 10)
        settings = config(tmp_path, ssd=[folder(ssd)])
        given: list[int] = []
        for _ in range(3):
            store = Store(settings, ManualClock(NOW), Page())
            given += [store.number() for _ in range(spent)]  # and nothing is committed by anyone else
            crash(store)
        assert given == sorted(set(given))

    async def test_a_file_from_before_a_crash_is_in_nobodys_way(self, tmp_path: Path, ssd: Path) -> None:
        settings = config(tmp_path, ssd=[folder(ssd)])
        store = Store(settings, ManualClock(NOW), Page())
        writer = await begin(store, "a", SLICE, parts=False)
        assert files(ssd) == {file_name("a", writer.record)}
        crash(store)
        async with opened(settings) as again:
            await put(again, "a", SLICE)
            assert sha256(again, "a") == expected_sha256("a", SLICE)


class TestPublishing:
    async def test_a_new_representation_takes_the_place_of_the_old(self, tmp_path: Path, ssd: Path) -> None:
        async with opened(config(tmp_path, ssd=[folder(ssd)])) as store:
            old = await put(store, "a", 3 * SLICE)
            new = await put(store, "a", SLICE)
            assert store.lookup(key("a")) == new
            assert (new.generation > old.generation, new.stamp != old.stamp) == (True, True)
            assert taken(store) == {new.slot}
            store.index.commit()
            await until(lambda: files(ssd) == {file_name("a", new)})
            assert_adds_up(store)

    async def test_a_revalidation_changes_nothing_of_the_sums(self, tmp_path: Path, ssd: Path) -> None:
        async with opened(config(tmp_path, ssd=[folder(ssd)])) as store:
            record = await put(store, "a", 3 * SLICE)
            fresh = msgspec.structs.replace(record, lifetime_s=9999.0, fields=(*record.fields, ("Age", "1")))
            store.publish(key("a"), fresh, record)
            assert store.lookup(key("a")) == fresh
            assert_adds_up(store)


class TestPlaces:
    async def test_readers_are_told_by_the_stamp(self, tmp_path: Path, ram: Path, ssd: Path) -> None:
        async with opened(config(tmp_path, ram=[folder(ram)], ssd=[folder(ssd)])) as store:
            before = await put(store, "a", SLICE)
            after = moved(store, "a", home=1)
            assert store.slots.stamp(before.slot) == after.stamp != before.stamp
            assert (after.generation, after.slot) == (before.generation, before.slot)
            assert files(ram) == set(), "memory is given back at once"
            assert_adds_up(store)

    async def test_a_file_on_a_disk_stays_until_the_index_says_it_is_elsewhere(
        self, tmp_path: Path, ssd: Path, hdd: Path
    ) -> None:
        settings = config(tmp_path, ssd=[folder(ssd)], hdd=[folder(hdd)])
        store = Store(settings, ManualClock(NOW), Page())
        record = await put(store, "a", SLICE)
        store.index.commit()
        moved(store, "a", home=1)
        assert files(ssd) == {file_name("a", record)}
        crash(store)
        async with opened(settings) as again:
            assert stored(again, "a") == record
            assert sha256(again, "a") == expected_sha256("a", SLICE)

    async def test_a_copy_in_memory_comes_and_goes(self, tmp_path: Path, ram: Path, ssd: Path) -> None:
        async with opened(config(tmp_path, ram=[folder(ram)], ssd=[folder(ssd)])) as store:
            await put(store, "a", SLICE)
            moved(store, "a", home=1)
            copied = moved(store, "a", home=1, copy=0)
            assert store.disk_of(copied).tier is TierName.RAM
            assert len(files(ram)) == len(files(ssd)) == 1
            assert_adds_up(store)
            alone = store.uncopy(key("a"), copied)
            assert store.disk_of(alone).tier is TierName.SSD
            assert_adds_up(store)

    async def test_dropping_takes_both_places(self, tmp_path: Path, ram: Path, ssd: Path) -> None:
        async with opened(config(tmp_path, ram=[folder(ram)], ssd=[folder(ssd)])) as store:
            await put(store, "a", SLICE)
            moved(store, "a", home=1)
            copied = moved(store, "a", home=1, copy=0)
            store.drop(key("a"), copied)
            assert (store.lookup(key("a")), taken(store)) == (None, set())
            store.index.commit()
            await until(lambda: not files(ssd))
            assert_adds_up(store)

    async def test_a_dropped_file_on_a_disk_outlives_a_crash_before_the_commit(self, tmp_path: Path, ssd: Path) -> None:
        settings = config(tmp_path, ssd=[folder(ssd)])
        store = Store(settings, ManualClock(NOW), Page())
        record = await put(store, "a", SLICE)
        store.index.commit()
        store.drop(key("a"), record)
        crash(store)
        async with opened(settings) as again:
            assert again.lookup(key("a")) == record
            assert sha256(again, "a") == expected_sha256("a", SLICE)


class TestChoosing:
    async def test_memory_first_then_the_faster_disk(self, tmp_path: Path, ram: Path, ssd: Path, hdd: Path) -> None:
        settings = config(
            tmp_path, ram=[folder(ram, "1MiB")], ssd=[folder(ssd, "16MiB")], hdd=[folder(hdd, "64MiB")]
        )  # fmt: skip
        async with opened(settings) as store:
            assert [store.choose(size).tier for size in (1, 128 << 10, (128 << 10) + 1, 2 << 20, (2 << 20) + 1)] == [
                TierName.RAM,
                TierName.RAM,
                TierName.SSD,
                TierName.SSD,
                TierName.HDD,
            ]
            with pytest.raises(StoreFull):
                store.choose((8 << 20) + 1)

    async def test_an_object_larger_than_any_tier_takes_pushes_nothing_out(self, tmp_path: Path, ssd: Path) -> None:
        settings = config(tmp_path, ssd={"disks": [folder(ssd, "1MiB")], "object_max": "64KiB"})
        async with opened(settings) as store:
            await put(store, "a", SLICE)
            with pytest.raises(StoreFull):
                await begin(store, "b", SLICE + 1)
            assert store.lookup(key("a")) is not None
            assert_adds_up(store)

    async def test_of_two_disks_the_emptier(self, tmp_path: Path, ssd: Path, hdd: Path) -> None:
        async with opened(config(tmp_path, ssd=[folder(ssd, "4MiB"), folder(hdd, "8MiB")])) as store:
            for number in range(60):
                await put(store, str(number), SLICE)
            shares = [disk.used_bytes / store.space.capacity_bytes(disk) for disk in store.disks.values()]
            assert shares[0] == pytest.approx(shares[1], abs=0.05)
            assert_adds_up(store)

    async def test_what_is_on_its_way_is_not_counted_on(self, tmp_path: Path, ram: Path, ssd: Path) -> None:
        settings = config(
            tmp_path, ram={"disks": [folder(ram, "1MiB")], "object_max": "1MiB"}, ssd=[folder(ssd, "16MiB")]
        )
        async with opened(settings) as store:
            writer = await begin(store, "a", 800 << 10)
            store.busy[key("a")] += 1
            assert store.choose(800 << 10).tier is TierName.RAM
            writer.reserve(800 << 10)
            assert store.choose(800 << 10).tier is TierName.SSD
            writer.close()

    async def test_a_full_store_lets_the_least_worth_go(self, tmp_path: Path, ssd: Path) -> None:
        random.seed(1)
        settings = config(tmp_path, ssd={"disks": [folder(ssd, "1MiB")], "object_max": "1MiB"})
        async with opened(settings) as store:
            for name in "abcde":
                slot = (await put(store, name, 3 * SLICE)).slot
                store.slots.touch(slot, NOW, 1 if name == "c" else 5)
            await put(store, "new", 3 * SLICE)
            assert [name for name in "abcde" if store.lookup(key(name)) is None] == ["c"]
            assert store.page.get(EVICTIONS, "ssd", "nowhere") == 1
            store.index.commit()
            await until(lambda: len(files(ssd)) == 5)
            assert_adds_up(store)

    @pytest.mark.parametrize("size", [1, 5000, SLICE, 3 * SLICE])
    async def test_a_disk_never_holds_more_than_it_may(self, tmp_path: Path, ram: Path, size: int) -> None:
        async with opened(config(tmp_path, ram={"disks": [folder(ram, "1MiB")], "object_max": "1MiB"})) as store:
            for number in range(120):
                await put(store, str(number), size)
                assert store.disks[0].used_bytes <= 1 << 20
            paths = [store.disks[0].path(one, record.generation) for one, record in committed(store).items()]
            assert sum(os.stat(path).st_blocks * 512 for path in paths) <= 1 << 20
            assert_adds_up(store)

    async def test_what_is_being_worked_on_never_goes(self, tmp_path: Path, ssd: Path) -> None:
        async with opened(config(tmp_path, ssd=[folder(ssd, "1MiB")])) as store:
            names: list[str] = []
            while store.space.has_room(store.disks[0], SLICE + 12288):
                names.append(str(len(names)))
                await put(store, names[-1], SLICE)
            for name in names:
                store.busy[key(name)] += 1
            with pytest.raises(StoreFull):
                await begin(store, "new", SLICE)
            del store.busy[key("3")]
            (await begin(store, "new", SLICE)).close()
            assert [name for name in names if store.lookup(key(name)) is None] == ["3"]

    async def test_a_copy_goes_and_the_object_stays(self, tmp_path: Path, ram: Path, ssd: Path) -> None:
        async with opened(config(tmp_path, ram=[folder(ram)], ssd=[folder(ssd)])) as store:
            await put(store, "a", SLICE)
            moved(store, "a", home=1)
            record = moved(store, "a", home=1, copy=0)
            store.evict(store.disks[0], store.space.candidate(record.slot, NOW))
            assert stored(store, "a").copy == -1
            assert store.page.get(EVICTIONS, "ram", "copy") == 1
            assert sha256(store, "a") == expected_sha256("a", SLICE)
            assert_adds_up(store)

    async def test_a_slot_that_says_it_lies_where_it_does_not_costs_no_object(
        self, tmp_path: Path, ssd: Path, hdd: Path
    ) -> None:
        async with opened(config(tmp_path, ssd=[folder(ssd)], hdd=[folder(hdd)])) as store:
            record = await put(store, "a", SLICE)
            store.slots.settle(record.slot, 1, -1, SLICE)  # as after a crash between a move and its commit
            store.evict(store.disks[1], store.space.candidate(record.slot, NOW))
            assert store.lookup(key("a")) == record
            assert store.slots.home(record.slot) == 0
            assert_adds_up(store)


class TestSlotsRunOut:
    async def test_the_least_worth_gives_its_own(self, tmp_path: Path, ssd: Path) -> None:
        async with opened(config(tmp_path, objects=1024, ssd=[folder(ssd)])) as store:
            for number in range(1023):
                store.slots.bind(store.slots.allocate() or 0, key(f"{number}"), 1, NOW)
            record = await put(store, "a", 10)
            assert len(taken(store)) == 1024
            await put(store, "b", 10)
            assert store.lookup(key("a")) is None
            assert stored(store, "b").slot == record.slot
            store.index.commit()
            await until(lambda: len(files(ssd)) == 1)
            assert_adds_up(store)

    async def test_with_nothing_to_go_it_is_full(self, tmp_path: Path, ssd: Path) -> None:
        async with opened(config(tmp_path, ssd=[folder(ssd)])) as store:
            for number in range(1024):
                store.slots.bind(store.slots.allocate() or 0, key(f"{number}"), 1, NOW)
            with pytest.raises(StoreFull, match="slot"):
                await begin(store, "a", 10)
            assert (store.disks[0].used_bytes, files(ssd)) == (0, set())


class TestFailing:
    async def test_a_disk_that_is_gone(self, tmp_path: Path, ssd: Path) -> None:
        async with opened(config(tmp_path, ssd=[folder(ssd)])) as store:
            rename(ssd, ssd.parent / "away")
            os.mknod(ssd)
            with pytest.raises(DiskError):
                await begin(store, "a", 10)
            assert store.disks[0].used_bytes == 0
            assert taken(store) == set()


class TestClosing:
    async def test_files_that_were_to_go_are_gone(self, tmp_path: Path, ssd: Path) -> None:
        settings = config(tmp_path, ssd=[{**folder(ssd), "threads": 1}])
        async with opened(settings) as store:
            for number in range(50):
                await put(store, str(number), 10)
            for number in range(0, 50, 2):
                store.drop(key(str(number)), stored(store, str(number)))
        assert len(files(ssd)) == 25

    async def test_all_is_as_it_was(self, tmp_path: Path, ram: Path, ssd: Path) -> None:
        settings = config(tmp_path, ram=[folder(ram)], ssd=[folder(ssd)])
        async with opened(settings) as store:
            for number in range(10):
                await put(store, str(number), number * 10_000)
            before = committed(store), {number: disk.used_bytes for number, disk in store.disks.items()}
        async with opened(settings) as store:
            assert store.was_clean
            assert (committed(store), {number: disk.used_bytes for number, disk in store.disks.items()}) == before
            assert all(store.lookup(one) == record for one, record in before[0].items())

    async def test_usage_is_written_down_only_when_it_changed(self, tmp_path: Path, ssd: Path) -> None:
        async with opened(config(tmp_path, ssd=[folder(ssd)])) as store:
            await put(store, "a", 10)
            store.save_usage()
            store.index.commit()
            store.save_usage()
            assert not store.index._meta_overlay
            assert store.index.meta("used") == {0: store.disks[0].used_bytes}


async def test_many_fills_at_once_add_up(tmp_path: Path, ram: Path, ssd: Path) -> None:
    async with opened(config(tmp_path, ram=[folder(ram, "4MiB")], ssd=[folder(ssd, "16MiB")])) as store:
        await asyncio.gather(*(put(store, str(number), 1 + number * 7919 % (4 * SLICE)) for number in range(60)))
        store.index.commit()
        await until(lambda: len(files(ssd)) + len(files(ram)) == len(committed(store)))
        assert_adds_up(store)
        for one, record in committed(store).items():
            name = next(str(number) for number in range(60) if key(str(number)) == one)
            assert sha256(store, name) == expected_sha256(name, record.size), body(name, 1)
