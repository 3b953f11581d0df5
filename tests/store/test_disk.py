"""A disk: its identity, its files, its threads, its room."""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.config import DiskConfig
from edge.errors import DiskError
from edge.store.disk import Disk, file_system_type, prepare
from edge.terms import TierName
from tests.store.making import files, key, mounted, needs_root, until

A = key("a")


def disk_at(path: Path, **settings: object) -> Disk:
    config = DiskConfig.model_validate({"path": str(path), "reserve": 0, **settings})
    return Disk(0, TierName.SSD, config, prepare(config))


@pytest.fixture
def disk(ssd: Path) -> Iterator[Disk]:
    disk = disk_at(ssd)
    yield disk
    disk.close()


def test_an_identity_is_given_once(ssd: Path) -> None:
    config = DiskConfig(path=str(ssd))
    identity = prepare(config)
    assert uuid.UUID(identity)
    assert prepare(config) == identity
    assert prepare(DiskConfig(path=str(ssd / "other"))) != identity


def test_an_identity_that_is_none_is_not_replaced(ssd: Path) -> None:
    prepare(DiskConfig(path=str(ssd)))
    (ssd / "edge-disk.uuid").write_text("not one")
    with pytest.raises(DiskError):
        prepare(DiskConfig(path=str(ssd)))


def test_a_place_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="file"):
        prepare(DiskConfig(path=str(tmp_path / "file" / "disk")))


def test_a_file_is_made_written_read_and_removed(disk: Disk) -> None:
    fd = disk.create(A, 0x1F)
    os.write(fd, b"content")
    os.close(fd)
    assert files(disk) == {f"{A.hex()}.1f"}
    fd = disk.open(A, 0x1F)
    assert os.read(fd, 100) == b"content"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(fd, b"x")
    os.close(fd)
    disk.unlink(A, 0x1F)
    disk.unlink(A, 0x1F)
    assert files(disk) == set()


def test_two_generations_are_two_files_and_one_is_made_once(disk: Disk) -> None:
    os.close(disk.create(A, 1))
    os.close(disk.create(A, 2))
    with pytest.raises(FileExistsError):
        disk.create(A, 1)
    assert len(files(disk)) == 2


def test_no_descriptor_is_inherited(disk: Disk) -> None:
    fds = [disk.create(A, 1), disk.open(A, 1), disk.open(A, 1, write=True)]
    assert [os.get_inheritable(fd) for fd in fds] == [False] * 3
    for fd in fds:
        os.close(fd)


def test_reading_ahead_of_a_file_that_is_too_short(disk: Disk) -> None:
    fd = disk.create(A, 1)
    os.write(fd, bytes(1000))
    disk.read(fd, 100, 900)
    with pytest.raises(DiskError, match="shorter"):
        disk.read(fd, 100, 901)
    os.close(fd)


def test_a_window_larger_than_the_buffer(disk: Disk) -> None:
    fd = disk.create(A, 1)
    os.ftruncate(fd, 3 << 20)
    disk.read(fd, 5, (3 << 20) - 5)
    os.close(fd)


async def test_blocking_work_is_done_by_the_disks_own_threads(disk: Disk) -> None:
    assert await disk.run(threading.get_ident) != threading.get_ident()
    assert (await disk.run(lambda: threading.current_thread().name)).startswith("disk-0")


async def test_memory_is_not_waited_for_in_a_thread(ram: Path) -> None:
    disk = disk_at(ram)
    assert disk.in_memory
    assert await disk.run(threading.get_ident) == threading.get_ident()
    assert await disk.in_pool(threading.get_ident) != threading.get_ident()
    disk.close()


async def test_a_slow_disk_delays_its_own_work_only(ssd: Path, hdd: Path) -> None:
    slow, quick = disk_at(ssd, threads=1), disk_at(hdd, threads=1)
    release = threading.Event()
    stuck = asyncio.ensure_future(slow.run(release.wait))
    queued = asyncio.ensure_future(slow.run(int))
    assert await quick.run(int) == 0
    assert not stuck.done()
    assert not queued.done()
    release.set()
    assert await queued == 0
    slow.close()
    quick.close()


async def test_closing_does_what_is_queued_when_told_to(ssd: Path) -> None:
    for finish in (True, False):
        disk = disk_at(ssd, threads=1)
        started, release, done = threading.Event(), threading.Event(), threading.Event()
        first = disk.in_pool(_hold, started, release)
        last = disk.in_pool(done.set)
        await until(started.is_set)
        closing = threading.Thread(target=disk.close, kwargs={"finish": finish})
        closing.start()
        if not finish:
            await until(last.cancelled)
        release.set()
        await asyncio.gather(first, last, return_exceptions=True)
        closing.join()
        assert done.is_set() is finish


def _hold(started: threading.Event, release: threading.Event) -> None:
    started.set()
    release.wait()


def test_what_may_be_stored_is_the_limit_set(ssd: Path) -> None:
    disk = disk_at(ssd, size="4MiB")
    assert disk.capacity_bytes() == 4 << 20
    disk.used_bytes = 1 << 20
    assert disk.capacity_bytes() == 4 << 20


def test_without_a_limit_it_is_what_is_free_and_what_is_ours(ssd: Path) -> None:
    disk = disk_at(ssd)
    free = disk.capacity_bytes()
    assert free > 1 << 20
    disk.used_bytes = 1 << 40
    assert disk.capacity_bytes() > 1 << 40


def test_a_reserve_larger_than_the_file_system_leaves_nothing(ssd: Path) -> None:
    assert disk_at(ssd, reserve=1 << 60).capacity_bytes() == 0


@pytest.mark.root
@needs_root
def test_room_taken_for_what_is_not_written_yet_is_not_taken_twice(tmp_path: Path) -> None:
    with mounted(tmp_path, "ext4", 16 << 20) as place:
        disk = disk_at(place / "disk")
        capacity = disk.capacity_bytes()
        disk.reserve(capacity - (1 << 20))
        assert disk.capacity_bytes() - disk.used_bytes == 1 << 20
        disk.reserve(-disk.used_bytes)
        assert (disk.capacity_bytes(), disk.used_bytes, disk.unwritten_bytes) == (capacity, 0, 0)


@pytest.mark.root
@needs_root
def test_the_reserve_is_left_free_by_a_full_disk(tmp_path: Path) -> None:
    with mounted(tmp_path, "ext4", 16 << 20) as place:
        disk = disk_at(place / "disk", reserve="4MiB")
        capacity = disk.capacity_bytes()
        fd = disk.create(A, 1)
        os.posix_fallocate(fd, 0, capacity)
        os.close(fd)
        disk.used_bytes = capacity
        assert abs(disk.capacity_bytes() - capacity) < 256 << 10
        stat = os.statvfs(place)
        assert stat.f_bavail * stat.f_frsize > 3 << 20


def test_the_type_of_a_file_system() -> None:
    assert file_system_type("/dev/shm") == "tmpfs"
    assert file_system_type("/proc/self") == "proc"


@pytest.mark.root
@needs_root
def test_the_type_where_a_mount_has_a_blank_in_its_name(tmp_path: Path) -> None:
    place = tmp_path / "a b"
    place.mkdir()
    with mounted(place, "ext4", 16 << 20) as target:
        assert file_system_type(str(target / "objects")) == "ext4"
        assert file_system_type(str(target) + "x") != "ext4" or file_system_type(str(place)) == "ext4"
