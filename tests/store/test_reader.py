"""The store as a worker in another process has it."""

from __future__ import annotations

from pathlib import Path

from tests.store.making import SLICE, child, config, folder, key, moving, opened, put, stored, until

WORKER = """
import json, os, sys
from edge.config import config_from_json
from edge.store.reader import StoreReader
store = StoreReader(config_from_json(open(sys.argv[1], "rb").read()))
print(json.dumps("open"), flush=True)
for line in sys.stdin:
    key = bytes.fromhex(json.loads(line))
    record = store.lookup(key)
    if record is None:
        print(json.dumps(None), flush=True)
        continue
    disk = store.place(record)
    if disk is not None:
        fd = disk.open(key, record.generation)
        size = os.fstat(fd).st_size
        os.close(fd)
        store.slots.touch(record.slot, 1_800_000_000, 3)
    print(json.dumps([record.generation, disk and disk.number]), flush=True)
store.close()
"""


async def test_a_worker_follows_an_object_through_its_life(tmp_path: Path, ram: Path, ssd: Path) -> None:
    settings = config(tmp_path / "state", ram=[folder(ram, "1MiB")], ssd=[folder(ssd)])
    path = tmp_path / "config.json"
    path.write_text(settings.model_dump_json())
    a = key("a").hex()
    async with opened(settings) as store:
        with child(WORKER, str(path)) as worker:
            assert worker.hear() == "open"
            assert worker.ask(a) is None
            record = await put(store, "a", SLICE)
            assert worker.ask(a) is None, "not committed yet"
            store.index.commit()
            assert worker.ask(a) == [record.generation, 0]
            assert store.slots.hits(record.slot, 1_800_000_000) == 3.0
            async with moving(store):
                for number in range(12):
                    await put(store, str(number), SLICE)
                    store.slots.touch(stored(store, str(number)).slot, 1_800_000_000, 9)
                await until(lambda: stored(store, "a").home == 1)
            assert worker.ask(a) in (None, [record.generation, 1]), "the old record is refused at once"
            store.index.commit()
            assert worker.ask(a) == [record.generation, 1]
            store.drop(key("a"), stored(store, "a"))
            assert worker.ask(a) is None, "dropped at once, committed or not"


async def test_the_copy_is_read_and_without_its_disk_the_home(tmp_path: Path, ram: Path, ssd: Path) -> None:
    async with opened(config(tmp_path / "state", ssd=[folder(ssd)])) as store:
        await put(store, "a", SLICE)
    both = config(tmp_path / "state", ssd=[folder(ssd)], ram=[folder(ram)])
    async with opened(both) as store:
        async with moving(store) as mover:
            mover.hot(key("a"))
            await until(lambda: stored(store, "a").copy == 1)
        store.index.commit()
        for number, settings in enumerate((both, config(tmp_path / "state", ssd=[folder(ssd)]))):
            path = tmp_path / f"config{number}.json"
            path.write_text(settings.model_dump_json())
            with child(WORKER, str(path)) as worker:
                worker.hear()
                assert worker.ask(key("a").hex())[1] == (1, 0)[number]


async def test_an_object_on_a_disk_that_was_taken_out_has_no_place(tmp_path: Path, ssd: Path, hdd: Path) -> None:
    async with opened(config(tmp_path / "state", ssd=[folder(ssd)], hdd=[folder(hdd)])) as store:
        await put(store, "a", SLICE)
        store.index.commit()
        path = tmp_path / "config.json"
        path.write_text(config(tmp_path / "state", hdd=[folder(hdd)]).model_dump_json())
        with child(WORKER, str(path)) as worker:
            worker.hear()
            assert worker.ask(key("a").hex())[1] is None
