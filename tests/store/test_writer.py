"""Writing objects: whole, in parts, of unknown length, and into the arms of a failing disk."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from edge.clock import ManualClock
from edge.errors import DiskError, StoreFull
from edge.store import writer as writer_module
from edge.store.object import read_header, write_all
from edge.store.tiers import Store
from edge.store.writer import ObjectWriter, SliceStream
from edge.terms import Reason
from tests.store.making import (
    NOW,
    SLICE,
    assert_adds_up,
    begin,
    body,
    committed,
    config,
    expected_sha256,
    files,
    fill,
    fill_up,
    folder,
    key,
    mounted,
    needs_root,
    opened,
    put,
    read,
    sha256,
    stored,
    until,
)

SIZE = 3 * SLICE + 500


async def pour(writer: ObjectWriter, stream: SliceStream, size: int) -> None:
    for _ in range(0, size, SLICE):
        await writer.write(stream, bytes(SLICE))


def open_descriptors(folder: Path) -> list[str]:
    """Files of a folder that this process has open."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if target.startswith(str(folder)):
            found.append(target)
    return found


@pytest.mark.parametrize("size", [1, SLICE - 1, SLICE, SLICE + 1, SIZE])
async def test_a_whole_object_is_what_was_written(tmp_path: Path, ssd: Path, size: int) -> None:
    async with opened(config(tmp_path, ssd=[folder(ssd)])) as store:
        record = await put(store, "a", size)
        assert (record.complete, record.size) == (True, size)
        assert store.lookup(key("a")) == record
        assert sha256(store, "a") == expected_sha256("a", size)
        fd = store.disks[0].open(key("a"), record.generation)
        header = read_header(fd)
        os.close(fd)
        assert (header.key, header.url, header.record.size) == (key("a"), "a", size)
        assert_adds_up(store)
        assert open_descriptors(ssd) == []


async def test_an_object_of_no_bytes_is_whole_when_it_is_made(tmp_path: Path, ssd: Path) -> None:
    async with opened(config(tmp_path, ssd=[folder(ssd)])) as store:
        (await begin(store, "empty", 0)).close()
        assert stored(store, "empty").complete
        assert_adds_up(store)


async def test_slices_are_there_one_by_one(tmp_path: Path, ram: Path) -> None:
    async with opened(config(tmp_path, ram=[folder(ram)])) as store:
        writer = await begin(store, "a", SIZE)
        stream = writer.stream(0)
        data = body("a", SIZE)
        await writer.write(stream, data[: SLICE - 1])
        assert store.lookup(key("a")) is None
        assert not writer.is_published
        await writer.write(stream, data[SLICE - 1 : SLICE + 10])
        record = store.lookup(key("a"))
        assert record is not None
        assert read(store.disks[0], key("a"), record) == {0: data[:SLICE]}
        writer.close()
        assert_adds_up(store)


async def test_two_streams_at_two_places_make_one_object(tmp_path: Path, ssd: Path) -> None:
    async with opened(config(tmp_path, ssd=[folder(ssd)])) as store:
        writer = await begin(store, "a", SIZE)
        await asyncio.gather(fill(writer, "a", 0, 2 * SLICE), fill(writer, "a", 2 * SLICE, SIZE))
        writer.close()
        assert stored(store, "a").complete
        assert sha256(store, "a") == expected_sha256("a", SIZE)
        assert_adds_up(store)


async def test_a_part_is_kept_and_completed_later(tmp_path: Path, ssd: Path) -> None:
    settings = config(tmp_path, ssd=[folder(ssd)])
    async with opened(settings) as store:
        writer = await begin(store, "a", SIZE)
        await fill(writer, "a", SLICE, 2 * SLICE)
        await fill(writer, "a", 3 * SLICE, SIZE)
        writer.close()
        assert_adds_up(store)
    async with opened(settings) as store:
        record = stored(store, "a")
        assert sorted(read(store.disks[0], key("a"), record)) == [1, 3]
        disk = store.disks[0]
        again = ObjectWriter(
            store, key("a"), "a", record, disk.open(key("a"), record.generation, write=True), disk, parts=True
        )
        assert again.is_published
        await fill(again, "a", 0, SLICE)
        await fill(again, "a", 2 * SLICE, 3 * SLICE)
        again.close()
        assert stored(store, "a").complete
        assert sha256(store, "a") == expected_sha256("a", SIZE)
        assert_adds_up(store)


async def test_what_may_not_be_held_in_part_did_not_happen_until_it_is_whole(tmp_path: Path, ssd: Path) -> None:
    async with opened(config(tmp_path, ssd=[folder(ssd)])) as store:
        whole = await begin(store, "whole", SIZE, parts=False)
        await fill(whole, "whole", 0, 3 * SLICE)
        assert store.lookup(key("whole")) is None
        await fill(whole, "whole", 3 * SLICE, SIZE)
        assert stored(store, "whole").complete
        whole.close()
        broken = await begin(store, "broken", SIZE, parts=False)
        await fill(broken, "broken", 0, 3 * SLICE)
        broken.close()
        assert store.lookup(key("broken")) is None
        store.index.commit()
        await until(lambda: len(files(ssd)) == 1)
        assert_adds_up(store)


@pytest.mark.parametrize("size", [0, 1, SLICE, SIZE])
async def test_a_body_of_unknown_length_is_known_at_its_end(tmp_path: Path, ssd: Path, size: int) -> None:
    async with opened(config(tmp_path, ssd=[folder(ssd)])) as store:
        writer = await begin(store, "a", -1)
        stream = writer.stream(0)
        for start in range(0, size, 30_000):
            await writer.write(stream, body("a", size)[start : start + 30_000])
        assert store.lookup(key("a")) is None
        await writer.finish(stream)
        writer.close()
        assert (stored(store, "a").size, stored(store, "a").complete) == (size, True)
        assert sha256(store, "a") == expected_sha256("a", size)
        assert_adds_up(store)


async def test_a_body_of_unknown_length_counts_as_it_comes_and_ends_with_the_room(tmp_path: Path, ram: Path) -> None:
    async with opened(config(tmp_path, ram=[folder(ram, "2MiB")])) as store:
        await put(store, "other", 2 * SLICE)
        writer = await begin(store, "a", -1)
        store.busy[key("a")] += 1
        before = store.disks[0].used_bytes
        stream = writer.stream(0)
        await writer.write(stream, bytes(SLICE))
        assert store.disks[0].used_bytes == before + SLICE
        with pytest.raises(StoreFull):
            await pour(writer, stream, 100 * SLICE)
        assert stream.position > 25 * SLICE
        assert store.lookup(key("other")) is None, "what could go made room"
        writer.close()
        assert_adds_up(store)
        assert store.disks[0].used_bytes == 0


async def test_what_the_origin_changed_is_forgotten_once(tmp_path: Path, ssd: Path) -> None:
    async with opened(config(tmp_path, ssd=[folder(ssd)])) as store:
        await put(store, "other", SIZE)
        for parts in (True, False):
            writer = await begin(store, "a", SIZE, parts=parts)
            await fill(writer, "a", 0, 2 * SLICE)
            writer.drop()
            writer.close()
            assert store.lookup(key("a")) is None
            store.index.commit()
            await until(lambda: len(files(ssd)) == 1)
            assert_adds_up(store)


async def test_room_is_reserved_while_bytes_are_on_their_way(tmp_path: Path, ram: Path) -> None:
    async with opened(config(tmp_path, ram=[folder(ram)])) as store:
        disk = store.disks[0]
        writer = await begin(store, "a", SIZE)
        before = disk.used_bytes
        writer.reserve(SIZE)
        assert (disk.used_bytes - before, disk.unwritten_bytes) == (SIZE, SIZE)
        await writer.write(writer.stream(0), body("a", SIZE)[: SLICE + 10])
        assert (disk.used_bytes - before, disk.unwritten_bytes) == (SIZE, SIZE - SLICE - 10)
        writer.close()
        writer.close()
        assert (disk.used_bytes - before, disk.unwritten_bytes) == (SLICE, 0)
        assert_adds_up(store)


async def test_a_thread_that_still_writes_does_not_write_into_anothers_file(
    tmp_path: Path, ssd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, release = threading.Event(), threading.Event()

    def slow(fd: int, data: bytes | memoryview, offset: int) -> None:
        entered.set()
        release.wait()
        write_all(fd, data, offset)

    async with opened(config(tmp_path, ssd=[folder(ssd)])) as store:
        writer = await begin(store, "a", SIZE)
        monkeypatch.setattr(writer_module, "write_all", slow)
        writing = asyncio.create_task(fill(writer, "a", 0, SIZE))
        await until(entered.is_set)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        writer.close()
        bystanders = [os.open(tmp_path / f"bystander{number}", os.O_RDWR | os.O_CREAT) for number in range(20)]
        release.set()
        await until(lambda: not open_descriptors(ssd))
        assert [os.fstat(fd).st_size for fd in bystanders] == [0] * 20
        for fd in bystanders:
            os.close(fd)
        store.index.commit()
        await until(lambda: not files(ssd))
        assert_adds_up(store)


async def test_a_fill_cancelled_while_its_file_is_made_leaves_nothing(
    tmp_path: Path, ssd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, release = threading.Event(), threading.Event()
    create_file = Store._create_file

    def slow(*arguments: object) -> int:
        entered.set()
        release.wait()
        return create_file(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "_create_file", staticmethod(slow))
    async with opened(config(tmp_path, ssd=[folder(ssd)])) as store:
        making = asyncio.create_task(begin(store, "a", SIZE))
        await until(entered.is_set)
        making.cancel()
        release.set()
        await asyncio.gather(making, return_exceptions=True)
        assert making.cancelled()
        store.index.commit()
        await until(lambda: not files(ssd))
        assert_adds_up(store)
        assert store.slots.stamp(0) == 0
        assert open_descriptors(ssd) == []


async def test_a_descriptor_that_cannot_be_written_is_a_disk_error(tmp_path: Path, ssd: Path) -> None:
    async with opened(config(tmp_path, ssd=[folder(ssd)])) as store:
        record = await put(store, "a", SIZE)
        disk = store.disks[0]
        writer = ObjectWriter(store, key("a"), "a", record, disk.open(key("a"), record.generation), disk, parts=True)
        with pytest.raises(DiskError) as caught:
            await writer.write(writer.stream(0), b"x")
        assert caught.value.reason is Reason.DISK_WRITE
        writer.close()
        assert_adds_up(store)


@pytest.mark.root
@needs_root
@pytest.mark.parametrize("parts", [True, False])
async def test_a_disk_that_fills_up_in_the_middle(tmp_path: Path, parts: bool) -> None:
    with mounted(tmp_path, "ext4", 16 << 20) as place:
        clock = ManualClock(NOW)
        tier = {"disks": [folder(place / "disk", None)], "object_max": "8MiB"}
        async with opened(config(tmp_path / "state", ssd=tier), clock) as store:
            writer = await begin(store, "a", 4 << 20, parts=parts)
            await fill(writer, "a", 0, 1 << 20)
            fill_up(place)
            with pytest.raises(DiskError) as caught:
                await fill(writer, "a", 1 << 20, 4 << 20)
            assert caught.value.reason is Reason.DISK_WRITE
            writer.close()
            if parts:
                record = stored(store, "a")
                data = b"".join(read(store.disks[0], key("a"), record).values())
                assert len(data) >= 1 << 20
                assert data == body("a", 4 << 20)[: len(data)]
            else:
                store.index.commit()
                await until(lambda: not files(place / "disk"))
                assert committed(store) == {}
            assert_adds_up(store)
            clock.advance(2.0)
            store.busy[key("a")] += 1
            with pytest.raises(StoreFull):
                await begin(store, "b", 4 << 20)


@pytest.mark.root
@needs_root
async def test_a_disk_without_room_for_a_file_at_all(tmp_path: Path) -> None:
    with mounted(tmp_path, "ext4", 16 << 20) as place:
        clock = ManualClock(NOW)
        tier = {"disks": [folder(place / "disk", None)], "object_max": "8MiB"}
        async with opened(config(tmp_path / "state", ssd=tier), clock) as store:
            assert store.space.capacity_bytes(store.disks[0]) > 8 << 20
            fill_up(place)
            with pytest.raises(DiskError) as caught:
                await begin(store, "a", 1000)
            assert caught.value.reason is Reason.DISK_WRITE
            assert store.disks[0].used_bytes == 0
            assert files(place / "disk") == set()
            assert [store.slots.stamp(slot) for slot in range(4)] == [0] * 4
