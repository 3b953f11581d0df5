"""After a stop of any kind: disks, slots and index agree again."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from functools import partial
from pathlib import Path

import pytest

from edge.clock import ManualClock, SystemClock
from edge.config import Config
from edge.metrics import Page
from edge.store import recover as recover_module
from edge.store.disk import Disk
from edge.store.mover import Mover
from edge.store.recover import recover
from edge.store.tiers import Store
from tests.store.making import (
    NOW,
    SLICE,
    assert_adds_up,
    begin,
    body,
    child,
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
    moving,
    plant,
    put,
    read,
    sha256,
    stored,
    until,
)
from tests.store.making import opened as store_opened


@pytest.fixture
def three(tmp_path: Path, ram: Path, ssd: Path, hdd: Path) -> Config:
    return config(tmp_path, ram=[folder(ram, "2MiB")], ssd=[folder(ssd)], hdd=[folder(hdd)])


def started(settings: Config) -> Store:
    return Store(settings, ManualClock(NOW), Page())


async def recovered(store: Store) -> None:
    await recover(store)
    await quiet(store)


async def quiet(store: Store) -> None:
    """Nothing is under way; everything agrees with everything."""
    store.index.commit()
    await until(lambda: all(len(files(d)) == sum(d.number in (r.home, r.copy) for _, r in store.index.records())
                            for d in store.disks.values()))  # fmt: skip
    assert_adds_up(store)
    records = committed(store)
    slots = {slot for slot in range(store.slots.slots) if store.slots.stamp(slot)}
    assert slots == {record.slot for record in records.values()}
    for disk in store.disks.values():
        if (roster := store.space.rosters.get(disk.number)) is not None:
            assert set(roster.sample(10**6)) == {
                record.slot for record in records.values() if disk.number in (record.home, record.copy)
            }


async def move(store: Store, name: str, target: int, *, copy: bool = False) -> None:
    mover = Mover(store)
    mover._start(key(name), stored(store, name), store.disks[target], copy=copy)
    await asyncio.gather(*mover._tasks)


opened = partial(store_opened, put_in_order=False)


class TestAfterAnOrderlyStop:
    async def test_the_roster_of_memory_is_made_again(self, three: Config) -> None:
        async with store_opened(three) as store:
            for name in "abc":
                await put(store, name, SLICE)
            await move(store, "b", 1)
            await move(store, "b", 0, copy=True)
        async with opened(three) as store:
            assert store.was_clean
            await recovered(store)
            assert len(store.space.rosters[0]) == 3

    async def test_disks_are_not_listed(self, three: Config, monkeypatch: pytest.MonkeyPatch) -> None:
        async with store_opened(three):
            pass
        listed: list[str] = []

        def listing(root: str) -> list[str]:
            listed.append(root)
            return []

        monkeypatch.setattr(recover_module, "_folders", listing)
        async with opened(three) as store:
            await recover(store)
        assert len(listed) == 1

    async def test_a_file_lost_from_memory_is_forgotten_and_its_room_is_free(self, three: Config) -> None:
        async with store_opened(three) as store:
            record = await put(store, "a", SLICE)
            await put(store, "b", SLICE)
        os.unlink(store.disks[0].path(key("a"), record.generation))
        async with opened(three) as store:
            await recovered(store)
            assert set(committed(store)) == {key("b")}

    async def test_a_copy_lost_from_memory_leaves_the_object(self, three: Config) -> None:
        async with store_opened(three) as store:
            await put(store, "a", SLICE)
            await move(store, "a", 1)
            await move(store, "a", 0, copy=True)
            record = stored(store, "a")
        os.unlink(store.disks[0].path(key("a"), record.generation))
        async with opened(three) as store:
            await recovered(store)
            assert (stored(store, "a").home, stored(store, "a").copy) == (1, -1)
            assert sha256(store, "a") == expected_sha256("a", SLICE)


class TestAfterACrash:
    async def test_what_was_committed_is_there(self, three: Config) -> None:
        store = started(three)
        for name in "abc":
            await put(store, name, 2 * SLICE)
        store.index.commit()
        crash(store)
        async with opened(three) as again:
            assert not again.was_clean
            await recovered(again)
            for name in "abc":
                assert sha256(again, name) == expected_sha256(name, 2 * SLICE)

    async def test_what_was_not_committed_leaves_no_file_and_no_slot(self, three: Config) -> None:
        store = started(three)
        await put(store, "committed", SLICE)
        store.index.commit()
        await put(store, "published", SLICE)
        writer = await begin(store, "half filled", 3 * SLICE, parts=False)
        await fill(writer, "half filled", 0, SLICE)
        store.save_usage()
        crash(store)
        async with opened(three) as again:
            await recovered(again)
            assert set(committed(again)) == {key("committed")}

    async def test_what_is_used_is_counted_anew(self, three: Config) -> None:
        store = started(three)
        for number in range(5):
            await put(store, str(number), 2 * SLICE)
        store.index.commit()
        store.index.set_meta("used", {0: 1 << 50})
        store.index.commit()
        crash(store)
        async with opened(three) as again:
            await recovered(again)

    async def test_a_dropped_object_whose_deletion_was_lost_is_back_whole_or_gone(self, three: Config) -> None:
        store = started(three)
        for name in ("in memory", "on disk"):
            await put(store, name, SLICE)
        await move(store, "on disk", 1)
        store.index.commit()
        for name in ("in memory", "on disk"):
            store.drop(key(name), stored(store, name))
        for number in range(4):
            await put(store, str(number), SLICE)  # takes their slots
        crash(store)
        async with opened(three) as again:
            await recovered(again)
            assert set(committed(again)) == {key("on disk")}
            assert sha256(again, "on disk") == expected_sha256("on disk", SLICE)

    async def test_an_object_on_its_way_out_of_memory_is_found_where_it_went(self, three: Config) -> None:
        store = started(three)
        await put(store, "a", 2 * SLICE)
        store.index.commit()
        await move(store, "a", 1)
        assert not files(store.disks[0])
        crash(store)  # and the index says that it is in memory
        async with opened(three) as again:
            await recovered(again)
            assert stored(again, "a").home == 1
            assert sha256(again, "a") == expected_sha256("a", 2 * SLICE)

    async def test_a_copy_that_did_not_end_goes(self, three: Config) -> None:
        store = started(three)
        record = await put(store, "a", 2 * SLICE)
        store.index.commit()
        fd = store.disks[1].create(key("a"), record.generation)
        os.ftruncate(fd, 5 * SLICE)
        os.close(fd)
        crash(store)
        async with opened(three) as again:
            await recovered(again)
            assert stored(again, "a").home == 0
            assert sha256(again, "a") == expected_sha256("a", 2 * SLICE)

    async def test_of_an_object_lost_from_memory_a_half_copy_is_no_replacement(self, three: Config) -> None:
        store = started(three)
        record = await put(store, "a", 2 * SLICE)
        store.index.commit()
        plant(store.disks[1], "a", record.generation, content(store.disks[0], "a", record.generation)[: SLICE + 10])
        os.unlink(store.disks[0].path(key("a"), record.generation))
        crash(store)
        async with opened(three) as again:
            await recovered(again)
            assert committed(again) == {}

    async def test_a_record_whose_file_vanished_is_gone(self, three: Config) -> None:
        store = started(three)
        for name in "ab":
            record = await put(store, name, SLICE)
            await move(store, name, 1)
        store.index.commit()
        crash(store)
        os.unlink(store.disks[1].path(key("b"), record.generation))
        async with opened(three) as again:
            await recovered(again)
            assert set(committed(again)) == {key("a")}

    async def test_an_older_generation_beside_the_newer_goes(self, three: Config) -> None:
        store = started(three)
        old = await put(store, "a", SLICE)
        kept = content(store.disks[0], "a", old.generation)
        new = await put(store, "a", 2 * SLICE)
        plant(store.disks[0], "a", old.generation, kept)
        store.index.commit()
        crash(store)
        async with opened(three) as again:
            await recovered(again)
            assert files(again.disks[0]) == {file_name("a", new)}

    async def test_files_of_others_are_neither_removed_nor_in_the_way(self, three: Config) -> None:
        store = started(three)
        await put(store, "a", SLICE)
        store.index.commit()
        crash(store)
        root = Path(store.disks[0].root) / "objects"
        strangers = ["README", "00/README", "zz/zz/x", "00/00/.1", "00/00/00.1", "00/00/README", f"00/00/{'0' * 32}.x"]
        for name in strangers:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("mine")
        async with opened(three) as again:
            await recover(again)
            assert all((root / name).exists() for name in strangers)
            assert again.lookup(key("a")) is not None

    async def test_a_disk_that_cannot_be_listed_does_not_stop_the_others(
        self, three: Config, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = started(three)
        await put(store, "a", SLICE)
        store.index.commit()
        await put(store, "leaked", SLICE)
        crash(store)
        listdir = os.listdir

        def failing(path: str) -> list[str]:
            if "/ssd/" in str(path):
                raise OSError(5, "Input/output error")
            return listdir(path)

        async with opened(three) as again:
            with monkeypatch.context() as patch:
                patch.setattr(os, "listdir", failing)
                await recover(again)
            assert len(files(again.disks[0])) == 1


class TestMeanwhile:
    """Recovery runs while the store is used."""

    @pytest.fixture
    async def crashed(self, three: Config) -> Config:
        store = started(three)
        for number in range(20):
            await put(store, str(number), 1000 + number)
            if number % 2:
                await move(store, str(number), 1)
        store.save_usage()
        store.index.commit()
        await put(store, "leaked", SLICE)
        crash(store)
        return three

    async def test_new_objects_made_before_and_during_it(self, crashed: Config) -> None:
        async with opened(crashed) as store:
            await put(store, "before", SLICE)
            recovering = asyncio.create_task(recover(store))
            while not recovering.done():
                await put(store, str(random.random()), 100)
                await asyncio.sleep(0.0001)
            await recovering
            await quiet(store)
            assert store.lookup(key("before")) is not None

    @pytest.mark.parametrize("seed", range(6))
    async def test_objects_that_come_go_and_move(self, crashed: Config, seed: int) -> None:
        chance = random.Random(seed)
        async with opened(crashed) as store:
            recovering = asyncio.create_task(recover(store))
            names = [str(number) for number in range(20)]
            chance.shuffle(names)
            for name in names:
                record = store.lookup(key(name))
                assert record is not None
                match chance.randrange(4):
                    case 0:
                        store.drop(key(name), record)
                    case 1:
                        await move(store, name, record.home + 1)
                    case 2:
                        await put(store, name, 500)
                    case _:
                        if record.home:
                            await move(store, name, 0, copy=True)
                for _ in range(chance.randrange(6)):
                    await asyncio.sleep(0.0002)
            await recovering
            store.index.commit()
            await quiet(store)

    async def test_a_leaked_file_is_not_removed_under_a_move_that_brings_it_anew(
        self, three: Config, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = started(three)
        record = await put(store, "a", SLICE)
        os.close(store.disks[1].create(key("a"), record.generation))  # what a crash left of a move
        store.index.commit()
        crash(store)
        unlinking = asyncio.Event()
        unlink = Disk.unlink
        loop = asyncio.get_running_loop()

        def slow(disk: Disk, name: bytes, generation: int) -> None:
            if disk.number == 1:
                loop.call_soon_threadsafe(unlinking.set)
                time.sleep(0.05)
            unlink(disk, name, generation)

        async with opened(three) as again:
            monkeypatch.setattr(Disk, "unlink", slow)
            recovering = asyncio.create_task(recover(again))
            await unlinking.wait()
            async with moving(again) as mover:
                again.disks[0].used_bytes += 2 << 20  # memory is short: it wants to move
                mover.hot(key("a"))
                await recovering
                again.disks[0].used_bytes -= 2 << 20
            monkeypatch.setattr(Disk, "unlink", unlink)
            await until(lambda: not again.busy)
            record = stored(again, "a")
            assert len(read(again.disk_of(record), key("a"), record)) == 1


FILLER = """
import asyncio, json, os, random, sys
from edge.clock import SystemClock
from edge.config import config_from_json
from edge.metrics import ERRORS, Page
from edge.store.mover import Mover
from edge.store.recover import recover
from edge.store.tiers import Store
from tests.store.making import SLICE, begin, body, fill, key, put, stored

told = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # the log goes elsewhere

def say(*words):
    print(json.dumps(words), file=told, flush=True)

async def main():
    chance = random.Random(sys.argv[2])
    store = Store(config_from_json(open(sys.argv[1], "rb").read()), SystemClock(), Page())
    tasks = [asyncio.create_task(work) for work in (store.run(), recover(store), Mover(store).run())]
    names = {}
    drop = store.drop
    def dropping(which, record):
        say("dropped", names[which], 0)
        drop(which, record)
    store.drop = dropping
    async def one(number):
        name = f"{sys.argv[2]} {number}"
        names[key(name)] = name
        size = chance.randrange(1, 4 * SLICE)
        store.busy[key(name)] += 1
        try:
            kind = chance.randrange(10)
            if kind == 0:
                writer = await begin(store, name, size)
                first = chance.randrange(writer.record.slices)
                await fill(writer, name, first * SLICE, min((first + 1) * SLICE, size))
                writer.close()
            elif kind == 1:
                writer = await begin(store, name, -1)
                stream = writer.stream(0)
                for start in range(0, size, 30_000):
                    await writer.write(stream, body(name, size)[start : start + 30_000])
                await writer.finish(stream)
                writer.close()
            else:
                await put_unmarked(name, size)
        finally:
            del store.busy[key(name)]
        slot = stored(store, name).slot
        store.slots.touch(slot, int(store.clock.wall()), 2 + chance.randrange(5))
        say("published", name, size)
        if kind == 2:
            store.drop(key(name), stored(store, name))
        else:
            store.index.after_commit(lambda: say("durable", name, size))
    async def put_unmarked(name, size):
        writer = await begin(store, name, size)
        await fill(writer, name, 0, size)
        writer.close()
    number = 0
    while True:
        await asyncio.gather(*(one(number + step) for step in range(4)))
        number += 4
        await asyncio.sleep(0.003)
        store.save_usage()
        assert not any(store.page.get(ERRORS, reason) for reason in ("checksum", "disk_lost_file", "disk_read"))
        for task in tasks:
            if task.done() and task.exception():
                raise task.exception()
asyncio.run(main())
"""


@pytest.mark.parametrize("seed", range(10))
async def test_killed_while_it_fills(tmp_path: Path, ram: Path, ssd: Path, hdd: Path, seed: int) -> None:
    """Whatever the moment: what is there is right, nothing leaked, nothing is lost that was on the disk."""
    settings = config(
        tmp_path,
        objects=100_000,
        ram={"disks": [folder(ram, "4MiB")], "object_max": "1MiB"},
        ssd={"disks": [folder(ssd, "8MiB")], "object_max": "1MiB"},
        hdd={"disks": [folder(hdd, "2GiB")]},
    )
    path = tmp_path / "config.json"
    path.write_text(settings.model_dump_json())
    said: dict[str, dict[str, tuple[int, float]]] = {"published": {}, "durable": {}, "dropped": {}}
    with child(FILLER, str(path), str(seed)) as filler:
        until_durable = random.Random(seed).randrange(1, 120)
        while len(said["durable"]) < until_durable or len(said["published"]) < until_durable:
            word, name, size = filler.hear()
            said[word][name] = size, time.monotonic()
        filler.process.kill()
        killed = time.monotonic()
        assert filler.process.stdout is not None
        for line in filler.process.stdout:
            if line.endswith("]\n"):
                word, name, size = json.loads(line)
                said[word][name] = size, killed
    async with opened(settings, SystemClock()) as store:
        await recovered(store)
        records = committed(store)
        for name, (size, moment) in said["published"].items():
            record = records.get(key(name))
            if name in said["dropped"]:
                continue
            if record is None:
                assert name not in said["durable"], "it was on the disk"
                assert moment > killed - 1.0, "it was old enough to be on the disk"
                continue
            data = body(name, size)
            found = read(store.disk_of(record), key(name), record)
            assert found == {position: data[position * SLICE : (position + 1) * SLICE] for position in found}
            assert found
        new = await put(store, "new", 100)
        assert new.generation > max(record.generation for record in records.values())
