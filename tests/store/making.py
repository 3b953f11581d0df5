"""Stores, objects and file systems for the tests of edge.store."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.clock import Clock, ManualClock
from edge.config import Config
from edge.metrics import Page
from edge.store.disk import Disk
from edge.store.mover import Mover
from edge.store.object import checksum, read_checksums, read_into
from edge.store.record import Held, Record, key_hash
from edge.store.recover import recover
from edge.store.tiers import Store
from edge.store.writer import ObjectWriter

SLICE = 64 << 10
NOW = 1_800_000_000

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")


def config(state: Path | str, *, objects: int = 1024, **tiers: list[dict[str, Any]] | dict[str, Any]) -> Config:
    """A configuration; a tier is a list of disks, or all of its settings."""
    return Config.model_validate({
        "state_dir": str(state),
        "sites": [{"name": "test", "origins": ["http://origin.test"]}],
        "tiers": {name: tier if isinstance(tier, dict) else {"disks": tier} for name, tier in tiers.items()},
        "limits": {"objects": objects},
    })  # fmt: skip


def folder(path: Path | str, size: int | str | None = "64MiB", reserve: int | str = 0) -> dict[str, Any]:
    """A disk of the configuration."""
    return {"path": str(path), "size": size, "reserve": reserve}


@contextlib.asynccontextmanager
async def opened(settings: Config, clock: Clock | None = None, *, put_in_order: bool = True) -> AsyncIterator[Store]:
    """A store with its commits running, closed in good order."""
    store = Store(settings, clock or ManualClock(NOW), Page())
    commits = asyncio.create_task(store.run())
    try:
        if put_in_order:
            await recover(store)
        yield store
    finally:
        commits.cancel()
        await asyncio.gather(commits, return_exceptions=True)
        store.close()


@contextlib.asynccontextmanager
async def moving(store: Store) -> AsyncIterator[Mover]:
    """A mover at work."""
    mover = Mover(store)
    running = asyncio.create_task(mover.run())
    try:
        yield mover
        assert not running.done(), running.exception()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def crash(store: Store) -> None:
    """Let go of everything as the kernel would for a killed process: nothing is written any more."""
    for disk in store.disks.values():
        disk.close(finish=True)
    store.index._env.close()
    store.slots.close()


def draft(size: int, *, slice_size: int = SLICE, etag: str | None = '"1"', lifetime_s: float = 3600.0) -> Record:
    return Record(
        generation=0,
        stamp=0,
        slot=0,
        status=200,
        size=size,
        body_offset=0,
        slice_size=slice_size,
        home=-1,
        copy=-1,
        held=b"" if size > 0 else None,
        fields=(("Content-Type", "video/mp4"), *((("ETag", etag),) if etag else ())),
        response_time=float(NOW),
        request_time=float(NOW),
        initial_age_s=0.0,
        lifetime_s=lifetime_s,
    )


def body(name: str, size: int) -> bytes:
    return random.Random(name).randbytes(size)


def key(name: str) -> bytes:
    return key_hash(name)


async def begin(store: Store, name: str, size: int, *, parts: bool = True, slice_size: int = SLICE) -> ObjectWriter:
    """An object file with nothing in it yet; size -1 is unknown."""
    record, fd, disk = await store.create(
        key(name), name, draft(size, slice_size=slice_size), size if size >= 0 else 4 * SLICE
    )
    return ObjectWriter(store, key(name), name, record, fd, disk, parts=parts)


async def put(store: Store, name: str, size: int, *, slice_size: int = SLICE) -> Record:
    """A whole object, filled as a flight would."""
    store.busy[key(name)] += 1
    writer = await begin(store, name, size, slice_size=slice_size)
    try:
        await fill(writer, name, 0, size)
    finally:
        writer.close()
        del store.busy[key(name)]
    return writer.record


async def fill(writer: ObjectWriter, name: str, start: int, end: int, *, chunk: int = 40_000) -> None:
    """Write bytes [start, end) of the object's body, in pieces that fit no slice."""
    data = body(name, writer.record.size)
    writer.reserve(end - start)
    stream = writer.stream(start)
    for position in range(start, end, chunk):
        await writer.write(stream, data[position : min(position + chunk, end)])


def read(disk: Disk, name: bytes, record: Record) -> dict[int, bytes]:
    """The slices of a stored object, each verified."""
    fd = disk.open(name, record.generation)
    try:
        sums = read_checksums(fd, record)
        held = Held(record.size, record.slice_size, record.held)
        found: dict[int, bytes] = {}
        for position in range(record.slices):
            if position not in held:
                continue
            start = position * record.slice_size
            data = bytearray(min(record.slice_size, record.size - start))
            assert read_into(fd, memoryview(data), record.body_offset + start) == len(data)
            assert checksum(data) == sums[position], f"slice {position} is damaged"
            found[position] = bytes(data)
        return found
    finally:
        os.close(fd)


def stored(store: Store, name: str) -> Record:
    """What the index has of it."""
    record = store.index.get(key(name))
    assert record is not None
    return record


def sha256(store: Store, name: str) -> str:
    """Of the whole body, as it lies where a reader would take it from."""
    record = stored(store, name)
    return hashlib.sha256(b"".join(read(store.disk_of(record), key(name), record).values())).hexdigest()


def expected_sha256(name: str, size: int) -> str:
    return hashlib.sha256(body(name, size)).hexdigest()


def files(disk: Disk | Path | str) -> set[str]:
    """Names of the object files of a disk."""
    root = disk.root if isinstance(disk, Disk) else str(disk)
    return {name for _, _, names in os.walk(os.path.join(root, "objects")) for name in names}


def file_name(name: str, record: Record) -> str:
    return f"{key(name).hex()}.{record.generation:x}"


def committed(store: Store) -> dict[bytes, Record]:
    """All records, everything written first."""
    store.index.commit()
    return dict(store.index.records())


def assert_adds_up(store: Store) -> None:
    """What each disk believes is used is what its records take, and its files are those its records name."""
    records = committed(store)
    for disk in store.disks.values():
        here = [(one, record) for one, record in records.items() if disk.number in (record.home, record.copy)]
        assert disk.used_bytes == sum(store.charge(record) for _, record in here), disk
        assert files(disk) == {f"{one.hex()}.{record.generation:x}" for one, record in here}, disk


async def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Wait for a condition, and for nothing else."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what is waited for gives no signal
            await asyncio.sleep(0.002)


def soon(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """The same without a loop."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.002)


class Child:
    """Another process with the code of `script`, spoken to in lines of JSON."""

    def __init__(self, script: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def hear(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the other process ended"
        return json.loads(line)

    def ask(self, question: object = None) -> Any:
        self.tell(question)
        return self.hear()

    def tell(self, message: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.end()

    def end(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.process.wait()


@contextlib.contextmanager
def child(script: str, *arguments: str) -> Iterator[Child]:
    other = Child(script, *arguments)
    try:
        yield other
    finally:
        other.process.kill()
        other.end()


def fill_up(place: Path) -> None:
    """Leave not a byte on a file system."""
    with contextlib.suppress(OSError), (place / "of others").open("wb", buffering=0) as other:
        while other.write(bytes(1 << 16)):
            pass
    with contextlib.suppress(OSError), (place / "of others").open("ab", buffering=0) as other:
        while other.write(bytes(512)):
            pass


@contextlib.contextmanager
def mounted(place: Path, kind: str, size: int) -> Iterator[Path]:
    """A file system of its own in a file; skips where there is no way to have one."""
    image = place / f"{kind}.image"
    target = place / kind
    target.mkdir()
    with image.open("wb") as file:
        file.truncate(size)
    try:
        run(f"mkfs.{kind}", "-q", str(image))
        run("mount", "-o", "loop", str(image), str(target))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no {kind} to mount here: {error}")
    try:
        yield target
    finally:
        run("umount", "--lazy", str(target))


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def end_disk(place: Path) -> None:
    """Every read and write of an XFS file system fails from now on, as of a disk that died."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")
    try:
        run("xfs_io", "-x", "-c", "shutdown", str(place))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no way to end a disk here: {error}")


def rename(before: Path, after: Path) -> None:
    before.rename(after)


def content(disk: Disk, name: str, generation: int) -> bytes:
    """Of an object file."""
    return Path(disk.path(key(name), generation)).read_bytes()


def plant(disk: Disk, name: str, generation: int, data: bytes) -> None:
    """An object file that nobody made."""
    path = Path(disk.path(key(name), generation))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
