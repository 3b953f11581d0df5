"""Three tiers: objects sink as memory fills, rise when they are asked for, and are always themselves."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
import pytest_asyncio

from loadtest.content import expected
from loadtest.origin import Origin
from tests.kit.client import Client, get
from tests.kit.daemon import Daemon, Settings
from tests.kit.until import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1 << 20


def settings(url: str) -> Settings:
    return Settings([url], workers=2, ram="16MiB", ssd="32MiB", hdd="256MiB")


def paths() -> list[str]:
    return [f"/gen/1m/tier-{number}" for number in range(80)]


def files_on_disk(edge: Daemon) -> list[Path]:
    """Object files of the ssd and hdd tiers."""
    files = [file for name in ("ssd0", "hdd0") for file in Path(edge.folder / name / "objects").rglob("*.*")]
    assert files
    return files


async def sources(edge: Daemon) -> dict[str, float]:
    return {name: await edge.total("edge_requests_total", outcome="hit", source=name) for name in ("ram", "ssd", "hdd")}


async def at_rest(edge: Daemon) -> None:
    """Wait until nothing moves any more."""
    seen: list[tuple[float, float]] = []

    async def still() -> bool:
        await asyncio.sleep(0.2)
        seen.append((await edge.total("edge_evictions_total"), await edge.total("edge_tier_written_bytes_total")))
        return len(seen) > 2 and seen[-1] == seen[-2] == seen[-3]

    await until(still)


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def filled(origin: Origin, edge: Daemon) -> None:
    """All objects have been asked for once, and are where they sank to."""
    for path in paths():
        reply = await get(edge.port, path)
        assert reply.whole
        assert reply.body == expected(path, 0, MIB)
    await at_rest(edge)


async def test_objects_are_hits_where_they_lie(origin: Origin, edge: Daemon) -> None:
    await at_rest(edge)
    before, asked = await sources(edge), origin.requests
    for path in paths():
        reply = await get(edge.port, path)
        assert reply.body == expected(path, 0, MIB)

    async def counted() -> bool:
        now = await sources(edge)
        return sum(now.values()) + (origin.requests - asked) >= sum(before.values()) + len(paths())

    await until(counted)
    now = await sources(edge)
    assert now["ssd"] > before["ssd"]
    assert now["hdd"] > before["hdd"]
    # all tiers together can hold them all: what is not here was dropped for want of room in memory, and was counted
    assert origin.requests - asked <= await edge.total("edge_evictions_total", to="nowhere")
    for disk in (await edge.status())["disks"]:
        assert disk["used_bytes"] <= disk["capacity_bytes"]


async def test_ranges_and_parallel_hits_while_objects_move(origin: Origin, edge: Daemon) -> None:
    async def one(number: int) -> None:
        for turn in range(12):
            path = paths()[(number * 7 + turn * 5) % 80]
            start = (number * 77_777 + turn * 31_337) % (MIB - 1000)
            async with Client(edge.port) as client:
                reply = await client.get(path, f"Range: bytes={start}-{start + 999}")
                assert (reply.status, reply.body) == (206, expected(path, start, start + 1000))
                reply = await client.get(path)
                assert (reply.status, reply.whole) == (200, True)
                assert reply.body == expected(path, 0, MIB)

    await asyncio.gather(*(one(number) for number in range(10)))


async def test_what_is_asked_for_again_and_again_rises(origin: Origin, edge: Daemon) -> None:
    await at_rest(edge)
    path = paths()[3]

    async def from_memory() -> bool:
        reply = await get(edge.port, path)
        assert reply.body == expected(path, 0, MIB)
        return "detail=ram" in (reply.field("Cache-Status") or "")

    await until(from_memory)


async def test_a_cold_page_cache_is_read_ahead(origin: Origin, edge: Daemon) -> None:
    await at_rest(edge)
    before = await edge.total("edge_read_aheads_total")
    for file in files_on_disk(edge):
        fd = os.open(file, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
    for path in paths():
        assert (await get(edge.port, path)).body == expected(path, 0, MIB)
    assert await edge.total("edge_read_aheads_total") >= before + 10


async def test_a_file_that_is_gone_is_a_miss(origin: Origin, edge: Daemon) -> None:
    """Behind the daemon's back all files of the disks go: every object can still be had, from the origin."""
    await at_rest(edge)
    for file in files_on_disk(edge):
        file.unlink()
    for _ in range(2):
        for path in paths():
            reply = await get(edge.port, path)
            assert (reply.status, reply.whole) == (200, True)
            assert reply.body == expected(path, 0, MIB)
