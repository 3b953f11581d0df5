"""A disk: a folder on a file system of its own, known by the UUID it keeps. The only place that opens cache files."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from edge.config import DiskConfig
from edge.errors import DiskError
from edge.store.object import read_into
from edge.terms import TierName

P = ParamSpec("P")
T = TypeVar("T")

_IDENTITY = "edge-disk.uuid"
READ_AHEAD_BYTES = {TierName.RAM: 1 << 20, TierName.SSD: 1 << 20, TierName.HDD: 2 << 20}
"""One window of a disk read: long on a hard disk, where the way there costs more than the bytes."""


class Disk:
    """Paths, descriptors and threads of one disk. Space is counted by the manager in `used_bytes`."""

    def __init__(self, number: int, tier: TierName, config: DiskConfig, identity: str) -> None:
        self.number = number
        self.tier = tier
        self.root = config.path
        self.identity = identity
        self.config = config
        self.in_memory = file_system_type(config.path) == "tmpfs"
        self.read_ahead_bytes = READ_AHEAD_BYTES[tier]
        self.used_bytes = 0
        self.unwritten_bytes = 0
        """Of `used_bytes`, what the file system does not know of yet."""
        self._threads = config.threads
        self._pool: ThreadPoolExecutor | None = None

    def __repr__(self) -> str:
        return f"<Disk {self.number} {self.tier.source} {self.root}>"

    def path(self, key: bytes, generation: int) -> str:
        name = key.hex()
        return f"{self.root}/objects/{name[:2]}/{name[2:4]}/{name}.{generation:x}"

    def open(self, key: bytes, generation: int, *, write: bool = False) -> int:
        """A descriptor of an object file; OSError as the system gives it. Blocks unless the disk is memory."""
        return os.open(self.path(key, generation), (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC)

    def create(self, key: bytes, generation: int) -> int:
        path = self.path(key, generation)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o640)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), mode=0o750, exist_ok=True)
            return os.open(path, flags, 0o640)

    def unlink(self, key: bytes, generation: int) -> None:
        """Remove an object file. Blocks for milliseconds when it is large."""
        try:
            os.unlink(self.path(key, generation))
        except FileNotFoundError:
            pass

    def read(self, fd: int, offset: int, length: int) -> None:
        """Bring a window into the page cache. Blocks: for the pool."""
        buffer = bytearray(min(length, 1 << 20))
        end = offset + length
        while offset < end:
            got = read_into(fd, memoryview(buffer)[: min(len(buffer), end - offset)], offset)
            if not got:
                raise DiskError("an object file is shorter than its record says")
            offset += got

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a blocking function where it can only delay this disk's own work."""
        if self.in_memory:
            return function(*args, **kwargs)
        return await self.in_pool(function, *args, **kwargs)

    def in_pool(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """The same in the pool even when the disk is memory: for work that is long of itself."""
        return asyncio.wrap_future(self.pool.submit(function, *args, **kwargs))

    @property
    def pool(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, f"disk-{self.number}")
        return self._pool

    def reserve(self, size_bytes: int) -> None:
        """Count bytes that are about to be written as used, or give them back (less than 0)."""
        self.used_bytes += size_bytes
        self.unwritten_bytes += size_bytes

    def capacity_bytes(self) -> int:
        """What may be stored, by the limit set and by the reserve of free space, as the file system stands now."""
        stat = os.statvfs(self.root)
        room = stat.f_bavail * stat.f_frsize - self.config.reserve + self.used_bytes - self.unwritten_bytes
        return max(0, min(room, self.config.size) if self.config.size is not None else room)

    def close(self, *, finish: bool = False) -> None:
        """Let the threads end; with `finish` they first do what is queued."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=not finish)


def prepare(config: DiskConfig) -> str:
    """Make the folder where missing and return the disk's UUID, given at the first time. Raises DiskError."""
    marker = os.path.join(config.path, _IDENTITY)
    try:
        os.makedirs(os.path.join(config.path, "objects"), mode=0o750, exist_ok=True)
        try:
            with open(marker, encoding="ascii") as file:
                return str(uuid.UUID(file.read().strip()))
        except FileNotFoundError:
            identity = str(uuid.uuid4())
            with open(marker + ".new", "w", encoding="ascii") as file:
                file.write(identity + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.rename(marker + ".new", marker)
            return identity
    except (OSError, ValueError) as error:
        raise DiskError(f"{config.path}: {error}") from error


def file_system_type(path: str) -> str:
    """The type of the file system that holds `path`, as /proc/self/mountinfo names it ("" when it cannot be told)."""
    best, kind = "", ""
    real = os.path.realpath(path)
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.readlines()
    except OSError:
        return ""
    for line in lines:
        left, _, right = line.partition(" - ")
        mount = left.split()[4].encode().decode("unicode_escape")
        if (real == mount or real.startswith(mount.rstrip("/") + "/")) and len(mount) >= len(best):
            best, kind = mount, right.split()[0]
    return kind
