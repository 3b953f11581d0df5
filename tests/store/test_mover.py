"""Moves between tiers: what leaves a full one, what comes to memory, and what stops in the middle."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from edge.clock import ManualClock
from edge.config import Config
from edge.errors import DiskError
from edge.metrics import ERRORS, EVICTIONS, MOVED_BYTES
from edge.store import mover as mover_module
from edge.store.mover import Mover
from edge.store.object import copy_verified
from edge.store.record import Record
from edge.store.tiers import Store
from edge.store.writer import ObjectWriter
from edge.terms import TierName
from tests.store.making import (
    NOW,
    SLICE,
    assert_adds_up,
    begin,
    committed,
    config,
    end_disk,
    expected_sha256,
    files,
    fill,
    folder,
    key,
    mounted,
    moving,
    needs_root,
    opened,
    put,
    read,
    sha256,
    stored,
    until,
)

RAM, SSD, HDD = TierName.RAM, TierName.SSD, TierName.HDD


@pytest.fixture(autouse=True)
def restless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mover_module, "_IDLE_S", 0.001)


@pytest.fixture
def three(tmp_path: Path, ram: Path, ssd: Path, hdd: Path) -> Config:
    return config(tmp_path, ram=[folder(ram, "1MiB")], ssd=[folder(ssd, "2MiB")], hdd=[folder(hdd, "16MiB")])


def tier_of(store: Store, name: str) -> TierName:
    return store.disks[stored(store, name).home].tier


def on(store: Store, tier: TierName) -> list[bytes]:
    return [one for one, record in committed(store).items() if store.disks[record.home].tier is tier]


def calm(store: Store) -> bool:
    """Nothing is being moved, and no disk is above its mark."""
    return not store.busy and all(store.space.below_high_water(disk) for disk in store.disks.values())


async def settled(store: Store) -> None:
    await until(lambda: calm(store))
    store.index.commit()
    await until(lambda: all(len(files(d)) == sum(d.number in (r.home, r.copy) for _, r in store.index.records())
                            for d in store.disks.values()))  # fmt: skip


async def below(settings: Config, name: str, size: int) -> None:
    """An object on the first disk of a store."""
    async with opened(settings) as store:
        await put(store, name, size)


async def move(store: Store, name: str, target: int, *, copy: bool = False) -> None:
    mover = Mover(store)
    mover._start(key(name), stored(store, name), store.disks[target], copy=copy)
    await asyncio.gather(*mover._tasks)


def corrupt(store: Store, name: str, record: Record, at: int = 100) -> None:
    path = store.disk_of(record).path(key(name), record.generation)
    with open(path, "r+b") as file:
        file.seek(record.body_offset + at)
        byte = file.read(1)
        file.seek(record.body_offset + at)
        file.write(bytes([byte[0] ^ 1]))


class TestDemotion:
    async def test_memory_over_its_mark_goes_to_ssd_then_hdd(self, three: Config) -> None:
        async with opened(three) as store, moving(store):
            names = [str(number) for number in range(45)]
            for name in names:
                record = await put(store, name, SLICE)
                store.slots.touch(record.slot, NOW, 3 + int(name))
                await until(lambda: calm(store))
            await settled(store)
            assert [len(on(store, tier)) > 5 for tier in TierName] == [True] * 3
            assert sum(len(on(store, tier)) for tier in TierName) == len(names), "nothing was lost"
            for name in names:
                assert sha256(store, name) == expected_sha256(name, SLICE)
            assert_adds_up(store)
            assert store.page.get(EVICTIONS, "ram", "ssd") > store.page.get(EVICTIONS, "ssd", "hdd") > 0
            assert store.page.get(MOVED_BYTES, "hdd", "demotion") == store.page.get(EVICTIONS, "ssd", "hdd") * SLICE

    async def test_the_least_worth_leaves_alone(self, tmp_path: Path, ram: Path, ssd: Path) -> None:
        settings = config(tmp_path, ram={"disks": [folder(ram, "1MiB")], "object_max": "1MiB"}, ssd=[folder(ssd)])
        async with opened(settings) as store:
            for name in "abcd":
                record = await put(store, name, 220_000)
                store.slots.touch(record.slot, NOW, 1 if name == "b" else 9)
            async with moving(store):
                await settled(store)
            assert [tier_of(store, name) for name in "abcd"] == [RAM, SSD, RAM, RAM]

    async def test_a_reader_of_the_old_place_is_refused_and_its_descriptor_reads_on(self, three: Config) -> None:
        async with opened(three) as store:
            before = await put(store, "a", SLICE)
            fd = store.disks[0].open(key("a"), before.generation)
            async with moving(store):
                for number in range(13):
                    store.slots.touch((await put(store, str(number), SLICE)).slot, NOW, 9)
                await until(lambda: tier_of(store, "a") is SSD)
            assert store.slots.stamp(before.slot) != before.stamp
            with pytest.raises(FileNotFoundError):
                store.disks[0].open(key("a"), before.generation)
            assert len(os.pread(fd, SLICE, before.body_offset)) == SLICE
            os.close(fd)

    async def test_a_part_moves_as_a_part(self, three: Config) -> None:
        async with opened(three) as store:
            writer = await begin(store, "a", 2 * SLICE - 10)
            await fill(writer, "a", SLICE, 2 * SLICE - 10)
            writer.close()
            for number in range(13):
                store.slots.touch((await put(store, str(number), SLICE)).slot, NOW, 9)
            async with moving(store):
                await until(lambda: tier_of(store, "a") is SSD)
                await settled(store)
            record = stored(store, "a")
            assert sorted(read(store.disk_of(record), key("a"), record)) == [1]
            assert_adds_up(store)

    async def test_what_no_lower_tier_takes_is_dropped(self, tmp_path: Path, ram: Path, ssd: Path) -> None:
        settings = config(
            tmp_path,
            ram={"disks": [folder(ram, "1MiB")], "object_max": "1MiB"},
            ssd={"disks": [folder(ssd)], "object_max": "64KiB"},
        )
        async with opened(settings) as store:
            for name in "abcd":
                store.slots.touch((await put(store, name, 220_000)).slot, NOW, 1 if name == "c" else 9)
            async with moving(store):
                await settled(store)
            assert [name for name in "abcd" if store.lookup(key(name)) is None] == ["c"]
            assert store.page.get(EVICTIONS, "ram", "nowhere") == 1
            assert_adds_up(store)

    async def test_an_object_of_exactly_the_largest_size_moves(self, tmp_path: Path, ram: Path, ssd: Path) -> None:
        settings = config(
            tmp_path,
            ram={"disks": [folder(ram, "1MiB")], "object_max": "128KiB"},
            ssd={"disks": [folder(ssd)], "object_max": "128KiB"},
        )
        async with opened(settings) as store, moving(store):
            for number in range(8):
                store.slots.touch((await put(store, str(number), 2 * SLICE)).slot, NOW, 3)
            await settled(store)
            assert len(on(store, RAM)) + len(on(store, SSD)) == 8

    async def test_of_two_disks_below_both_are_used(self, tmp_path: Path, ram: Path, ssd: Path, hdd: Path) -> None:
        settings = config(tmp_path, ram=[folder(ram, "1MiB")], ssd=[folder(ssd), folder(hdd)])
        async with opened(settings) as store, moving(store):
            for number in range(40):
                store.slots.touch((await put(store, str(number), SLICE)).slot, NOW, 3)
                await until(lambda: calm(store))
            await settled(store)
            assert min(len(files(ssd)), len(files(hdd))) > 8
            assert_adds_up(store)

    async def test_what_is_being_filled_stays_where_it_is(self, three: Config) -> None:
        async with opened(three) as store:
            writer = await begin(store, "filling", 2 * SLICE)
            store.busy[key("filling")] += 1
            await fill(writer, "filling", 0, SLICE)
            async with moving(store):
                for number in range(15):
                    store.slots.touch((await put(store, str(number), SLICE)).slot, NOW, 9)
                    await until(lambda: store.space.below_high_water(store.disks[0]))
                assert tier_of(store, "filling") is RAM
                await fill(writer, "filling", SLICE, 2 * SLICE)
                writer.close()
                del store.busy[key("filling")]
                await settled(store)
            assert sha256(store, "filling") == expected_sha256("filling", 2 * SLICE)
            assert_adds_up(store)

    async def test_a_hot_object_that_leaves_its_ssd_keeps_its_copy(self, three: Config, tmp_path: Path) -> None:
        async with opened(three) as store:
            await self._on_ssd_with_copy(store)
            await move(store, "a", 2)
            record = stored(store, "a")
            assert (record.home, record.copy) == (2, 0)
            assert store.page.get(EVICTIONS, "ssd", "hdd") == 1
            store.index.commit()
            await until(lambda: not files(store.disks[1]))
            assert_adds_up(store)

    @staticmethod
    async def _on_ssd_with_copy(store: Store) -> None:
        await put(store, "a", SLICE)
        await move(store, "a", 1)
        await move(store, "a", 0, copy=True)


class TestPromotion:
    @pytest.fixture
    async def cold(self, tmp_path: Path, ram: Path, ssd: Path) -> Config:
        """An object on a disk, in a store that has memory now."""
        await below(config(tmp_path, ssd=[folder(ssd)]), "a", 2 * SLICE)
        return config(tmp_path, ssd=[folder(ssd)], ram=[folder(ram, "1MiB")])

    async def test_a_hot_object_is_copied_to_memory(self, cold: Config) -> None:
        async with opened(cold) as store, moving(store) as mover:
            before = stored(store, "a")
            mover.hot(key("a"))
            await until(lambda: stored(store, "a").copy == 1)
            after = stored(store, "a")
            assert (after.home, store.slots.stamp(after.slot)) == (0, after.stamp)
            assert after.stamp != before.stamp
            for disk in store.disks.values():
                assert len(read(disk, key("a"), after)) == 2
            assert store.page.get(MOVED_BYTES, "ram", "promotion") == 2 * SLICE
            assert_adds_up(store)
            mover.hot(key("a"))
            mover.hot(key("none"))
            await until(lambda: not mover._wanted)
            assert stored(store, "a") == after

    async def test_the_copy_leaves_first_and_nothing_is_lost(self, cold: Config) -> None:
        async with opened(cold) as store, moving(store) as mover:
            mover.hot(key("a"))
            await until(lambda: stored(store, "a").copy == 1)
            for number in range(20):
                store.slots.touch((await put(store, str(number), SLICE)).slot, NOW, 9)
                await until(lambda: calm(store))
            await until(lambda: stored(store, "a").copy == -1)
            assert sha256(store, "a") == expected_sha256("a", 2 * SLICE)
            assert store.page.get(EVICTIONS, "ram", "copy") == 1
            await settled(store)
            assert_adds_up(store)

    async def test_what_is_asked_for_once_does_not_push_out_what_is_hot(self, cold: Config) -> None:
        async with opened(cold) as store:
            for number in range(13):
                store.slots.touch((await put(store, str(number), SLICE)).slot, NOW, 9)
            async with moving(store) as mover:
                mover.hot(key("a"))
                await until(lambda: not mover._wanted)
                await until(lambda: calm(store))
            assert stored(store, "a").copy == -1

    async def test_only_whole_objects_come(self, tmp_path: Path, ram: Path, ssd: Path) -> None:
        async with opened(config(tmp_path, ssd=[folder(ssd)])) as store:
            writer = await begin(store, "a", 2 * SLICE)
            await fill(writer, "a", 0, SLICE)
            writer.close()
        async with opened(config(tmp_path, ssd=[folder(ssd)], ram=[folder(ram)])) as store, moving(store) as mover:
            mover.hot(key("a"))
            await until(lambda: not mover._wanted and not store.busy)
            assert stored(store, "a").copy == -1

    async def test_the_waiting_list_has_an_end(self, cold: Config) -> None:
        async with opened(cold) as store:
            mover = Mover(store)
            for number in range(5000):
                mover.hot(key(str(number)))
            assert len(mover._wanted) == mover_module._PROMOTIONS_WAITING


class Held:
    """Copying that waits to be let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.release = threading.Event(), threading.Event()

        def held_up(*arguments: object) -> int:
            self.entered.set()
            self.release.wait()
            return copy_verified(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(mover_module, "copy_verified", held_up)


class TestMeanwhile:
    """What happens to an object while its file is being copied."""

    @pytest.fixture
    def copying(self, monkeypatch: pytest.MonkeyPatch) -> Held:
        return Held(monkeypatch)

    async def _moving(self, store: Store, copying: Held) -> asyncio.Task[None]:
        await put(store, "a", 2 * SLICE)
        mover = Mover(store)
        mover._start(key("a"), stored(store, "a"), store.disks[1], copy=False)
        await until(copying.entered.is_set)
        return next(iter(mover._tasks))

    async def test_its_room_is_taken(self, three: Config, copying: Held) -> None:
        async with opened(three) as store:
            task = await self._moving(store, copying)
            assert store.disks[1].used_bytes == store.disks[0].used_bytes > 2 * SLICE
            copying.release.set()
            await task
            assert_adds_up(store)

    async def test_it_is_dropped(self, three: Config, copying: Held) -> None:
        async with opened(three) as store:
            task = await self._moving(store, copying)
            store.drop(key("a"), stored(store, "a"))
            copying.release.set()
            await task
            assert (committed(store), files(store.disks[1])) == ({}, set())
            assert_adds_up(store)
            assert not store.busy

    async def test_it_is_replaced(self, three: Config, copying: Held) -> None:
        async with opened(three) as store:
            task = await self._moving(store, copying)
            writer = await begin(store, "a", SLICE)
            await fill(writer, "a", 0, SLICE)
            writer.close()
            copying.release.set()
            await task
            assert tier_of(store, "a") is RAM
            assert sha256(store, "a") == expected_sha256("a", SLICE)
            assert_adds_up(store)

    async def test_a_fill_goes_on_with_it(self, three: Config, copying: Held) -> None:
        async with opened(three) as store:
            writer = await begin(store, "a", 2 * SLICE)
            await fill(writer, "a", 0, SLICE)
            writer.close()
            mover = Mover(store)
            mover._start(key("a"), stored(store, "a"), store.disks[1], copy=False)
            await until(copying.entered.is_set)
            store.busy[key("a")] += 1  # the fill began with the record as it was
            record, disk = stored(store, "a"), store.disks[0]
            again = ObjectWriter(
                store, key("a"), "a", record, disk.open(key("a"), record.generation, write=True), disk, parts=True
            )
            copying.release.set()
            await asyncio.gather(*mover._tasks)
            await fill(again, "a", SLICE, 2 * SLICE)
            again.close()
            store.busy[key("a")] -= 1
            assert stored(store, "a").complete
            assert sha256(store, "a") == expected_sha256("a", 2 * SLICE)
            assert_adds_up(store)

    async def test_the_daemon_ends(self, three: Config, copying: Held) -> None:
        async with opened(three) as store:
            for number in range(13):
                store.slots.touch((await put(store, str(number), SLICE)).slot, NOW, 9)
            running = asyncio.create_task(Mover(store).run())
            await until(copying.entered.is_set)
            running.cancel()
            await asyncio.sleep(0)
            copying.release.set()
            await asyncio.gather(running, return_exceptions=True)
            assert running.cancelled()
            assert_adds_up(store)
        async with opened(three) as store:
            assert_adds_up(store)


class TestFailure:
    @pytest.mark.parametrize("at", [0, SLICE + 5, 2 * SLICE - 1])
    async def test_a_damaged_object_is_dropped_and_counted(self, three: Config, at: int) -> None:
        async with opened(three) as store:
            corrupt(store, "a", await put(store, "a", 2 * SLICE), at)
            for number in range(13):
                store.slots.touch((await put(store, str(number), SLICE)).slot, NOW, 9)
            async with moving(store):
                await until(lambda: store.lookup(key("a")) is None)
                await settled(store)
            assert store.page.get(ERRORS, "checksum") == 1
            assert_adds_up(store)

    async def test_a_damaged_copy_goes_alone(self, three: Config) -> None:
        async with opened(three) as store:
            await TestDemotion._on_ssd_with_copy(store)
            corrupt(store, "a", stored(store, "a"))
            await move(store, "a", 2)
            assert (stored(store, "a").home, stored(store, "a").copy) == (1, -1)
            assert sha256(store, "a") == expected_sha256("a", SLICE)
            assert store.page.get(ERRORS, "checksum") == 1
            assert_adds_up(store)

    async def test_a_file_that_vanished_is_not_tried_for_ever(self, three: Config) -> None:
        async with opened(three) as store:
            record = await put(store, "a", SLICE)
            os.unlink(store.disks[0].path(key("a"), record.generation))
            for number in range(13):
                store.slots.touch((await put(store, str(number), SLICE)).slot, NOW, 9)
            async with moving(store):
                await until(lambda: store.lookup(key("a")) is None)
                await settled(store)
            assert store.page.get(ERRORS, "disk_lost_file") == 1
            assert store.page.get(ERRORS, "disk_write") == 0
            assert_adds_up(store)

    async def test_a_target_that_cannot_be_written_rests_and_memory_stays_usable(
        self, tmp_path: Path, ram: Path, ssd: Path
    ) -> None:
        clock = ManualClock(NOW)
        settings = config(tmp_path, ram=[folder(ram, "1MiB")], ssd=[folder(ssd)])
        async with opened(settings, clock) as store:
            (ssd / "objects").rmdir()
            (ssd / "objects").write_text("in the way")
            async with moving(store):
                for number in range(40):
                    store.slots.touch((await put(store, str(number), SLICE)).slot, NOW, 9)
                    await until(lambda: calm(store))
                assert 1 <= store.page.get(ERRORS, "disk_write") <= 8, "one burst, then it is left alone"
                (ssd / "objects").unlink()
                clock.advance(2.0)
                for number in range(40, 60):
                    store.slots.touch((await put(store, str(number), SLICE)).slot, NOW, 9)
                    await until(lambda: calm(store))
                assert store.page.get(EVICTIONS, "ram", "ssd") > 5
            await settled(store)
            assert_adds_up(store)


@pytest.mark.root
@needs_root
class TestRealDisks:
    async def test_a_full_one_takes_nothing_and_keeps_nothing(self, tmp_path: Path, ram: Path) -> None:
        with mounted(tmp_path, "ext4", 16 << 20) as place:
            settings = config(tmp_path / "state", ram=[folder(ram, "1MiB")], ssd=[folder(place / "disk", "64MiB")])
            async with opened(settings) as store:
                store.space.capacity_bytes(store.disks[1])  # as known a moment ago
                with (place / "of others").open("wb") as other:
                    stat = os.statvfs(place)
                    os.posix_fallocate(other.fileno(), 0, stat.f_bavail * stat.f_frsize - (100 << 10))
                    while True:
                        try:
                            os.posix_fallocate(other.fileno(), os.fstat(other.fileno()).st_size, 4096)
                        except OSError:
                            break
                async with moving(store):
                    for number in range(20):
                        store.slots.touch((await put(store, str(number), SLICE)).slot, NOW, 9)
                        await until(lambda: calm(store))
                assert store.page.get(ERRORS, "disk_write") >= 1
                await settled(store)
                assert_adds_up(store)
                assert store.disks[1].used_bytes == 0

    async def test_a_dead_one_gives_up_its_objects_and_the_rest_goes_on(self, tmp_path: Path, ssd: Path) -> None:
        with mounted(tmp_path, "xfs", 320 << 20) as place:
            settings = config(tmp_path / "state", ssd=[folder(place / "disk", "2MiB")], hdd=[folder(ssd, "16MiB")])
            async with opened(settings, ManualClock(NOW)) as store:
                for number in range(26):
                    store.slots.touch((await put(store, str(number), SLICE)).slot, NOW, 3)
                assert len(on(store, SSD)) > 15
                end_disk(place)
                record = next(record for record in committed(store).values() if record.home == 0)
                with pytest.raises((OSError, DiskError)):
                    read(store.disks[0], store.slots.key(record.slot), record)
                store.disks[0].used_bytes += 2 << 20  # over its mark: everything has to go
                async with moving(store):
                    await until(
                        lambda: store.page.get(ERRORS, "disk_read") + store.page.get(ERRORS, "disk_lost_file") >= 15
                    )
                assert store.page.get(ERRORS, "disk_write") == 0, "the other disk is not to blame"
                store.disks[0].close()
