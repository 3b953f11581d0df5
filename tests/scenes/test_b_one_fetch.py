"""Many clients, one object that is not here: the origin is asked once, and nobody waits for more than its own bytes."""

from __future__ import annotations

import asyncio

import pytest

from loadtest.content import expected
from loadtest.faults import Step
from loadtest.origin import Origin
from tests.kit.client import Client, get
from tests.kit.daemon import Daemon, Settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1 << 20
COLLAPSED = "edge_fill_collapsed_requests_total"


def settings(url: str) -> Settings:
    return Settings([url], workers=2, ram="512MiB")


@pytest.mark.rfc("9111-4")
async def test_two_hundred_cold_clients_of_one_object_cost_one_request(origin: Origin, edge: Daemon) -> None:
    path = "/gen/2m/herd"
    gate = asyncio.Event()
    origin.script(path, [Step(gate=gate, gate_after=100_000)])
    before = await edge.total(COLLAPSED)
    clients = [asyncio.create_task(get(edge.port, path)) for _ in range(200)]
    await edge.eventually(COLLAPSED, before + 199)
    gate.set()
    whole = expected(path, 0, 2 * MIB)
    for reply in await asyncio.gather(*clients):
        assert (reply.status, reply.whole) == (200, True)
        assert reply.body == whole
    assert len(origin.requests_for(path)) == 1
    assert origin.requests_for(path)[0].range is None


@pytest.mark.rfc("9111-4")
async def test_the_herd_that_comes_before_the_head_is_one_request_too(origin: Origin, edge: Daemon) -> None:
    path = "/gen/300k/early-herd"
    gate = asyncio.Event()
    origin.script(path, [Step(gate=gate)])
    before = await edge.total(COLLAPSED)
    clients = [asyncio.create_task(get(edge.port, path)) for _ in range(50)]
    await edge.eventually(COLLAPSED, before + 49)
    gate.set()
    whole = expected(path, 0, 300 << 10)
    assert all(reply.body == whole and reply.whole for reply in await asyncio.gather(*clients))
    assert len(origin.requests_for(path)) == 1


async def test_each_client_gets_its_first_byte_when_the_origin_has_sent_it(origin: Origin, edge: Daemon) -> None:
    """1. A client asks for all; the origin sends 3 MiB and stops. The client has those 3 MiB.
    2. A second client joins with a range that begins within them. It has its head and what is there of it.
    3. A third joins with a range that lies behind them: it has no byte yet.
    4. The origin goes on. All end whole, of one request.
    """
    path = "/gen/8m/first-byte"
    size = 8 * MIB
    gate = asyncio.Event()
    origin.script(path, [Step(gate=gate, gate_after=3 * MIB)])
    async with Client(edge.port) as one, Client(edge.port) as two, Client(edge.port) as three:
        one.send(path)
        first = await one.head()
        await one.bytes(first, 3 * MIB)
        assert not gate.is_set()

        two.send(path, f"Range: bytes={2 * MIB + 5}-{6 * MIB - 1}")
        second = await two.head()
        assert (second.status, second.field("Content-Range")) == (206, f"bytes {2 * MIB + 5}-{6 * MIB - 1}/{size}")
        await two.bytes(second, MIB - 5)
        assert second.body == expected(path, 2 * MIB + 5, 3 * MIB)

        three.send(path, f"Range: bytes={5 * MIB}-{5 * MIB + 99}")
        third = await three.head()
        assert (third.status, third.body) == (206, b"")
        assert not gate.is_set()
        assert first.body == expected(path, 0, 3 * MIB)

        gate.set()
        await one.body(first)
        await two.body(second)
        await three.body(third)
    assert first.body == expected(path, 0, size)
    assert second.body == expected(path, 2 * MIB + 5, 6 * MIB)
    assert third.body == expected(path, 5 * MIB, 5 * MIB + 100)
    assert first.whole
    assert second.whole
    assert third.whole
    assert len(origin.requests_for(path)) == 1


async def test_bytes_come_as_they_drip(origin: Origin, edge: Daemon) -> None:
    """A client has every byte the origin has sent, again and again, not at slices' ends alone."""
    path = "/gen/64k/drip"
    gates = [asyncio.Event() for _ in range(3)]
    body = expected(path, 0, 64 << 10)
    origin.script(path, [Step(gate=gates[0], gate_after=10), Step(gate=gates[1]), Step(gate=gates[2])])
    async with Client(edge.port) as client:
        client.send(path)
        reply = await client.head()
        await client.bytes(reply, 10)
        assert reply.body == body[:10]
        gates[0].set()
        await client.body(reply)
        assert reply.body == body
    hit = await get(edge.port, path)
    assert hit.body == body
    assert "hit" in (hit.field("Cache-Status") or "")
    assert len(origin.requests_for(path)) == 1


@pytest.mark.rfc("9112-7.1")
async def test_a_body_of_unknown_length_is_passed_on_as_it_comes(origin: Origin, edge: Daemon) -> None:
    path = "/gen/2m/unknown-length"
    gate = asyncio.Event()
    origin.script(path, [Step(gate=gate, gate_after=MIB, framing="chunked")])
    async with Client(edge.port) as one, Client(edge.port) as two:
        one.send(path)
        first = await one.head()
        assert first.field("Transfer-Encoding") == "chunked"
        assert first.field("Content-Length") is None
        while len(first.body) < MIB:
            await one.chunk(first)
        two.send(path)
        second = await two.head()
        while len(second.body) < MIB:
            await two.chunk(second)
        assert not gate.is_set()
        gate.set()
        await one.body(first)
        await two.body(second)
        assert first.whole
        assert first.body == second.body == expected(path, 0, 2 * MIB)
        # the connection is in step afterwards, and the object is here, with its length
        hit = await one.get(path)
    assert hit.body == first.body
    assert hit.field("Content-Length") == str(2 * MIB)
    assert len(origin.requests_for(path)) == 1
