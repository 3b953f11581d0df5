"""Clients that leave in the middle: what becomes of the fill, and of the others."""

from __future__ import annotations

import asyncio

import pytest

from loadtest.content import expected
from loadtest.faults import Step
from loadtest.origin import Origin
from tests.kit.client import Client, get
from tests.kit.daemon import Daemon, Settings
from tests.kit.until import landed

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1 << 20
GIB = 1 << 30


def settings(url: str) -> Settings:
    return Settings([url], workers=2, ram="512MiB", ssd="16GiB", toml='[fill]\nstall_timeout = "5s"\n')


async def test_one_of_two_leaves(origin: Origin, edge: Daemon) -> None:
    path = "/gen/30m/one-of-two"
    gate = asyncio.Event()
    origin.script(path, [Step(gate=gate, gate_after=3 * MIB)])
    async with Client(edge.port) as stays:
        async with Client(edge.port) as goes:
            for client in (goes, stays):
                client.send(path)
            leaver, reply = await goes.head(), await stays.head()
            await goes.bytes(leaver, MIB)
            await stays.bytes(reply, 2 * MIB)
            goes.leave()
        gate.set()
        await stays.body(reply)
    assert reply.whole
    assert reply.body == expected(path, 0, 30 * MIB)
    assert len(origin.requests_for(path)) == 1


async def test_the_one_who_began_it_leaves_before_the_head(origin: Origin, edge: Daemon) -> None:
    path = "/gen/2m/before-the-head"
    gate = asyncio.Event()
    origin.script(path, [Step(gate=gate)])
    before = await edge.total("edge_fill_collapsed_requests_total")
    async with Client(edge.port) as goes:
        goes.send(path)
        await origin.seen(path)
        other = asyncio.create_task(get(edge.port, path))
        await edge.eventually("edge_fill_collapsed_requests_total", before + 1)
        goes.leave()
    gate.set()
    reply = await other
    assert reply.whole
    assert reply.body == expected(path, 0, 2 * MIB)
    assert len(origin.requests_for(path)) == 1


@pytest.mark.parametrize("when", ["in-the-body", "before-the-head"])
async def test_all_leave_a_large_fill(origin: Origin, edge: Daemon, when: str) -> None:
    """It stops soon, and what was fetched of it is kept."""
    path = f"/gen/1g/all-leave-{when}"
    gate = asyncio.Event()
    step = Step(gate=gate, gate_after=3 * MIB if when == "in-the-body" else None, drip_bytes=256 << 10, drip_s=0.001)
    origin.script(path, [step, Step()])
    bytes_before = await edge.total("edge_fill_bytes_total")
    clients = [Client(edge.port) for _ in range(3)]
    for client in clients:
        await client.__aenter__()
        client.send(path)
    await origin.seen(path)
    if when == "in-the-body":
        for client in clients:
            reply = await client.head()
            await client.bytes(reply, MIB)
    for client in clients:
        client.leave()
    gate.set()
    await origin.ended(origin.requests_for(path)[0])
    await landed(edge)
    assert origin.requests_for(path)[0].ending == "left"
    fetched = await edge.total("edge_fill_bytes_total") - bytes_before
    assert fetched < 40 * MIB

    reply = await get(edge.port, path, "Range: bytes=0-999999")
    assert reply.body == expected(path, 0, 1_000_000)
    assert len(origin.requests_for(path)) == 1
    reply = await get(edge.port, path, f"Range: bytes={GIB - 10}-")
    assert reply.body == expected(path, GIB - 10, GIB)


async def test_all_leave_a_small_one(origin: Origin, edge: Daemon) -> None:
    """Little is left of it: it is completed, and a hit for the next."""
    path = "/gen/8m/small"
    gate = asyncio.Event()
    origin.script(path, [Step(gate=gate, gate_after=2 * MIB)])
    async with Client(edge.port) as client:
        client.send(path)
        await client.bytes(await client.head(), MIB)
        client.leave()
    gate.set()
    await landed(edge)
    assert origin.requests_for(path)[0].body_bytes == 8 * MIB
    reply = await get(edge.port, path)
    assert "hit" in (reply.field("Cache-Status") or "")
    assert reply.body == expected(path, 0, 8 * MIB)
    assert len(origin.requests_for(path)) == 1


async def test_all_leave_one_of_unknown_length(origin: Origin, edge: Daemon) -> None:
    path = "/gen/60m/unknown"
    gate = asyncio.Event()
    origin.script(
        path, [Step(gate=gate, gate_after=2 * MIB, framing="chunked", drip_bytes=256 << 10, drip_s=0.001), Step()]
    )
    async with Client(edge.port) as client:
        client.send(path)
        reply = await client.head()
        while len(reply.body) < MIB:
            await client.chunk(reply)
        client.leave()
    gate.set()
    await origin.ended(origin.requests_for(path)[0])
    await landed(edge)
    assert origin.requests_for(path)[0].ending == "left"
    reply = await get(edge.port, path)
    assert reply.whole
    assert reply.body == expected(path, 0, 60 * MIB)


async def test_one_comes_back_while_the_fill_is_being_stopped(origin: Origin, edge: Daemon) -> None:
    """However the two meet: the client has a whole body in the end."""
    for number in range(5):
        path = f"/gen/40m/comes-back-{number}"
        origin.script(path, [Step(drip_bytes=1 << 20, drip_s=0.001)])
        async with Client(edge.port) as client:
            client.send(path)
            await client.bytes(await client.head(), MIB + number * 300_000)
            client.leave()
        reply = await get(edge.port, path)
        assert reply.whole
        assert reply.body == expected(path, 0, 40 * MIB)


async def test_a_range_is_all_that_is_fetched_for_who_wants_no_more(origin: Origin, edge: Daemon) -> None:
    """A client of an origin without ranges has what it asked for; the rest of a large body is not fetched."""
    path = "/gen/200m/rangeless"
    origin.script(path, [Step(ranges=False, drip_bytes=256 << 10, drip_s=0.001)])
    before = await edge.total("edge_fill_bytes_total")
    reply = await get(edge.port, path, "Range: bytes=0-9")
    assert (reply.status, reply.body) == (206, expected(path, 0, 10))
    await landed(edge)
    assert await edge.total("edge_fill_bytes_total") - before < 40 * MIB
